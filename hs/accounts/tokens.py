"""Access tokens: issued, checked and revoked; and when each device was last seen.

A token is random, the client has the only copy, and what is stored is its SHA-256: with 256 random bits
there is nothing for a slow hash to protect.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Sequence

from cachetools import LRUCache

from hs.accounts.callers import Caller, ClientInfo
from hs.matrix.errors import UnknownToken
from hs.rooms.clock import Clock
from hs.storage.users import UserStore

logger = logging.getLogger(__name__)

# Devices that are active at the same time on a large server; about 500 bytes each.
_CACHED = 50_000
# Losing this much of "last seen" in a crash hurts nobody.
FLUSH_INTERVAL_S = 60.0
# Also written at once when so many have come together.
_MAX_UNSAVED = 10_000


class AccessTokens:
    """Knows whom an access token stands for."""

    def __init__(self, users: UserStore, clock: Clock) -> None:
        self._users = users
        self._clock = clock
        self._callers: LRUCache[bytes, Caller] = LRUCache(_CACHED)
        # Counts revocations, so that a look-up that began before one is not remembered after it.
        self._revocations = 0
        self._seen: dict[tuple[str, str], tuple[int, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def authenticate(self, token: str, client: ClientInfo) -> Caller:
        """The token's user and device; UnknownToken where there is none."""
        token_hash = _hash(token)
        caller = self._callers.get(token_hash)
        if caller is None:
            caller = await self._load(token_hash)
        self._note_seen(caller, client.address)
        return caller

    async def issue(self, user_id: str, device_id: str, display_name: str | None) -> str:
        """A token for the device, which is made where it is new; its former tokens no longer count."""
        token = "hs_" + secrets.token_urlsafe(32)
        login = self._users.insert_device_token(
            user_id, device_id, display_name, _hash(token), self._clock.now_ms()
        )
        await self.revoke(user_id, login)
        return token

    async def revoke(self, user_id: str, change: Awaitable[Sequence[bytes]]) -> None:
        """Await a change of the user's account that gives the hashes of the tokens it has ended."""
        try:
            self._forget(await change)
        except BaseException:
            # A client that hangs up, or a lost connection, may cut us off when the change stands already.
            self.forget_user(user_id)
            raise

    async def delete_devices(self, user_id: str, device_ids: Sequence[str] | None) -> None:
        """Log devices out and forget them; None stands for all of the user's."""
        await self.revoke(user_id, self._users.delete_devices(user_id, device_ids))
        for key in [k for k in self._seen if k[0] == user_id and (device_ids is None or k[1] in device_ids)]:
            del self._seen[key]

    async def deactivate(self, user_id: str) -> None:
        """Close the account and log all of its devices out."""
        await self.revoke(user_id, self._users.set_deactivated(user_id))

    def forget_user(self, user_id: str) -> None:
        """Read the user's state again at the next request; call it when an account was locked or promoted."""
        self._forget([key for key, caller in self._callers.items() if caller.user_id == user_id])

    async def flush(self) -> None:
        """Write down when devices were seen."""
        seen, self._seen = self._seen, {}
        if seen:
            await self._users.set_last_seen([(*device, *when) for device, when in seen.items()])

    async def close(self) -> None:
        """Write down what is not written yet."""
        if self._flushing is not None:
            await self._flushing
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()

    async def _load(self, token_hash: bytes) -> Caller:
        before = self._revocations
        row = await self._users.find_token(token_hash)
        if row is None or row.is_deactivated:
            raise UnknownToken("unknown access token", soft_logout=False)
        caller = Caller(
            row.user_id, row.device_id, row.is_admin, is_locked=row.is_locked, token_hash=token_hash
        )
        if before == self._revocations:
            self._callers[token_hash] = caller
        return caller

    def _forget(self, token_hashes: Sequence[bytes]) -> None:
        self._revocations += 1
        for token_hash in token_hashes:
            self._callers.pop(token_hash, None)

    def _note_seen(self, caller: Caller, address: str) -> None:
        self._seen[caller.user_id, caller.device_id] = (self._clock.now_ms(), address)
        if self._timer is None:
            self._start_timer()
        elif len(self._seen) >= _MAX_UNSAVED and self._flushing is None:
            self._timer.cancel()
            self._start_flush()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(FLUSH_INTERVAL_S, self._start_flush)

    def _start_flush(self) -> None:
        self._flushing = asyncio.create_task(self._flush_once(), name="last seen")

    async def _flush_once(self) -> None:
        try:
            await self.flush()
        except Exception:
            # When somebody was last seen is worth a line in the log, not a failing request.
            logger.exception("cannot write down when devices were seen")
        finally:
            self._timer = self._flushing = None
            if self._seen:
                # Seen while the others were being written: nobody else would start the timer for them.
                self._start_timer()


def _hash(token: str) -> bytes:
    # A header may hold bytes that are no UTF-8; they make a token that nobody has.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
