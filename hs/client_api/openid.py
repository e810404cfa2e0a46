"""Proofs for other services. Spec: client-server-api module "OpenID"."""

from typing import Any

from hs.accounts.openid import LIFETIME_S, OpenIdTokens
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, endpoint


class OpenIdApi:
    """Gives the caller a proof of who they are."""

    def __init__(self, tokens: OpenIdTokens, server_name: str) -> None:
        self._tokens = tokens
        self._server_name = server_name

    @endpoint("POST", *v3("/user/{user_id}/openid/request_token"), auth=Auth.USER, limit="login")
    async def post_openid_token(self, caller: Caller, user_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """A token that another service can ask this server about."""
        check_own(caller, user_id)
        return {
            "access_token": await self._tokens.issue(user_id),
            "token_type": "Bearer",
            "matrix_server_name": self._server_name,
            "expires_in": LIFETIME_S,
        }
