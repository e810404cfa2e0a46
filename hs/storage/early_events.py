"""Events for rooms that are being joined; bounded in number by whoever inserts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hs.storage.database import Database

_decoder = msgspec.json.Decoder(list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class EarlyRow:
    """What one transaction had for one room."""

    nid: int
    origin: str
    pdus: list[dict[str, Any]]


class EarlyEventStore:
    """Keeps them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, room_id: str, origin: str, pdus: bytes) -> None:
        """Keep a JSON array of PDUs."""
        async with self._database.write() as writer:
            await writer.execute(
                "INSERT INTO early_events (room_id, origin, pdus) VALUES ($1, $2, $3)", room_id, origin, pdus
            )

    async def list_rooms(self) -> list[str]:
        """The rooms that there are events for."""
        rows = await self._database.fetch("SELECT DISTINCT room_id FROM early_events")
        return [row["room_id"] for row in rows]

    async def list_rows(self, room_id: str, limit: int) -> list[EarlyRow]:
        """The oldest of a room."""
        rows = await self._database.fetch(
            "SELECT nid, origin, pdus FROM early_events WHERE room_id = $1 ORDER BY nid LIMIT $2",
            room_id,
            limit,
        )
        return [EarlyRow(row["nid"], row["origin"], _decoder.decode(row["pdus"])) for row in rows]

    async def delete(self, nids: Sequence[int]) -> None:
        """These are done with."""
        async with self._database.write() as writer:
            await writer.execute("DELETE FROM early_events WHERE nid = ANY($1::bigint[])", nids)
