"""/_matrix/key/v2: our signing keys, and what we know of those of others.

Spec: server-server-api "Publishing Keys", "Querying Keys Through Another Server".
"""

from collections.abc import Mapping
from itertools import islice

import msgspec

from hs.http.endpoint import Auth, ClientInfo, RawJson, endpoint
from hs.matrix.errors import InvalidParam
from hs.matrix.ids import is_server_name
from hs.net.notary import MAX_SERVERS, KeyWish, Notary
from hs.net.own_keys import OwnKeys


class QueryCriteria(msgspec.Struct):
    """What is wanted of a key; now, where it does not say until when the key must be good."""

    minimum_valid_until_ts: int | None = None


class KeyQueryBody(msgspec.Struct):
    """Which keys are wanted: criteria by key id by server; no key id stands for all of them."""

    server_keys: dict[str, dict[str, QueryCriteria]]


class KeysApi:
    """Keys, for everybody who wants to check a signature."""

    def __init__(self, own: OwnKeys, notary: Notary) -> None:
        self._own = own
        self._notary = notary

    @endpoint("GET", "/_matrix/key/v2/server", auth=Auth.NONE, limit="federation")
    async def get_own_keys(self) -> RawJson:
        """This server's keys."""
        return RawJson(self._own.answer())

    # Old servers ask for one key, and ignore the others.
    @endpoint("GET", "/_matrix/key/v2/server/{key_id}", auth=Auth.NONE, limit="federation")
    async def get_own_key(self, key_id: str) -> RawJson:
        """This server's keys, whichever is asked for."""
        return RawJson(self._own.answer())

    @endpoint("GET", "/_matrix/key/v2/query/{server_name}", auth=Auth.NONE, limit="federation")
    async def get_keys_of(self, client: ClientInfo, server_name: str, query: QueryCriteria) -> RawJson:
        """The keys of another server."""
        if not is_server_name(server_name):
            raise InvalidParam("not a server name")
        wish = KeyWish(frozenset(), query.minimum_valid_until_ts)
        return await self._answer({server_name: wish}, client.address)

    @endpoint("GET", "/_matrix/key/v2/query/{server_name}/{key_id}", auth=Auth.NONE, limit="federation")
    async def get_key_of(
        self, client: ClientInfo, server_name: str, key_id: str, query: QueryCriteria
    ) -> RawJson:
        """The keys of another server with this one among them: as old servers ask."""
        if not is_server_name(server_name):
            raise InvalidParam("not a server name")
        wish = KeyWish(frozenset({key_id}), query.minimum_valid_until_ts)
        return await self._answer({server_name: wish}, client.address)

    @endpoint("POST", "/_matrix/key/v2/query", auth=Auth.NONE, limit="federation")
    async def post_query(self, client: ClientInfo, body: KeyQueryBody) -> RawJson:
        """The keys of several servers."""
        wanted = {}
        # What is beyond is not answered: the specification lets servers be left out.
        for server_name, criteria in islice(body.server_keys.items(), MAX_SERVERS):
            times = [one.minimum_valid_until_ts for one in criteria.values()]
            wish = KeyWish(frozenset(criteria), max((ts for ts in times if ts is not None), default=None))
            wanted[server_name] = wish
        return await self._answer(wanted, client.address)

    async def _answer(self, wanted: Mapping[str, KeyWish], address: str) -> RawJson:
        answers = await self._notary.list_answers(wanted, address)
        return RawJson(b'{"server_keys":[' + b",".join(answers) + b"]}")
