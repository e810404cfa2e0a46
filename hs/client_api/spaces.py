"""Rooms before one is in them: summaries, the rooms of a space, and those that one shares with somebody.

Spec: client-server-api GET /room_summary, modules "Spaces", "Mutual Rooms".
"""

from typing import Annotated, Any

import msgspec

from hs.directory.aliases import AliasDirectory
from hs.directory.spaces import SpaceTrees, TreeRequest
from hs.directory.tree_rooms import TreeRoom, TreeRooms
from hs.http.endpoint import Auth, Caller, endpoint
from hs.matrix.errors import InvalidParam, MissingParam, NotFound
from hs.matrix.ids import parse_room_id, parse_user_id
from hs.storage.overviews import OverviewStore

_DEFAULT_LIMIT = 50
_MAX_LIMIT = 100
_MAX_DEPTH = 50
_SHARED_ROOMS = 500
# From before they were accepted; clients that look for their flags in /versions still ask there.
_UNSTABLE_SUMMARY = "/_matrix/client/unstable/im.nheko.summary"
_UNSTABLE_MUTUAL_ROOMS = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"


class ServersQuery(msgspec.Struct):
    """The query of GET /room_summary: which servers know the room."""

    via: list[str] = []


class TreeQuery(msgspec.Struct):
    """The query of GET /hierarchy."""

    suggested_only: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_depth: Annotated[int, msgspec.Meta(ge=0)] | None = None
    from_: str | None = msgspec.field(default=None, name="from")


class SharedQuery(msgspec.Struct):
    """The query of GET /mutual_rooms."""

    user_id: str | None = None
    from_: str | None = msgspec.field(default=None, name="from")


class UnstableSharedQuery(msgspec.Struct):
    """The query of GET /mutual_rooms by its first names."""

    user_id: str | None = None
    batch_token: str | None = None


class SpacesApi:
    """Shows rooms from outside."""

    def __init__(
        self,
        directory: AliasDirectory,
        tree_rooms: TreeRooms,
        trees: SpaceTrees,
        store: OverviewStore,
    ) -> None:
        self._directory = directory
        self._tree_rooms = tree_rooms
        self._trees = trees
        self._store = store

    @endpoint(
        "GET",
        "/_matrix/client/v1/room_summary/{room_id_or_alias}",
        auth=Auth.OPTIONAL_USER,
        limit="read",
    )
    async def get_room_summary(
        self, caller: Caller | None, room_id_or_alias: str, query: ServersQuery
    ) -> dict[str, Any]:
        """What a room is; without a token that of rooms which anybody may enter, knock at or look into."""
        return await self._summarize(caller, room_id_or_alias, query.via)

    @endpoint(
        "GET",
        f"{_UNSTABLE_SUMMARY}/summary/{{room_id_or_alias}}",
        f"{_UNSTABLE_SUMMARY}/rooms/{{room_id_or_alias}}/summary",
        auth=Auth.OPTIONAL_USER,
        limit="read",
    )
    async def get_unstable_room_summary(
        self, caller: Caller | None, room_id_or_alias: str, query: ServersQuery
    ) -> dict[str, Any]:
        """The same, with the names that some fields had first."""
        summary = await self._summarize(caller, room_id_or_alias, query.via)
        old = {name: summary[name] for name in ("room_version", "encryption") if name in summary}
        return summary | {f"im.nheko.summary.{name}": value for name, value in old.items()}

    @endpoint("GET", "/_matrix/client/v1/rooms/{room_id}/hierarchy", auth=Auth.USER, limit="read")
    async def get_hierarchy(self, caller: Caller, room_id: str, query: TreeQuery) -> dict[str, Any]:
        """The rooms of a space, depth first."""
        parse_room_id(room_id)
        request = TreeRequest(
            min(query.limit or _DEFAULT_LIMIT, _MAX_LIMIT),
            _MAX_DEPTH if query.max_depth is None else min(query.max_depth, _MAX_DEPTH),
            query.suggested_only,
            query.from_,
        )
        return await self._trees.list_page(caller.user_id, room_id, request)

    @endpoint("GET", "/_matrix/client/v1/mutual_rooms", auth=Auth.USER, limit="read")
    async def get_mutual_rooms(self, caller: Caller, query: SharedQuery) -> dict[str, Any]:
        """The rooms that the caller and somebody else are in."""
        return await self._list_shared(caller, query.user_id, query.from_)

    @endpoint("GET", _UNSTABLE_MUTUAL_ROOMS, auth=Auth.USER, limit="read")
    async def get_unstable_mutual_rooms(self, caller: Caller, query: UnstableSharedQuery) -> dict[str, Any]:
        """The same, with the names that its tokens had first."""
        answer = await self._list_shared(caller, query.user_id, query.batch_token)
        if "next_batch" in answer:
            answer["next_batch_token"] = answer.pop("next_batch")
        return answer

    async def _summarize(
        self, caller: Caller | None, room_id_or_alias: str, via: list[str]
    ) -> dict[str, Any]:
        if not room_id_or_alias.startswith("#"):
            parse_room_id(room_id_or_alias)
        if caller is None:
            # Who has no token is in no room, gets what is open to everybody, and has us ask nobody.
            room_id = (await self._directory.resolve_id_or_alias(room_id_or_alias)).room_id
            return dict((await self._find("", room_id, [])).entry)
        found = await self._directory.find_room(room_id_or_alias)
        room = await self._find(caller.user_id, found.room_id, [*via, *found.servers])
        memberships = await self._store.list_memberships_of(caller.user_id, [room.room_id])
        return {**room.entry, "membership": memberships.get(room.room_id, "leave")}

    async def _find(self, user_id: str, room_id: str, servers: list[str]) -> TreeRoom:
        room = await self._tree_rooms.visit(user_id).find(room_id, servers)
        if room is None or not room.is_accessible:
            # The same as for a room that does not exist.
            raise NotFound("unknown room")
        return room

    async def _list_shared(self, caller: Caller, user_id: str | None, token: str | None) -> dict[str, Any]:
        if user_id is None:
            raise MissingParam("user_id is missing")
        parse_user_id(user_id)
        if user_id == caller.user_id:
            raise InvalidParam("you share all rooms with yourself")
        after = _parse_token(token)
        total, shared = await self._store.list_shared(caller.user_id, user_id, after, _SHARED_ROOMS + 1)
        answer: dict[str, Any] = {
            "joined": [room_id for _, room_id in shared[:_SHARED_ROOMS]],
            "count": total,
        }
        if len(shared) > _SHARED_ROOMS:
            answer["next_batch"] = str(shared[_SHARED_ROOMS - 1][0])
        return answer


def _parse_token(text: str | None) -> int:
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidParam("from is not a token of this list")
    return int(text)
