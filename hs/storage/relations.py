"""What relates to an event: summaries, pages of children, threads. Spec: "Event relationships".

Redacted events relate to nothing, and those that have no place in a timeline are never found.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hs.matrix.relations import THREAD
from hs.storage.database import Database
from hs.storage.events import HIDDEN
from hs.storage.timeline import Place

# Of the newest edits and messages of a thread so many are looked at for one that counts.
_CANDIDATES = 10
# References that are told with an event; there are a handful where they are used as intended.
_MOST_REFERENCES = 500
# Events that are looked at for one page of what relates to an event over several steps.
_MOST_DESCENDANTS = 20_000


@dataclass(frozen=True, slots=True)
class Parent:
    """An event that others may relate to, with what the validity of an edit depends on."""

    room_nid: int
    event_id: str
    type: str
    sender: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What relates to a parent: numbers of the newest edits and messages of its thread, newest first; ids of references."""

    edits: tuple[int, ...] = ()
    references: tuple[str, ...] = ()
    thread: tuple[int, ...] = ()
    thread_count: int = 0
    thread_senders: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ThreadPlace:
    """A message of a thread: the thread's newest or another one."""

    root_id: str
    depth: int
    stream_ordering: int
    is_newest: bool


@dataclass(frozen=True, slots=True)
class Children:
    """Which of the events are wanted that relate to an event: None is any; `depth` is 1 for direct ones."""

    event_id: str
    rel_type: str | None = None
    type: str | None = None
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Slice:
    """Up to `limit` events from a place in the order of history on, with stream orderings up to `until`."""

    depth: int
    stream: int
    until: int
    limit: int
    backwards: bool = True


class RelationStore:
    """Reads relations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_summaries(
        self, parents: Sequence[Parent], until: Sequence[int], ignored: Collection[str] = ()
    ) -> list[Summary | None]:
        """What relates to each parent, with stream orderings up to its `until`; None where nothing does."""
        rows = await self._database.fetch(
            _SUMMARIES,
            [parent.room_nid for parent in parents],
            [parent.event_id for parent in parents],
            [parent.type for parent in parents],
            [parent.sender for parent in parents],
            until,
            list(ignored),
            HIDDEN,
            _CANDIDATES,
            _MOST_REFERENCES,
        )
        found: list[Summary | None] = [None] * len(parents)
        for row in rows:
            found[row["n"] - 1] = Summary(
                tuple(row["edits"]),
                tuple(row["refs"]),
                tuple(row["thread"]),
                row["thread_count"] or 0,
                frozenset(row["thread_senders"] or ()),
            )
        return found

    async def list_parents(self, room_nids: Sequence[int], limit: int) -> dict[int, set[str]]:
        """Which events of each room others relate to, redacted ones included; `limit` or more where they are many."""
        rows = await self._database.fetch(_PARENTS, room_nids, limit)
        found: dict[int, set[str]] = {room_nid: set() for room_nid in room_nids}
        for row in rows:
            found[row["room_nid"]].add(row["relates_to"])
        return found

    async def list_children(self, room_nid: int, wanted: Children, part: Slice) -> list[Place]:
        """A page of the events that relate to an event, in the order of reading."""
        query = _DIRECT if wanted.depth == 1 else _DESCENDANTS
        if wanted.depth == 1 and wanted.rel_type == THREAD:
            # Said in so many words, the index of threads has the page in its order.
            query += " AND e.rel_type = 'm.thread'"
        rows = await self._database.fetch(
            query + (_BACKWARDS if part.backwards else _FORWARDS),
            room_nid,
            wanted.event_id,
            wanted.rel_type,
            wanted.type,
            part.depth,
            part.stream,
            part.until,
            part.limit,
            HIDDEN,
            *(() if wanted.depth == 1 else (wanted.depth, _MOST_DESCENDANTS)),
        )
        return [Place(row["event_nid"], row["depth"], row["stream_ordering"]) for row in rows]

    async def list_threads(self, room_nid: int, part: Slice, ignored: Collection[str]) -> list[ThreadPlace]:
        """The messages of the room's threads, newest first, without those of the ignored."""
        rows = await self._database.fetch(
            _THREADS, room_nid, part.depth, part.stream, part.until, part.limit, list(ignored), HIDDEN
        )
        return [
            ThreadPlace(row["relates_to"], row["depth"], row["stream_ordering"], row["is_newest"])
            for row in rows
        ]

    async def list_related(
        self,
        room_nid: int,
        event_ids: Sequence[str],
        senders: Sequence[str] | None,
        rel_types: Sequence[str] | None,
    ) -> set[str]:
        """Those of the events to which one of the senders relates in one of the ways; None is any."""
        rows = await self._database.fetch(
            "SELECT p.event_id FROM unnest($2::text[]) AS p (event_id) WHERE EXISTS ("
            " SELECT FROM events e WHERE e.room_nid = $1 AND e.relates_to = p.event_id"
            " AND ($3::text[] IS NULL OR e.sender = ANY($3)) AND ($4::text[] IS NULL OR e.rel_type = ANY($4))"
            " AND e.redacted_by_nid = 0 AND e.flags & $5 = 0)",
            room_nid,
            event_ids,
            senders,
            rel_types,
            HIDDEN,
        )
        return {row["event_id"] for row in rows}


# From one to the next in the order of the index: an event that many others relate to costs one step, and those that
# relate to nothing are not looked at.
_PARENTS = """
    SELECT r.room_nid, found.relates_to
    FROM unnest($1::bigint[]) AS r(room_nid)
    CROSS JOIN LATERAL (
        WITH RECURSIVE p AS (
            (SELECT e.relates_to FROM events e
            WHERE e.room_nid = r.room_nid AND e.relates_to IS NOT NULL ORDER BY e.relates_to LIMIT 1)
            UNION ALL
            SELECT (SELECT e.relates_to FROM events e
                WHERE e.room_nid = r.room_nid AND e.relates_to > p.relates_to ORDER BY e.relates_to LIMIT 1)
            FROM p WHERE p.relates_to IS NOT NULL
        )
        SELECT p.relates_to FROM p WHERE p.relates_to IS NOT NULL LIMIT $2
    ) found
"""

_COUNTS = "e.redacted_by_nid = 0 AND e.flags & $7 = 0 AND e.stream_ordering <= p.until AND e.sender <> ALL($6::text[])"

# What is a valid edit but for its content: see "Validity of replacement events".
_SUMMARIES = f"""
    SELECT p.n, x.edits, x.refs, x.thread, t.thread_count, t.thread_senders
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[])
    WITH ORDINALITY AS p (room_nid, event_id, type, sender, until, n)
    CROSS JOIN LATERAL (SELECT
        ARRAY(
            SELECT e.event_nid FROM events e
            WHERE e.room_nid = p.room_nid AND e.relates_to = p.event_id AND e.rel_type = 'm.replace' AND {_COUNTS}
            AND e.sender = p.sender AND e.type = p.type AND e.state_key IS NULL
            ORDER BY e.origin_server_ts DESC, e.event_id COLLATE "C" DESC LIMIT $8
        ) AS edits,
        ARRAY(
            SELECT e.event_id FROM events e
            WHERE e.room_nid = p.room_nid AND e.relates_to = p.event_id AND e.rel_type = 'm.reference' AND {_COUNTS}
            ORDER BY e.stream_ordering LIMIT $9
        ) AS refs,
        ARRAY(
            SELECT e.event_nid FROM events e
            WHERE e.room_nid = p.room_nid AND e.relates_to = p.event_id AND e.rel_type = 'm.thread' AND {_COUNTS}
            ORDER BY e.depth DESC, e.stream_ordering DESC LIMIT $8
        ) AS thread
    ) x
    LEFT JOIN LATERAL (
        SELECT sum(s.n)::bigint AS thread_count, array_agg(s.sender) AS thread_senders FROM (
            SELECT e.sender, count(*) AS n FROM events e
            WHERE e.room_nid = p.room_nid AND e.relates_to = p.event_id AND e.rel_type = 'm.thread' AND {_COUNTS}
            GROUP BY e.sender
        ) s
    ) t ON cardinality(x.thread) > 0
    WHERE cardinality(x.edits) + cardinality(x.refs) + cardinality(x.thread) > 0
"""

_DIRECT = """
    SELECT e.event_nid, e.depth, e.stream_ordering FROM events e
    WHERE e.room_nid = $1 AND e.relates_to = $2
    AND ($3::text IS NULL OR e.rel_type = $3) AND ($4::text IS NULL OR e.type = $4)
    AND e.redacted_by_nid = 0 AND e.flags & $9 = 0 AND e.stream_ordering <= $7
"""

# Events on the way may be of any kind; ids are hashes, so there are no rings but in the oldest rooms.
_DESCENDANTS = """
    WITH RECURSIVE related AS (
        SELECT e.event_nid, e.event_id, 1 AS steps FROM events e
        WHERE e.room_nid = $1 AND e.relates_to = $2 AND e.redacted_by_nid = 0 AND e.flags & $9 = 0
        UNION
        SELECT e.event_nid, e.event_id, r.steps + 1 FROM related r JOIN events e ON e.relates_to = r.event_id
        WHERE e.room_nid = $1 AND e.redacted_by_nid = 0 AND e.flags & $9 = 0 AND r.steps < $10
    )
    SELECT e.event_nid, e.depth, e.stream_ordering FROM events e
    WHERE e.room_nid = $1 AND e.event_nid IN (SELECT event_nid FROM (SELECT event_nid FROM related LIMIT $11) r)
    AND ($3::text IS NULL OR e.rel_type = $3) AND ($4::text IS NULL OR e.type = $4) AND e.stream_ordering <= $7
"""

_BACKWARDS = """
    AND (e.depth, e.stream_ordering) <= ($5, $6) ORDER BY e.depth DESC, e.stream_ordering DESC LIMIT $8
"""
_FORWARDS = """
    AND (e.depth, e.stream_ordering) > ($5, $6) ORDER BY e.depth, e.stream_ordering LIMIT $8
"""

_THREADS = """
    SELECT e.relates_to, e.depth, e.stream_ordering, NOT EXISTS (
        SELECT FROM events n
        WHERE n.room_nid = e.room_nid AND n.relates_to = e.relates_to AND n.rel_type = 'm.thread'
        AND (n.depth, n.stream_ordering) > (e.depth, e.stream_ordering) AND n.stream_ordering <= $4
        AND n.redacted_by_nid = 0 AND n.flags & $7 = 0 AND n.sender <> ALL($6::text[])
    ) AS is_newest
    FROM events e
    WHERE e.room_nid = $1 AND e.rel_type = 'm.thread' AND (e.depth, e.stream_ordering) <= ($2, $3)
    AND e.stream_ordering <= $4 AND e.redacted_by_nid = 0 AND e.flags & $7 = 0 AND e.sender <> ALL($6::text[])
    ORDER BY e.depth DESC, e.stream_ordering DESC LIMIT $5
"""
