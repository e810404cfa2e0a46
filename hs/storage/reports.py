"""What users report to the administrators."""

from dataclasses import dataclass

from hs.storage.database import Database


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody reports: a user, a room, or an event of a room; "" for what it is not about."""

    reporter: str
    room_id: str = ""
    event_id: str = ""
    user_id: str = ""
    reason: str | None = None


class ReportStore:
    """Keeps reports until an administrator has looked at them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_report(self, report: Report, now_ms: int, max_of_reporter: int) -> None:
        """Keep the report; it takes the place of the reporter's one about the same, or of their oldest one."""
        async with self._database.write() as writer:
            await writer.execute(
                "INSERT INTO reports (reporter, room_id, event_id, user_id, reason, received_ts) "
                "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (reporter, room_id, event_id, user_id) "
                "DO UPDATE SET reason = excluded.reason, received_ts = excluded.received_ts",
                report.reporter,
                report.room_id,
                report.event_id,
                report.user_id,
                report.reason,
                now_ms,
            )
            await writer.execute(
                "DELETE FROM reports WHERE report_id IN (SELECT report_id FROM reports WHERE reporter = $1 "
                "ORDER BY received_ts DESC, report_id DESC OFFSET $2)",
                report.reporter,
                max_of_reporter,
            )
