"""Servers that did not answer when they were asked last, and when to ask again."""

from hs.matrix.destinations import Failing
from hs.storage.database import Database


class DestinationStore:
    """Rows of failing servers only; who answers again has none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_failing(self, limit: int) -> list[Failing]:
        """Those that wait longest first, `limit` of them."""
        rows = await self._database.fetch(
            "SELECT server_name, failures, failing_since_ts, failed_ts, retry_ts FROM destinations "
            "ORDER BY retry_ts DESC LIMIT $1",
            limit,
        )
        return [Failing(*row) for row in rows]

    async def set_failing(self, failing: Failing) -> None:
        """Keep a failure."""
        async with self._database.write_once() as writer:
            await writer.execute(
                "INSERT INTO destinations (server_name, failures, failing_since_ts, failed_ts, retry_ts) "
                "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (server_name) DO UPDATE SET failures = excluded.failures, "
                "failing_since_ts = excluded.failing_since_ts, failed_ts = excluded.failed_ts, retry_ts = excluded.retry_ts",
                failing.server_name,
                failing.failures,
                failing.failing_since_ts,
                failing.failed_ts,
                failing.retry_ts,
            )

    async def delete_failing(self, server_name: str) -> None:
        """It answers again."""
        async with self._database.write_once() as writer:
            await writer.execute("DELETE FROM destinations WHERE server_name = $1", server_name)

    async def delete_forgotten(self, before_ts: int) -> None:
        """Drop those that nobody has wanted anything of since they could be asked again, long before."""
        async with self._database.write_once() as writer:
            await writer.execute("DELETE FROM destinations WHERE retry_ts < $1", before_ts)
