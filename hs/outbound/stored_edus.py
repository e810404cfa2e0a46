"""EDUs that must arrive: they are in the database until the server has them.

They are written in the transaction of what causes them, so neither is ever there without the other. Each server
gets them in the order in which they were written. Where a transaction's answer or our process was lost they are
sent again: their content must have an id by which that is seen (`message_id`, `stream_id`).
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from hs.matrix.ids import is_server_name
from hs.outbound.transactions import MAX_EDUS, encode_edu
from hs.storage.database import Writer
from hs.storage.outbound_edus import OutboundEduStore, StoredEdu

logger = logging.getLogger(__name__)

# For one server: who is away for longer than this lasts has lost the oldest, and finds that out by the ids of the rest.
MAX_STORED: Final = 10_000
# Of one transaction.
_MAX_BYTES: Final = 500_000


class StoredEdus:
    """What waits in the database, and for whom."""

    def __init__(self, store: OutboundEduStore, own_name: str) -> None:
        self._store = store
        self._own_name = own_name
        # Servers for which there may be something.
        self._servers: set[str] = set()
        self._listeners: list[Callable[[str], None]] = []

    @property
    def servers(self) -> Collection[str]:
        """Servers for which something may wait."""
        return self._servers

    def on_added(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with each server for which something has come to wait."""
        self._listeners.append(listener)

    async def load(self) -> None:
        """Know what earlier processes have left."""
        self._servers = set(await self._store.list_servers())

    async def add(
        self, writer: Writer, server_names: Collection[str], edu_type: str, content: Mapping[str, Any]
    ) -> None:
        """Have the servers be sent an EDU, once the writer's transaction is committed.

        Names that are none and ours are passed over. Call it last in the transaction: it holds others up that add
        something for the same servers.
        """
        names = sorted({name for name in server_names if name != self._own_name and is_server_name(name)})
        if names:
            await self._store.insert(writer, names, encode_edu(edu_type, content), MAX_STORED)
            writer.after_commit(lambda: self._announce(names))

    async def list_next(self, server_name: str, limit: int = MAX_EDUS) -> list[StoredEdu]:
        """What the server is to have next; `confirm` it when it has."""
        if server_name not in self._servers:
            return []
        # What is added from here on is announced once more.
        self._servers.discard(server_name)
        try:
            found = await self._store.list_next(server_name, limit, _MAX_BYTES)
        except BaseException:
            self._servers.add(server_name)
            raise
        if found:
            self._servers.add(server_name)
        return found

    async def confirm(self, server_name: str, edu_ids: Collection[int]) -> None:
        """The server has these."""
        if edu_ids:
            await self._store.delete(server_name, edu_ids)

    def _announce(self, server_names: Sequence[str]) -> None:
        self._servers.update(server_names)
        for name in server_names:
            for listener in self._listeners:
                listener(name)
