"""What this server speaks, and where it is. Spec: client-server-api "API Standards", "Server Discovery"."""

from collections.abc import Mapping, Sequence
from typing import Any

from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, ClientInfo, endpoint
from hs.matrix.errors import NotFound
from hs.matrix.room_versions import DEFAULT_ROOM_VERSION, ROOM_VERSIONS

# A version promises its endpoints to clients, which stop asking for older ones: what is listed must be there.
# 1.1 is the lowest that today's clients accept (the paths with v3); later ones promise threads (1.4),
# authenticated media (1.11) and more, and are added when these are served.
VERSIONS = ("r0.6.1", "v1.1")

# What clients ask for one by one, of versions that are not served as a whole yet. Each is tried out in
# tests/client_api/test_unstable_features.py.
UNSTABLE_FEATURES = {
    # Private receipts; receipts and unread counts of threads.
    "org.matrix.msc2285.stable": True,
    "org.matrix.msc3771": True,
    "org.matrix.msc3773": True,
    # Threads: summaries and filters; their list; relations in both directions.
    "org.matrix.msc3440.stable": True,
    "org.matrix.msc3856.stable": True,
    "org.matrix.msc3715.stable": True,
    # Events by time.
    "org.matrix.msc3030": True,
    "org.matrix.msc3030.stable": True,
    # Published rooms of a type, such as spaces.
    "org.matrix.msc3827.stable": True,
    # Relations of relations.
    "org.matrix.msc3981": True,
    # Summaries of rooms, and rooms shared with somebody.
    "org.matrix.msc3266": True,
    "uk.half-shot.msc2666.query_mutual_rooms": True,
    "uk.half-shot.msc2666.query_mutual_rooms.stable": True,
    # The state at the end of a sync's timeline.
    "org.matrix.msc4222": True,
    # m.mentions.
    "org.matrix.msc3952_intentional_mentions": True,
    # Redactions sent like any other event, whatever the room's version.
    "com.beeper.msc4169": True,
    # Profiles with fields of any name.
    "uk.tcpip.msc4133": True,
    "uk.tcpip.msc4133.stable": True,
}


class VersionsApi:
    """Tells clients what they may expect, and where."""

    def __init__(self, public_base_url: str = "", support: Mapping[str, Any] | None = None) -> None:
        """Without a base URL it is the one that the client has used; `support` is what its endpoint answers."""
        self._public_base_url = public_base_url
        self._support = support

    @endpoint("GET", "/_matrix/client/versions", auth=Auth.NONE, limit=None)
    async def get_versions(self) -> dict[str, Any]:
        """The versions of the specification."""
        return {"versions": VERSIONS, "unstable_features": UNSTABLE_FEATURES}

    @endpoint("GET", "/.well-known/matrix/client", auth=Auth.NONE, limit=None)
    async def get_well_known(self, client: ClientInfo) -> dict[str, Any]:
        """Where the client API is."""
        return {"m.homeserver": {"base_url": self._public_base_url or client.base_url}}

    @endpoint("GET", "/.well-known/matrix/support", auth=Auth.NONE, limit=None)
    async def get_support(self) -> dict[str, Any]:
        """Whom users can turn to."""
        if not self._support:
            raise NotFound("nobody is named here")
        return dict(self._support)


def render_support(page: str, contacts: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """What /.well-known/matrix/support answers; contacts are (role, user id, e-mail address), "" for none."""
    named = [
        {
            "role": role,
            **({"matrix_id": user_id} if user_id else {}),
            **({"email_address": email} if email else {}),
        }
        for role, user_id, email in contacts
        if user_id or email
    ]
    return {**({"contacts": named} if named else {}), **({"support_page": page} if page else {})}


class CapabilitiesApi:
    """What users may do here. Spec: client-server-api "Capabilities negotiation"."""

    @endpoint("GET", *v3("/capabilities"), auth=Auth.USER, limit="other")
    async def get_capabilities(self, caller: Caller) -> dict[str, Any]:
        """The capabilities, which only administrators have more of."""
        capabilities: dict[str, Any] = {
            "m.room_versions": {
                "default": DEFAULT_ROOM_VERSION,
                "available": dict.fromkeys(ROOM_VERSIONS, "stable"),
            },
            "m.change_password": {"enabled": True},
            "m.profile_fields": {"enabled": True},
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": True},
            "m.3pid_changes": {"enabled": False},
            "m.get_login_token": {"enabled": True},
        }
        if caller.is_admin:
            capabilities["m.account_moderation"] = {"suspend": True, "lock": True}
        return {"capabilities": capabilities}
