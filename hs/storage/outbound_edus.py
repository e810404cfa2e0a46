"""EDUs that must arrive: they wait here until the other server has them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hs.storage.database import Database, Writer


@dataclass(frozen=True, slots=True)
class StoredEdu:
    """An EDU as it goes into transactions; ids ascend."""

    edu_id: int
    edu: bytes


class OutboundEduStore:
    """Reads and writes what waits, by server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, writer: Writer, server_names: Sequence[str], edu: bytes, keep: int) -> None:
        """Have an EDU wait for each of the servers (sorted); of each the newest `keep` are kept.

        The servers are locked until the commit, so that nobody sees what has a higher id before it.
        """
        await writer.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(name, 21)) FROM unnest($1::text[]) AS name",
            server_names,
        )
        await writer.execute(
            "WITH edu AS (SELECT nextval('outbound_edu_ids') AS edu_id) "
            "INSERT INTO outbound_edus (server_name, edu_id, edu) SELECT unnest($1::text[]), edu_id, $2 FROM edu",
            server_names,
            edu,
        )
        await writer.execute(
            "DELETE FROM outbound_edus o USING unnest($1::text[]) AS s (server_name) WHERE"
            " o.server_name = s.server_name AND o.edu_id <= (SELECT edu_id FROM outbound_edus k WHERE"
            "  k.server_name = s.server_name ORDER BY edu_id DESC OFFSET $2 LIMIT 1)",
            server_names,
            keep,
        )

    async def list_next(self, server_name: str, limit: int, max_bytes: int) -> list[StoredEdu]:
        """What waits longest, oldest first: so many at most, and so many bytes; one at least where there is any."""
        rows = await self._database.fetch(
            "SELECT edu_id, edu FROM (SELECT edu_id, edu, sum(length(edu)) OVER (ORDER BY edu_id) AS size,"
            "  row_number() OVER (ORDER BY edu_id) AS number FROM (SELECT edu_id, edu FROM outbound_edus"
            "   WHERE server_name = $1 ORDER BY edu_id LIMIT $2) AS oldest) AS sized "
            "WHERE number = 1 OR size <= $3 ORDER BY edu_id",
            server_name,
            limit,
            max_bytes,
        )
        return [StoredEdu(row["edu_id"], row["edu"]) for row in rows]

    async def delete(self, server_name: str, edu_ids: Collection[int]) -> None:
        """The server has these."""
        async with self._database.write_once() as writer:
            await writer.execute(
                "DELETE FROM outbound_edus WHERE server_name = $1 AND edu_id = ANY($2::bigint[])",
                server_name,
                list(edu_ids),
            )

    async def list_servers(self) -> list[str]:
        """Servers that something waits for. From one to the next by the index: what waits is not counted."""
        rows = await self._database.fetch(
            "WITH RECURSIVE found (server_name) AS ("
            " (SELECT server_name FROM outbound_edus ORDER BY server_name LIMIT 1) UNION ALL"
            " SELECT (SELECT server_name FROM outbound_edus o WHERE o.server_name > found.server_name"
            "  ORDER BY server_name LIMIT 1) FROM found WHERE found.server_name IS NOT NULL"
            ") SELECT server_name FROM found WHERE server_name IS NOT NULL"
        )
        return [row["server_name"] for row in rows]
