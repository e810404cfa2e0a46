"""One's own account. Spec: client-server-api "Account management"."""

from typing import Any

import msgspec

from hs.accounts.management import AccountManagement
from hs.accounts.ui_auth import AuthData, InteractiveAuth
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, endpoint


class PasswordBody(msgspec.Struct):
    """The new password."""

    new_password: str
    logout_devices: bool = True
    auth: AuthData | None = None


class DeactivateBody(msgspec.Struct):
    """Proof for the end of the account."""

    auth: AuthData | None = None
    id_server: str | None = None
    erase: bool = False


class AccountApi:
    """Looks after the caller's account."""

    def __init__(self, accounts: AccountManagement, auth: InteractiveAuth) -> None:
        self._accounts = accounts
        self._auth = auth

    @endpoint("GET", *v3("/account/whoami"), auth=Auth.USER, limit="other")
    async def get_whoami(self, caller: Caller) -> dict[str, Any]:
        """Whose token this is."""
        return {"user_id": caller.user_id, "device_id": caller.device_id, "is_guest": False}

    @endpoint("POST", *v3("/account/password"), auth=Auth.USER, limit="login")
    async def post_password(self, caller: Caller, body: PasswordBody) -> Empty:
        """Change the password, and log the other devices out unless asked not to.

        The token may be missing in the specification for who proves an e-mail address: nobody can here.
        """
        await self._auth.check_password("password", caller.user_id, body.auth)
        await self._accounts.set_password(
            caller.user_id, body.new_password, caller.device_id if body.logout_devices else None
        )
        return Empty()

    @endpoint("POST", *v3("/account/deactivate"), auth=Auth.USER, limit="login")
    async def post_deactivate(self, caller: Caller, body: DeactivateBody) -> dict[str, Any]:
        """Close the account for good."""
        await self._auth.check_password("deactivate", caller.user_id, body.auth)
        await self._accounts.deactivate(caller.user_id)
        # No third-party identifiers are kept, so there is none to unbind.
        return {"id_server_unbind_result": "no-support"}

    @endpoint("GET", *v3("/account/3pid"), auth=Auth.USER, limit="other")
    async def get_threepids(self, caller: Caller) -> dict[str, Any]:
        """The caller's addresses of other networks: there are none here."""
        return {"threepids": []}
