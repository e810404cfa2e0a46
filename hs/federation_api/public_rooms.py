"""The rooms that this server publishes. Spec: server-server-api "Published Room Directory"; public_rooms.yaml."""

from typing import Any

import msgspec

from hs.directory.public_rooms import ListBody, PublicRooms
from hs.http.endpoint import Auth, endpoint

_PATH = "/_matrix/federation/v1/publicRooms"


class ListQuery(msgspec.Struct):
    """The query of GET /publicRooms."""

    limit: int | None = None
    since: str | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None

    def to_body(self) -> ListBody:
        """The same without a filter, as POST has it."""
        return ListBody(self.limit, self.since, None, self.include_all_networks, self.third_party_instance_id)


class PublicRoomsApi:
    """Lists published rooms that other servers may join."""

    def __init__(self, public_rooms: PublicRooms) -> None:
        self._public_rooms = public_rooms

    @endpoint("GET", _PATH, auth=Auth.SERVER, limit="federation")
    async def get_public_rooms(self, origin: str, query: ListQuery) -> dict[str, Any]:
        """A page of them."""
        return await self._public_rooms.list_wanted(query.to_body(), is_for_servers=True)

    @endpoint("POST", _PATH, auth=Auth.SERVER, limit="federation")
    async def post_public_rooms(self, origin: str, body: ListBody) -> dict[str, Any]:
        """A page of those that match a filter."""
        return await self._public_rooms.list_wanted(body, is_for_servers=True)
