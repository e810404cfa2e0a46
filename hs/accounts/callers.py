"""Who is behind a request, and where it comes from."""

from dataclasses import dataclass

# Later than any clock will ever say.
NEVER_MS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Caller:
    """The user behind a request and the device whose token it carries."""

    user_id: str
    device_id: str
    is_admin: bool = False
    is_appservice: bool = False
    is_locked: bool = False
    is_suspended: bool = False
    token_hash: bytes = b""
    # When the token ends, in milliseconds since 1970.
    expires_ms: int = NEVER_MS


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Where a request comes from, and where it was sent to."""

    address: str
    user_agent: str
    base_url: str
