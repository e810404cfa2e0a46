"""The events that a user was notified of, all rooms together."""

from collections.abc import Sequence
from dataclasses import dataclass

from hs.storage.database import Database

# Events of a room that are looked at for one page: in a room that was quiet for long, few count.
_LOOKED_AT = 1_000


@dataclass(frozen=True, slots=True)
class NotifiedEvent:
    """An event and what it was to the user: 1 notify, 2 highlight; `sent_upto` is the user's last in its thread."""

    event_nid: int
    room_nid: int
    stream_ordering: int
    thread_nid: int
    push: int
    sent_upto: int


class NotifiedStore:
    """Lists past notifications."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_notified(
        self, user_id: str, before: int, limit: int, *, only_highlights: bool
    ) -> Sequence[NotifiedEvent]:
        """The newest notifications before a stream ordering, newest first, in the rooms the user is in."""
        query = _LIST_HIGHLIGHTS if only_highlights else _LIST_NOTIFIED
        rows = await self._database.fetch(query, user_id, before, limit, _LOOKED_AT)
        return [NotifiedEvent(**row) for row in rows]


# What everybody is notified of, but for those who have an exception; and the exceptions that notify.
_LIST = """
    SELECT n.event_nid, l.room_nid, n.stream_ordering, n.thread_nid, n.push,
        coalesce(s.stream_ordering, 0) AS sent_upto
    FROM local_memberships l
    CROSS JOIN LATERAL (
        SELECT coalesce(min(j.stream_ordering), 0) AS floor FROM local_membership_changes j
        WHERE j.user_id = $1 AND j.room_nid = l.room_nid AND j.membership = 'join'
        AND j.stream_ordering > coalesce((
            SELECT o.stream_ordering FROM local_membership_changes o
            WHERE o.user_id = $1 AND o.room_nid = l.room_nid AND o.membership <> 'join'
            ORDER BY o.stream_ordering DESC LIMIT 1
        ), 0)
    ) f
    CROSS JOIN LATERAL (
        SELECT least($2, max(q.since) + 1) AS before FROM push_quiet q
        WHERE q.user_id = $1 AND q.room_nid = l.room_nid AND q.until IS NULL
    ) q
    CROSS JOIN LATERAL (
        (
            SELECT e.event_nid, e.stream_ordering, e.thread_nid, e.push FROM (
                SELECT event_nid, stream_ordering, thread_nid, push, sender FROM events
                WHERE room_nid = l.room_nid AND {push} AND stream_ordering > f.floor
                AND stream_ordering < q.before
                ORDER BY stream_ordering DESC LIMIT $4
            ) e
            WHERE e.sender <> $1 AND NOT EXISTS (
                SELECT FROM push_exceptions x
                WHERE x.user_id = $1 AND x.room_nid = l.room_nid AND x.stream_ordering = e.stream_ordering
            ) AND NOT EXISTS (
                SELECT FROM push_quiet w WHERE w.user_id = $1 AND w.room_nid = l.room_nid
                AND w.since < e.stream_ordering AND w.until >= e.stream_ordering
            )
            LIMIT $3
        )
        UNION ALL
        (
            SELECT e.event_nid, x.stream_ordering, x.thread_nid, x.push
            FROM push_exceptions x JOIN events e USING (room_nid, stream_ordering)
            WHERE x.user_id = $1 AND x.room_nid = l.room_nid AND x.{push}
            AND x.stream_ordering > f.floor AND x.stream_ordering < $2
            ORDER BY x.stream_ordering DESC LIMIT $3
        )
    ) n
    LEFT JOIN sent_positions s ON s.user_id = $1 AND s.room_nid = l.room_nid AND s.thread_nid = n.thread_nid
    WHERE l.user_id = $1 AND l.membership = 'join'
    ORDER BY n.stream_ordering DESC LIMIT $3
"""
_LIST_NOTIFIED = _LIST.format(push="push > 0")
_LIST_HIGHLIGHTS = _LIST.format(push="push = 2")
