"""Whether public keys of identity servers are still good.

Spec: identity-service-api GET /_matrix/identity/v2/pubkey/isvalid; client-server-api m.room.third_party_invite
(`key_validity_url`). Anybody who may invite chooses the URL: it is asked through the guarded client.
"""

from typing import Final

import msgspec
from yarl import URL

from hs.net.bounds import Bounds
from hs.net.errors import RemoteError
from hs.net.server_http import Http

_BOUNDS: Final = Bounds(4096, 10.0)
_MAX_URL: Final = 2048


class _Answer(msgspec.Struct):
    valid: bool = False


class KeyValidity:
    """Asks for it."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def is_valid(self, url: str, public_key: str) -> bool:
        """Whether who answers there says that the key is good; False where nobody answers."""
        if len(url) > _MAX_URL:
            return False
        try:
            asked = str(URL(url).update_query(public_key=public_key))
            answer = await self._http.request("GET", asked, _BOUNDS)
            return answer.status == 200 and msgspec.json.decode(answer.body, type=_Answer).valid
        except (RemoteError, msgspec.DecodeError, ValueError, RecursionError):
            return False
