"""What users may not do while their account is suspended. Spec: client-server-api "Account suspension".

They read, leave rooms, take back what they said, and look after their devices and keys. What others would
see of them is refused: the list names the methods of API classes, as `Endpoint.name` has them. Redacting is
not here: of one's own events it is allowed, which only the endpoint can tell.
"""

from hs.accounts.callers import Caller
from hs.http.endpoint import Endpoint
from hs.matrix.errors import UserSuspended

BARRED = frozenset(
    {
        # Rooms: coming in, letting in, sending out, making more of them.
        "post_create_room",
        "post_join",
        "post_join_by_id",
        "post_knock",
        "post_invite",
        "post_kick",
        "post_ban",
        "post_unban",
        "post_upgrade",
        # Messages and state.
        "put_send",
        "post_send",
        "put_state",
        "put_keyless_state",
        # What everybody can look up.
        "put_profile_field",
        "delete_profile_field",
        "put_alias",
        "put_visibility",
        # What is shown beside a name at once.
        "put_presence",
        "put_typing",
    }
)


def check_suspension(caller: Caller, endpoint: Endpoint) -> None:
    """UserSuspended where the caller may not call the endpoint."""
    if caller.is_suspended and endpoint.name in BARRED:
        raise UserSuspended("you cannot do this while your account is suspended")
