"""Paths that name a user, of which everybody has only their own."""

from hs.accounts.callers import Caller
from hs.matrix.errors import Forbidden


def check_own(caller: Caller, user_id: str) -> None:
    """Forbidden unless the path names the caller."""
    if user_id != caller.user_id:
        raise Forbidden("this belongs to another user")
