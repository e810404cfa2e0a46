"""What administrators do to accounts. Spec: client-server-api "Server administration"."""

from typing import Any

import msgspec

from hs.accounts.moderation import Moderation
from hs.http.endpoint import Auth, Caller, endpoint

_SUSPEND = "/_matrix/client/v1/admin/suspend/{user_id}"
_LOCK = "/_matrix/client/v1/admin/lock/{user_id}"


class SuspendBody(msgspec.Struct):
    """Whether the account is to be suspended."""

    suspended: bool


class LockBody(msgspec.Struct):
    """Whether the account is to be locked."""

    locked: bool


class ModerationApi:
    """Suspends and locks accounts."""

    def __init__(self, moderation: Moderation) -> None:
        self._moderation = moderation

    @endpoint("GET", _SUSPEND, auth=Auth.ADMIN, limit="other")
    async def get_suspended(self, caller: Caller, user_id: str) -> dict[str, Any]:
        """Whether the account is suspended."""
        return {"suspended": await self._moderation.get(user_id, "suspended")}

    @endpoint("PUT", _SUSPEND, auth=Auth.ADMIN, limit="other")
    async def put_suspended(self, caller: Caller, user_id: str, body: SuspendBody) -> dict[str, Any]:
        """Suspend an account, or end that."""
        await self._moderation.set(caller.user_id, user_id, "suspended", body.suspended)
        return {"suspended": body.suspended}

    @endpoint("GET", _LOCK, auth=Auth.ADMIN, limit="other")
    async def get_locked(self, caller: Caller, user_id: str) -> dict[str, Any]:
        """Whether the account is locked."""
        return {"locked": await self._moderation.get(user_id, "locked")}

    @endpoint("PUT", _LOCK, auth=Auth.ADMIN, limit="other")
    async def put_locked(self, caller: Caller, user_id: str, body: LockBody) -> dict[str, Any]:
        """Lock an account, or unlock it."""
        await self._moderation.set(caller.user_id, user_id, "locked", body.locked)
        return {"locked": body.locked}
