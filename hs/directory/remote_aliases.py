"""Where aliases of other servers lead.

Spec: server-server-api "Querying for information", GET /query/directory.
"""

import asyncio
from dataclasses import dataclass

import msgspec
from cachetools import TTLCache

from hs.matrix.errors import NotFound
from hs.matrix.ids import is_server_name, parse_room_id, server_of
from hs.net.bounds import Bounds
from hs.net.errors import RemoteError, RemoteRefused
from hs.net.federation_client import FederationClient

# What a server says is good for a minute: a link in a busy room is clicked by many at once.
_REMEMBERED = 1000
_REMEMBERED_S = 60.0
_MAX_SERVERS = 20
_BOUNDS = Bounds(512 * 1024, 20.0)


class _Answer(msgspec.Struct):
    room_id: str
    servers: list[str] = []


@dataclass(frozen=True, slots=True)
class FoundRoom:
    """Where an alias leads, and servers that are in the room."""

    room_id: str
    servers: tuple[str, ...] = ()


class RemoteAliases:
    """Asks the server of an alias."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client
        self._known: TTLCache[str, FoundRoom] = TTLCache(_REMEMBERED, _REMEMBERED_S)
        self._asking: dict[str, asyncio.Task[FoundRoom]] = {}

    async def find(self, alias: str) -> FoundRoom:
        """Where the alias leads; NotFound where its server knows none, or cannot be asked."""
        known = self._known.get(alias)
        if known is not None:
            return known
        task = self._asking.get(alias)
        if task is None:
            task = self._asking[alias] = asyncio.create_task(self._ask(alias))
            task.add_done_callback(lambda done: self._asking.pop(alias, None))
        return await asyncio.shield(task)

    async def _ask(self, alias: str) -> FoundRoom:
        server_name = server_of(alias)
        try:
            answer = await self._client.ask(
                "GET",
                server_name,
                "/_matrix/federation/v1/query/directory",
                _Answer,
                query={"room_alias": alias},
                bounds=_BOUNDS,
            )
        except RemoteRefused as error:
            raise NotFound(f"room alias {alias} not found") from error
        except RemoteError as error:
            raise NotFound(f"the server of {alias} cannot be reached") from error
        parse_room_id(answer.room_id)
        servers = [name for name in answer.servers if is_server_name(name)][:_MAX_SERVERS]
        found = FoundRoom(answer.room_id, tuple(dict.fromkeys([*servers, server_name])))
        self._known[alias] = found
        return found
