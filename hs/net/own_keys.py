"""This server's keys, as it publishes them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from signedjson.key import get_verify_key
from signedjson.types import SigningKey

from hs._fast import canonical_json
from hs.matrix.keys import OldKey, ServerKey, key_id_of
from hs.matrix.server_keys import render_own_keys
from hs.matrix.signing import sign_json

# Others ask again after this time; a key that was stolen and replaced works as long elsewhere.
VALID_MS: Final = 24 * 3600 * 1000
# Spec: "should avoid returning responses that expire in less than an hour". Others keep ours for half of its life.
_MIN_LEFT_MS: Final = VALID_MS // 2


class OwnKeys:
    """The keys that this server signs with, the first for events and requests, and those it signed with before."""

    def __init__(
        self,
        server_name: str,
        signing: Sequence[SigningKey],
        old: Sequence[OldKey],
        now_ms: Callable[[], int],
    ) -> None:
        self.server_name = server_name
        self.signing_key = signing[0]
        self._signing = tuple(signing)
        self._old = tuple(old)
        self._now_ms = now_ms
        self._answer = b""
        self._valid_until_ts = 0

    def answer(self) -> bytes:
        """What `/_matrix/key/v2/server` answers, canonical JSON; good for half a day at least."""
        left_ms = self._valid_until_ts - self._now_ms()
        # More than its whole life is left where the clock was set back.
        if not _MIN_LEFT_MS <= left_ms <= VALID_MS:
            self._valid_until_ts = self._now_ms() + VALID_MS
            published = render_own_keys(self.server_name, self._signing, self._old, self._valid_until_ts)
            self._answer = canonical_json.encode(published)
        return self._answer

    def server_keys(self) -> dict[str, ServerKey]:
        """Our keys by id, as others know them."""
        valid_until_ts = self._now_ms() + VALID_MS
        current = [ServerKey(key_id_of(key), get_verify_key(key), valid_until_ts) for key in self._signing]
        old = [ServerKey(key.key_id, key.verify_key, key.expired_ts) for key in self._old]
        return {key.key_id: key for key in (*old, *current)}

    def sign(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the object with our signature added, by each of the keys that sign."""
        signed = dict(value)
        for key in self._signing:
            signed = sign_json(signed, self.server_name, key)
        return signed
