"""Access tokens: issued, checked, refreshed and revoked; and when each device was last seen.

A token is random, the client has the only copy, and what is stored is its SHA-256: with 256 random bits
there is nothing for a slow hash to protect.

Tokens of clients that can refresh them end after a while. A refresh gives a new pair, and the old one stays good
until the new one is first used: an answer can be lost. Spec: client-server-api "Refreshing access tokens".
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from hs.accounts.callers import NEVER_MS, Caller, ClientInfo
from hs.matrix.errors import UnknownToken, UserLocked
from hs.rooms.clock import Clock
from hs.storage.refresh_tokens import NewTokens, RefreshTokenStore
from hs.storage.users import TokenRow, UserStore

logger = logging.getLogger(__name__)

# Devices that are active at the same time on a large server; about 500 bytes each.
_CACHED = 50_000
# Losing this much of "last seen" in a crash hurts nobody.
FLUSH_INTERVAL_S = 60.0
# Also written at once when so many have come together.
_MAX_UNSAVED = 10_000


@dataclass(frozen=True, slots=True)
class TokenLifetimes:
    """How long tokens last, in seconds; 0 for as long as the device."""

    access_s: int = 3600
    refresh_s: int = 0
    # Access tokens of clients that cannot refresh them.
    unrefreshable_s: int = 0


@dataclass(frozen=True, slots=True)
class IssuedTokens:
    """What a client is given; `expires_in_ms` is None where the access token lasts."""

    access_token: str
    refresh_token: str | None
    expires_in_ms: int | None


class AccessTokens:
    """Knows whom an access token stands for."""

    def __init__(
        self, users: UserStore, refreshes: RefreshTokenStore, clock: Clock, lifetimes: TokenLifetimes
    ) -> None:
        self._users = users
        self._refreshes = refreshes
        self._clock = clock
        self._lifetimes = lifetimes
        self._callers: LRUCache[bytes, Caller] = LRUCache(_CACHED)
        # Counts revocations, so that a look-up that began before one is not remembered after it.
        self._revocations = 0
        self._seen: dict[tuple[str, str], tuple[int, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None

    async def authenticate(self, token: str, client: ClientInfo) -> Caller:
        """The token's user and device; UnknownToken where there is none, or the token has ended."""
        token_hash = _hash(token)
        caller = self._callers.get(token_hash)
        if caller is None:
            caller = await self._load(token_hash)
        now_ms = self._clock.now_ms()
        if caller.expires_ms <= now_ms:
            raise UnknownToken("the access token has expired", soft_logout=True)
        self._note_seen(caller, client.address, now_ms)
        return caller

    async def issue(
        self, user_id: str, device_id: str, display_name: str | None, is_refreshable: bool = False
    ) -> IssuedTokens:
        """Tokens for the device, which is made where it is new; its former tokens no longer count."""
        issued, stored = self._make_tokens(is_refreshable)
        login = self._users.insert_device_tokens(
            user_id, device_id, display_name, stored, self._clock.now_ms()
        )
        await self.revoke(user_id, login)
        return issued

    async def refresh(self, refresh_token: str) -> IssuedTokens:
        """New tokens for a refresh token; UnknownToken where it is not good, UserLocked as it says."""
        used = _hash(refresh_token)
        row = await self._refreshes.find_token(used)
        if row is None:
            raise UnknownToken("unknown refresh token", soft_logout=False)
        if row.is_locked:
            raise UserLocked()
        now_ms = self._clock.now_ms()
        if row.expires_ts is not None and row.expires_ts <= now_ms:
            raise UnknownToken("the refresh token has expired", soft_logout=True)
        issued, stored = self._make_tokens(True)
        try:
            ended = await self._refreshes.replace(row.user_id, row.device_id, used, stored, now_ms)
        except BaseException:
            self.forget_user(row.user_id)
            raise
        if ended is None:
            raise UnknownToken("unknown refresh token", soft_logout=False)
        self._forget(ended)
        return issued

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

    def _make_tokens(self, is_refreshable: bool) -> tuple[IssuedTokens, NewTokens]:
        access, refresh = _make("hs_"), _make("hsr_") if is_refreshable else None
        lifetimes, now_ms = self._lifetimes, self._clock.now_ms()
        access_ms = 1000 * (lifetimes.access_s if is_refreshable else lifetimes.unrefreshable_s)
        refresh_ms = 1000 * lifetimes.refresh_s
        stored = NewTokens(
            access_hash=_hash(access),
            access_expires_ts=now_ms + access_ms if access_ms else None,
            refresh_hash=None if refresh is None else _hash(refresh),
            refresh_expires_ts=now_ms + refresh_ms if refresh_ms else None,
        )
        return IssuedTokens(access, refresh, access_ms or None), stored

    async def _load(self, token_hash: bytes) -> Caller:
        before = self._revocations
        row = await self._users.find_token(token_hash)
        if row is None or row.is_deactivated:
            raise UnknownToken("unknown access token", soft_logout=False)
        if row.is_new:
            await self._confirm(row, token_hash)
            # That ended others' tokens, not this one.
            before += 1
        caller = Caller(
            row.user_id,
            row.device_id,
            row.is_admin,
            is_locked=row.is_locked,
            is_suspended=row.is_suspended,
            token_hash=token_hash,
            expires_ms=NEVER_MS if row.expires_ts is None else row.expires_ts,
        )
        if before == self._revocations:
            self._callers[token_hash] = caller
        return caller

    async def _confirm(self, row: TokenRow, token_hash: bytes) -> None:
        """The client has received what its refresh gave it: the tokens before it end."""
        try:
            ended = await self._refreshes.confirm(row.user_id, row.device_id, token_hash)
        except BaseException:
            self.forget_user(row.user_id)
            raise
        if ended is None:
            raise UnknownToken("unknown access token", soft_logout=False)
        self._forget(ended)

    def _forget(self, token_hashes: Sequence[bytes]) -> None:
        self._revocations += 1
        for token_hash in token_hashes:
            self._callers.pop(token_hash, None)

    def _note_seen(self, caller: Caller, address: str, now_ms: int) -> None:
        self._seen[caller.user_id, caller.device_id] = (now_ms, address)
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


def _make(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    # A header may hold bytes that are no UTF-8; they make a token that nobody has.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
