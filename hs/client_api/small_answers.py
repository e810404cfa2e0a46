"""What clients ask at their start and this server does not have: honest, empty answers."""

from typing import Any

import msgspec

from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.errors import NotFound


class AliasQuery(msgspec.Struct):
    """Which alias."""

    alias: str


class UserQuery(msgspec.Struct):
    """Which user."""

    userid: str


class SmallAnswersApi:
    """Says that there is nothing."""

    @endpoint("GET", *v3("/thirdparty/protocols"), auth=Auth.USER, limit="other")
    async def get_protocols(self, caller: Caller) -> dict[str, Any]:
        """The bridged networks: none. Spec: module "Third-party Networks"."""
        return {}

    @endpoint("GET", *v3("/thirdparty/protocol/{protocol}"), auth=Auth.USER, limit="other")
    async def get_protocol(self, caller: Caller, protocol: str) -> Empty:
        """One of the bridged networks."""
        raise NotFound("no such network is bridged here")

    @endpoint("GET", *v3("/thirdparty/location"), auth=Auth.USER, limit="other")
    async def get_locations_of_alias(self, caller: Caller, query: AliasQuery) -> list[Any]:
        """Places of bridged networks that an alias stands for: none."""
        return []

    @endpoint("GET", *v3("/thirdparty/user"), auth=Auth.USER, limit="other")
    async def get_users_of_id(self, caller: Caller, query: UserQuery) -> list[Any]:
        """Users of bridged networks that a user id stands for: none."""
        return []

    @endpoint("GET", *v3("/voip/turnServer"), auth=Auth.USER, limit="other")
    async def get_turn_server(self, caller: Caller) -> dict[str, Any]:
        """The TURN servers for calls: none. Spec: module "Voice over IP"."""
        return {}

    @endpoint("GET", *v3("/pushers"), auth=Auth.USER, limit="other")
    async def get_pushers(self, caller: Caller) -> dict[str, Any]:
        """Where notifications are pushed to: nowhere. Spec: module "Push Notifications"."""
        return {"pushers": []}
