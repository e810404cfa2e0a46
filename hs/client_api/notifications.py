"""GET /notifications.

Spec: client-server-api "Listing notifications".
"""

from typing import Annotated

import msgspec

from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, RawJson, endpoint
from hs.matrix.errors import InvalidParam
from hs.sync.client_events import Viewer
from hs.sync.notified import Notifications

_DEFAULT_LIMIT = 20
_END = 2**63 - 1


class NotificationsQuery(msgspec.Struct):
    """The query of GET /notifications."""

    from_: str | None = msgspec.field(default=None, name="from")
    limit: Annotated[int, msgspec.Meta(ge=0)] = _DEFAULT_LIMIT
    only: str | None = None


class NotificationsApi:
    """Reads past notifications."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    @endpoint("GET", *v3("/notifications"), auth=Auth.USER, limit="read")
    async def get_notifications(self, caller: Caller, query: NotificationsQuery) -> RawJson:
        """What the caller was notified of, newest first."""
        viewer = Viewer(caller.user_id, caller.device_id)
        # Filters that we do not know are left out, as the ones of a later version would be.
        page = await self._notifications.list_page(
            viewer, _parse_token(query.from_), query.limit, only_highlights=query.only == "highlight"
        )
        return RawJson(page)


def _parse_token(token: str | None) -> int:
    if not token:
        return _END
    if not token.isascii() or not token.isdigit() or len(token) > len(str(_END)) or int(token) > _END:
        raise InvalidParam("from is no token of ours")
    return int(token)
