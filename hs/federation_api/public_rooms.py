"""The rooms that this server publishes. Spec: server-server-api "Published Room Directory"; public_rooms.yaml."""

from typing import Any

import msgspec

from hs.directory.public_rooms import PublicRooms, search_of
from hs.http.endpoint import Auth, endpoint

_PATH = "/_matrix/federation/v1/publicRooms"
_MOST_TYPES = 100


class ListQuery(msgspec.Struct):
    """The query of GET /publicRooms."""

    limit: int | None = None
    since: str | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


class ListFilter(msgspec.Struct):
    """Which rooms to show."""

    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class ListBody(msgspec.Struct):
    """The body of POST /publicRooms."""

    limit: int | None = None
    since: str | None = None
    filter: ListFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None


class PublicRoomsApi:
    """Lists published rooms that other servers may join."""

    def __init__(self, public_rooms: PublicRooms) -> None:
        self._public_rooms = public_rooms

    @endpoint("GET", _PATH, auth=Auth.SERVER, limit="federation")
    async def get_public_rooms(self, origin: str, query: ListQuery) -> dict[str, Any]:
        """A page of them."""
        return await self._list(ListFilter(), query)

    @endpoint("POST", _PATH, auth=Auth.SERVER, limit="federation")
    async def post_public_rooms(self, origin: str, body: ListBody) -> dict[str, Any]:
        """A page of those that match a filter."""
        return await self._list(body.filter or ListFilter(), body)

    async def _list(self, wanted: ListFilter, page: ListQuery | ListBody) -> dict[str, Any]:
        if page.third_party_instance_id and not page.include_all_networks:
            # Rooms of other networks come with application services, and there are none yet.
            return {"chunk": [], "total_room_count_estimate": 0}
        types = wanted.room_types and wanted.room_types[:_MOST_TYPES]
        search = search_of(wanted.generic_search_term, types, is_for_servers=True)
        # Spec: 0, the default, is no limit.
        return await self._public_rooms.list_page(search, page.limit or None, page.since)
