"""Tags of rooms. Spec: client-server-api module "Room Tagging"."""

from hs.accounts.account_data import AccountData
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, RawJson, endpoint
from hs.matrix.ids import parse_room_id

_TAGS = v3("/user/{user_id}/rooms/{room_id}/tags")
_TAG = v3("/user/{user_id}/rooms/{room_id}/tags/{tag}")


class TagsApi:
    """Keeps the tags that users give rooms."""

    def __init__(self, account_data: AccountData) -> None:
        self._account_data = account_data

    @endpoint("GET", *_TAGS, auth=Auth.USER, limit="other")
    async def get_tags(self, caller: Caller, user_id: str, room_id: str) -> RawJson:
        """The caller's tags of a room."""
        _check(caller, user_id, room_id)
        return RawJson(await self._account_data.get_tags(user_id, room_id))

    @endpoint("PUT", *_TAG, auth=Auth.USER, limit="profile")
    async def put_tag(self, caller: Caller, user_id: str, room_id: str, tag: str, body: RawJson) -> Empty:
        """Give a room a tag; what else the client says of it is kept with it."""
        _check(caller, user_id, room_id)
        await self._account_data.set_tag(user_id, room_id, tag, body.body)
        return Empty()

    @endpoint("DELETE", *_TAG, auth=Auth.USER, limit="profile")
    async def delete_tag(self, caller: Caller, user_id: str, room_id: str, tag: str) -> Empty:
        """Take a tag off a room."""
        _check(caller, user_id, room_id)
        await self._account_data.delete_tag(user_id, room_id, tag)
        return Empty()


def _check(caller: Caller, user_id: str, room_id: str) -> None:
    check_own(caller, user_id)
    parse_room_id(room_id)
