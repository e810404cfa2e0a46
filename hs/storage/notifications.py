"""What the judging of events needs of the database, and what is counted of its outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from hs.matrix.ignored_users import decode_ignored
from hs.matrix.push_rules import NO_RULES, PushRules, decode_rules
from hs.storage.database import Database
from hs.storage.user_data import IGNORED_USERS, PUSH_RULES

# Unread events of one room are counted so far and no further, newest first: nobody reads a longer number.
MAX_COUNTED = 10_000
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UserRules:
    """What a user makes of events in a room; `is_quiet` is what push_quiet says."""

    rules: PushRules
    ignored: frozenset[str]
    is_quiet: bool


@dataclass(frozen=True, slots=True)
class MemberRules:
    """One of our users in a room."""

    user_id: str
    display_name: str | None
    rules: UserRules


@dataclass(frozen=True, slots=True)
class EventThread:
    """An event's number and the root of the thread that it is in; (0, "") is the main timeline."""

    event_nid: int
    root_nid: int
    root_id: str


@dataclass(frozen=True, slots=True)
class CountRequest:
    """Count what a user has not read: after `floor` or the last join, in threads also after their own position."""

    user_id: str
    room_nid: int
    floor: int
    by_thread: tuple[tuple[int, int], ...]
    upto: int


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """What was counted; threads are (root_nid, root_id, notify, highlight), (0, "", ..) the main timeline."""

    floor: int
    is_quiet: bool
    threads: tuple[tuple[int, str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ReadMark:
    """A user has read all of the room up to a stream ordering, and the main timeline perhaps further."""

    user_id: str
    room_nid: int
    upto: int
    main_upto: int


class NotificationStore:
    """Reads whom events notify."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_members(self, room_nid: int) -> list[MemberRules]:
        """Our joined users in the room."""
        rows = await self._database.fetch(
            f"SELECT u.user_id, m.display_name, {_RULES} FROM local_memberships u"
            f" JOIN memberships m USING (room_nid, user_id) {_JOIN_RULES}"
            " WHERE u.room_nid = $1 AND u.membership = 'join'",
            room_nid,
            PUSH_RULES,
            IGNORED_USERS,
        )
        return [MemberRules(row["user_id"], row["display_name"], _rules(row)) for row in rows]

    async def list_rules(self, room_nid: int, user_ids: Sequence[str]) -> dict[str, UserRules]:
        """The rules of all these users."""
        rows = await self._database.fetch(
            f"SELECT u.user_id, {_RULES} FROM unnest($4::text[]) AS u (user_id) {_JOIN_RULES}",
            room_nid,
            PUSH_RULES,
            IGNORED_USERS,
            user_ids,
        )
        return {row["user_id"]: _rules(row) for row in rows}

    async def count_joined(self, room_nid: int, at_most: int) -> int:
        """How many users are in the room, ours and others; `at_most` where there are more."""
        found: int = await self._database.fetchval(
            "SELECT count(*) FROM ("
            " SELECT FROM memberships WHERE room_nid = $1 AND membership = 'join' LIMIT $2"
            ") m",
            room_nid,
            at_most,
        )
        return found

    async def list_threads(self, room_nid: int, event_ids: Sequence[str]) -> dict[str, EventThread]:
        """Where those of the events are that the room holds."""
        rows = await self._database.fetch(
            "SELECT e.event_id, e.event_nid, e.thread_nid, coalesce(root.event_id, '') AS root_id FROM events e "
            "LEFT JOIN events root ON root.room_nid = e.room_nid AND root.event_nid = e.thread_nid "
            "WHERE e.event_id = ANY($2::text[]) AND e.room_nid = $1",
            room_nid,
            event_ids,
        )
        return {r["event_id"]: EventThread(r["event_nid"], r["thread_nid"], r["root_id"]) for r in rows}

    async def delete_read(self, marks: Sequence[ReadMark], kept_from: int) -> None:
        """Delete exceptions of what is read; those that notify are kept after `kept_from`."""
        async with self._database.write() as writer:
            await writer.execute(
                "DELETE FROM push_quiet q USING unnest($1::text[], $2::bigint[], $3::bigint[])"
                " AS r (user_id, room_nid, upto)"
                " WHERE q.user_id = r.user_id AND q.room_nid = r.room_nid AND q.until <= r.upto",
                [mark.user_id for mark in marks],
                [mark.room_nid for mark in marks],
                [mark.upto for mark in marks],
            )
            # A redaction may wait for us, but we never for it.
            await writer.execute(
                "DELETE FROM push_exceptions WHERE ctid = ANY(ARRAY("
                " SELECT x.ctid FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])"
                " AS r (user_id, room_nid, upto, main_upto) JOIN push_exceptions x USING (user_id, room_nid)"
                " WHERE x.stream_ordering <= CASE x.thread_nid WHEN 0 THEN greatest(upto, main_upto) ELSE upto END"
                " AND (x.push = 0 OR x.stream_ordering <= $5)"
                " FOR UPDATE OF x SKIP LOCKED))",
                [mark.user_id for mark in marks],
                [mark.room_nid for mark in marks],
                [mark.upto for mark in marks],
                [mark.main_upto for mark in marks],
                kept_from,
            )

    async def count_unread(self, requests: Sequence[CountRequest]) -> dict[CountRequest, StoredCounts]:
        """The counts of each request, in one query."""
        threads = [(n, *thread) for n, request in enumerate(requests, 1) for thread in request.by_thread]
        rows = await self._database.fetch(
            _COUNT_UNREAD,
            [r.user_id for r in requests],
            [r.room_nid for r in requests],
            [r.floor for r in requests],
            [r.upto for r in requests],
            [n for n, _, _ in threads],
            [root_nid for _, root_nid, _ in threads],
            [position for _, _, position in threads],
            MAX_COUNTED,
        )
        heads: Mapping[int, tuple[int, bool]] = {row["n"]: (row["floor"], row["is_quiet"]) for row in rows}
        counted: dict[int, list[tuple[int, str, int, int]]] = {n: [] for n in heads}
        for row in rows:
            if row["thread_nid"] is not None:
                # Exceptions of events that are too old to be counted could make it less than none.
                notify, highlight = max(row["notify"], 0), max(row["highlight"], 0)
                counted[row["n"]].append((row["thread_nid"], row["root_id"] or "", notify, highlight))
        return {
            request: StoredCounts(*heads[n], tuple(counted[n]))
            for n, request in enumerate(requests, 1)
            if n in heads
        }


# Of users u, in the room $1.
_RULES = "a.content AS rules, i.content AS ignored, q.user_id IS NOT NULL AS is_quiet"
_JOIN_RULES = """
    LEFT JOIN account_data a ON a.user_id = u.user_id AND a.room_id = '' AND a.type = $2
    LEFT JOIN account_data i ON i.user_id = u.user_id AND i.room_id = '' AND i.type = $3
    LEFT JOIN push_quiet q ON q.user_id = u.user_id AND q.room_nid = $1 AND q.until IS NULL
"""


def _rules(row: asyncpg.Record) -> UserRules:
    rules, ignored = row["rules"], row["ignored"]
    return UserRules(
        NO_RULES if rules is None else decode_rules(rules),
        _NOBODY if ignored is None else decode_ignored(ignored),
        row["is_quiet"],
    )


# Per request: the position to count from, the newest events that notify, corrections for this user, and
# for each thread those after what the user has read or written there.
_COUNT_UNREAD = """
    WITH read AS (
        SELECT * FROM unnest($5::bigint[], $6::bigint[], $7::bigint[]) AS r (n, thread_nid, position)
    )
    SELECT a.n, f.floor, q.now_since IS NOT NULL AS is_quiet,
        c.thread_nid, root.event_id AS root_id, c.notify, c.highlight
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
        WITH ORDINALITY AS a (user_id, room_nid, floor, upto, n)
    CROSS JOIN LATERAL (
        SELECT count(*) > 0 AS ever, max(since) FILTER (WHERE until IS NULL) AS now_since
        FROM push_quiet WHERE user_id = a.user_id AND room_nid = a.room_nid
    ) q
    CROSS JOIN LATERAL (
        SELECT greatest(a.floor, min(j.stream_ordering)) AS floor FROM local_membership_changes j
        WHERE j.user_id = a.user_id AND j.room_nid = a.room_nid AND j.membership = 'join'
        AND j.stream_ordering > coalesce((
            SELECT o.stream_ordering FROM local_membership_changes o
            WHERE o.user_id = a.user_id AND o.room_nid = a.room_nid AND o.membership <> 'join'
            ORDER BY o.stream_ordering DESC LIMIT 1
        ), 0)
    ) f
    LEFT JOIN LATERAL (
        WITH positions AS MATERIALIZED (
            SELECT thread_nid, max(position) AS position FROM (
                SELECT thread_nid, position FROM read WHERE read.n = a.n
                UNION ALL
                SELECT s.thread_nid, s.stream_ordering FROM sent_positions s
                WHERE s.user_id = a.user_id AND s.room_nid = a.room_nid AND s.stream_ordering > f.floor
            ) p GROUP BY thread_nid
        ), judged AS (
            SELECT e.thread_nid, e.stream_ordering, 1 AS notify, (e.push = 2)::int AS highlight
            FROM (
                SELECT thread_nid, stream_ordering, push, sender FROM events
                WHERE room_nid = a.room_nid AND push > 0 AND stream_ordering > f.floor
                AND stream_ordering <= least(a.upto, q.now_since)
                ORDER BY stream_ordering DESC LIMIT $8
            ) e
            WHERE e.sender <> a.user_id AND (NOT q.ever OR NOT EXISTS (
                SELECT FROM push_quiet w WHERE w.user_id = a.user_id AND w.room_nid = a.room_nid
                AND w.since < e.stream_ordering AND w.until >= e.stream_ordering
            ))
            UNION ALL
            (
                SELECT x.thread_nid, x.stream_ordering, (x.push > 0)::int - (x.base > 0)::int,
                    (x.push = 2)::int - (x.base = 2)::int
                FROM push_exceptions x
                WHERE x.user_id = a.user_id AND x.room_nid = a.room_nid
                AND x.stream_ordering > f.floor AND x.stream_ordering <= a.upto
                ORDER BY x.stream_ordering DESC LIMIT $8
            )
        )
        SELECT judged.thread_nid, sum(notify)::bigint AS notify, sum(highlight)::bigint AS highlight
        FROM judged LEFT JOIN positions p ON p.thread_nid = judged.thread_nid
        WHERE judged.stream_ordering > coalesce(p.position, 0)
        GROUP BY judged.thread_nid HAVING sum(notify) <> 0 OR sum(highlight) <> 0
    ) c ON true
    LEFT JOIN events root ON root.room_nid = a.room_nid AND root.event_nid = c.thread_nid
"""
