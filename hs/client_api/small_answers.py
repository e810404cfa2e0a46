"""What clients ask at their start and this server does not have: honest, empty answers."""

from typing import Any

from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, endpoint


class SmallAnswersApi:
    """Says that there is nothing."""

    @endpoint("GET", *v3("/thirdparty/protocols"), auth=Auth.USER, limit="other")
    async def get_protocols(self, caller: Caller) -> dict[str, Any]:
        """The bridged networks: none. Spec: module "Third-party Networks"."""
        return {}

    @endpoint("GET", *v3("/voip/turnServer"), auth=Auth.USER, limit="other")
    async def get_turn_server(self, caller: Caller) -> dict[str, Any]:
        """The TURN servers for calls: none. Spec: module "Voice over IP"."""
        return {}

    @endpoint("GET", *v3("/pushers"), auth=Auth.USER, limit="other")
    async def get_pushers(self, caller: Caller) -> dict[str, Any]:
        """Where notifications are pushed to: nowhere. Spec: module "Push Notifications"."""
        return {"pushers": []}
