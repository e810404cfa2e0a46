"""Account data. Spec: client-server-api module "Client Config"."""

from hs.accounts.account_data import AccountData
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, Empty, RawJson, endpoint
from hs.matrix.ids import parse_room_id

_GLOBAL = v3("/user/{user_id}/account_data/{type}")
_ROOM = v3("/user/{user_id}/rooms/{room_id}/account_data/{type}")


class AccountDataApi:
    """Keeps what clients store for themselves."""

    def __init__(self, account_data: AccountData) -> None:
        self._account_data = account_data

    @endpoint("GET", *_GLOBAL, auth=Auth.USER, limit="other")
    async def get_account_data(self, caller: Caller, user_id: str, type: str) -> RawJson:
        """What is stored for the whole account."""
        check_own(caller, user_id)
        return RawJson(await self._account_data.get(user_id, "", type))

    @endpoint("PUT", *_GLOBAL, auth=Auth.USER, limit="profile")
    async def put_account_data(self, caller: Caller, user_id: str, type: str, body: RawJson) -> Empty:
        """Store something for the whole account."""
        check_own(caller, user_id)
        await self._account_data.set(user_id, "", type, body.body)
        return Empty()

    @endpoint("GET", *_ROOM, auth=Auth.USER, limit="other")
    async def get_room_account_data(self, caller: Caller, user_id: str, room_id: str, type: str) -> RawJson:
        """What is stored for one room."""
        check_own(caller, user_id)
        parse_room_id(room_id)
        return RawJson(await self._account_data.get(user_id, room_id, type))

    @endpoint("PUT", *_ROOM, auth=Auth.USER, limit="profile")
    async def put_room_account_data(
        self, caller: Caller, user_id: str, room_id: str, type: str, body: RawJson
    ) -> Empty:
        """Store something for one room."""
        check_own(caller, user_id)
        parse_room_id(room_id)
        await self._account_data.set(user_id, room_id, type, body.body)
        return Empty()
