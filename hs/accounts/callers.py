"""Who is behind a request, and where it comes from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The user behind a request and the device whose token it carries."""

    user_id: str
    device_id: str
    is_admin: bool = False
    is_appservice: bool = False
    is_locked: bool = False
    token_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Where a request comes from, and where it was sent to."""

    address: str
    user_agent: str
    base_url: str
