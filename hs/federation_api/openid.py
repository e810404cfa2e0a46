"""Whom an OpenID token stands for. Spec: server-server-api "OpenID"; openid.yaml."""

from typing import Any

import msgspec

from hs.accounts.openid import OpenIdTokens
from hs.http.endpoint import Auth, endpoint
from hs.matrix.errors import MissingToken, UnknownToken


class UserInfoQuery(msgspec.Struct):
    """The token."""

    access_token: str = ""


class OpenIdApi:
    """Says who has asked for a token; whoever was given it may ask, they need no keys."""

    def __init__(self, tokens: OpenIdTokens) -> None:
        self._tokens = tokens

    @endpoint("GET", "/_matrix/federation/v1/openid/userinfo", auth=Auth.NONE, limit="federation")
    async def get_userinfo(self, query: UserInfoQuery) -> dict[str, Any]:
        """The user."""
        if not query.access_token:
            raise MissingToken("access_token is missing")
        user_id = await self._tokens.find_user(query.access_token)
        if user_id is None:
            raise UnknownToken("access token unknown or expired")
        return {"sub": user_id}
