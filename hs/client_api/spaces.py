"""Rooms before one is in them: summaries, the rooms of a space, and those that one shares with somebody.

Spec: client-server-api GET /room_summary, modules "Spaces", "Mutual Rooms".
"""

from typing import Annotated, Any

import msgspec

from hs.client_api.room_params import get_own_room
from hs.directory.aliases import AliasDirectory
from hs.directory.overviews import RoomOverviews
from hs.directory.spaces import SpaceTrees, TreeRequest
from hs.http.endpoint import Auth, Caller, endpoint
from hs.matrix.errors import InvalidParam, MissingParam, NotFound
from hs.matrix.ids import parse_room_id, parse_user_id
from hs.storage.overviews import OverviewStore
from hs.storage.rooms import RoomStore

_DEFAULT_LIMIT = 50
_MAX_LIMIT = 100
_MAX_DEPTH = 50
_SHARED_ROOMS = 500
# From before they were accepted; clients that look for their flags in /versions still ask there.
_UNSTABLE_SUMMARY = "/_matrix/client/unstable/im.nheko.summary"
_UNSTABLE_MUTUAL_ROOMS = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"


class ServersQuery(msgspec.Struct):
    """The query of GET /room_summary: which servers know the room; for when there are other servers."""

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
        rooms: RoomStore,
        directory: AliasDirectory,
        overviews: RoomOverviews,
        trees: SpaceTrees,
        store: OverviewStore,
    ) -> None:
        self._rooms = rooms
        self._directory = directory
        self._overviews = overviews
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
        return await self._summarize(caller, room_id_or_alias)

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
        summary = await self._summarize(caller, room_id_or_alias)
        old = {name: summary[name] for name in ("room_version", "encryption") if name in summary}
        return summary | {f"im.nheko.summary.{name}": value for name, value in old.items()}

    @endpoint("GET", "/_matrix/client/v1/rooms/{room_id}/hierarchy", auth=Auth.USER, limit="read")
    async def get_hierarchy(self, caller: Caller, room_id: str, query: TreeQuery) -> dict[str, Any]:
        """The rooms of a space, depth first."""
        room = await get_own_room(self._rooms, room_id)
        request = TreeRequest(
            min(query.limit or _DEFAULT_LIMIT, _MAX_LIMIT),
            _MAX_DEPTH if query.max_depth is None else min(query.max_depth, _MAX_DEPTH),
            query.suggested_only,
            query.from_,
        )
        return await self._trees.list_page(caller.user_id, room, request)

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

    async def _summarize(self, caller: Caller | None, room_id_or_alias: str) -> dict[str, Any]:
        if not room_id_or_alias.startswith("#"):
            parse_room_id(room_id_or_alias)
        room = await self._directory.resolve_id_or_alias(room_id_or_alias)
        # Who has no token is in no room, and gets what is open to everybody.
        overview = await self._overviews.get("" if caller is None else caller.user_id, room)
        if not overview.is_accessible:
            # The same as for a room that does not exist.
            raise NotFound("unknown room")
        if caller is None:
            return dict(overview.entry)
        return {**overview.entry, "membership": overview.membership or "leave"}

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
