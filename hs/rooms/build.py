"""Local events: a draft gets its place in the room's history, is hashed, signed and judged.

Spec: server-server-api "PDUs", "Auth events selection"; rooms/v1 to v12 "Authorization rules".
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from signedjson.types import SigningKey

from hs._fast.event_auth import AuthRecord
from hs._fast.state_tree import EMPTY, Node
from hs.matrix.auth_rules import Rejected, check_auth_list, make_record, select_auth_keys
from hs.matrix.errors import BadJson, Forbidden, NotFound, TooLarge
from hs.matrix.event import Event, InvalidEvent, reference_pair, sign_event
from hs.matrix.power_levels import PowerLevels
from hs.matrix.room_versions import RoomVersion
from hs.rooms.clock import Clock
from hs.rooms.drafts import Draft, SentEvent, check_draft
from hs.rooms.head import Extremity
from hs.rooms.resolve import StateResolver
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.stage_reader import CREATE, POWER, StageReader
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.room_heads import TransactionKey
from hs.storage.rooms import RoomInfo
from hs.storage.state import StateKey
from hs.storage.streams import NidAllocator

# The spec allows 20; joining fewer branches at once keeps resolutions and events small.
MAX_PREV_EVENTS = 10


@dataclass(frozen=True, slots=True)
class Signer:
    """This server's name and the key it signs with."""

    server_name: str
    key: SigningKey

    def sign(self, proto: dict[str, Any], version: RoomVersion) -> Event:
        """The finished event; what is wrong with the client's part of it is raised as a client error."""
        try:
            return sign_event(proto, version, self.server_name, self.key)
        except InvalidEvent as invalid:
            if invalid.rule.startswith("size"):
                raise TooLarge(invalid.reason) from invalid
            raise BadJson(invalid.reason) from invalid


@dataclass(frozen=True, slots=True)
class Numbers:
    """Where new events and rooms get their numbers from."""

    events: NidAllocator
    rooms: NidAllocator


@dataclass(frozen=True, slots=True)
class _Context:
    """What a new event builds on."""

    prevs: tuple[Extremity, ...]
    others: tuple[Extremity, ...]  # forward extremities that it does not refer to
    root: Node  # the state before it


# What no permission makes right: a second create event, a level for a creator.
_NEVER_ALLOWED: Final = frozenset({"auth.create.1", "auth.power_levels.4"})


class EventBuilder:
    """Turns drafts into placed events of a stage."""

    def __init__(
        self,
        signer: Signer,
        clock: Clock,
        states: RoomStates,
        resolver: StateResolver,
        reader: StageReader,
        events: EventStore,
        numbers: Numbers,
    ) -> None:
        self._signer = signer
        self._clock = clock
        self._states = states
        self._resolver = resolver
        self._reader = reader
        self._events = events
        self._numbers = numbers
        self._last_create_ms = 0

    async def build_create(
        self, version: RoomVersion, room_id: str | None, draft: Draft
    ) -> tuple[RoomInfo, Event]:
        """A new room and its signed m.room.create event."""
        proto = self._proto(draft, _Context((), (), EMPTY), version)
        # Since v12 the room id is this event's hash: two rooms made alike in one millisecond would be one.
        self._last_create_ms = max(proto["origin_server_ts"], self._last_create_ms + 1)
        proto["origin_server_ts"] = self._last_create_ms
        if room_id is not None:
            proto["room_id"] = room_id
        if version.has_reference_pairs:
            proto["event_id"] = self._new_event_id()
        event = self._signer.sign(proto, version)
        [room_nid] = await self._numbers.rooms.take(1)
        return RoomInfo(room_nid, event.room_id, version), event

    async def place_create(self, stage: Stage, event: Event) -> PlacedEvent:
        """Put the create event at the start of a new room's stage."""
        draft = Draft(event.type, event.sender, event.content, state_key=event.state_key)
        return await self._judge_and_place(stage, draft, event, _Context((), (), EMPTY), [], None)

    async def prepare(self, stage: Stage, drafts: Iterable[Draft]) -> None:
        """Look up the numbers of all state keys that the drafts set or are judged by, in one query."""
        version = stage.head.room.version
        keys: dict[StateKey, None] = {CREATE: None}
        for draft in drafts:
            keys |= dict.fromkeys(
                select_auth_keys(version, draft.type, draft.sender, draft.state_key, draft.content)
            )
            if draft.state_key is not None:
                keys[draft.type, draft.state_key] = None
        await self._reader.look_up(stage, keys)

    async def add(self, stage: Stage, draft: Draft) -> PlacedEvent | SentEvent:
        """The draft as a placed event, or where the same request or state has ended up before.

        Raises Forbidden where the auth rules refuse it, TooLarge or BadJson for the event itself.
        """
        draft = _with_redacts(draft, stage.head.room.version)
        check_draft(draft)
        if not stage.head.extremities:
            # We know of the room, by an invite, but nobody of ours is in it.
            raise Forbidden("you are not in this room")
        if draft.transaction is not None:
            key = TransactionKey(draft.sender, draft.transaction.device_id, draft.transaction.key)
            done = stage.find_done(key)
            if done is not None:
                return done
        context = await self._context(stage)
        same = await self._find_same_state(stage, draft, context)
        if same is not None:
            return same
        if draft.needs_membership:
            await self._check_membership(stage, draft.sender)
        auth, create = await self._select_auth(stage, draft, context)
        redacts_nid = await self._check_redaction(stage, draft) if draft.redacts else 0
        proto = self._proto(draft, context, stage.head.room.version)
        proto["room_id"] = stage.head.room.room_id
        proto["auth_events"] = [record.event_id for record in auth]
        if stage.head.room.version.has_reference_pairs:
            await self._refer_by_hash(stage, proto)
        event = self._signer.sign(proto, stage.head.room.version)
        placed = await self._judge_and_place(stage, draft, event, context, auth, create)
        placed.redacts_nid = redacts_nid
        return placed

    async def _context(self, stage: Stage) -> _Context:
        head = stage.head
        if len(head.extremities) <= MAX_PREV_EVENTS:
            return _Context(head.extremities, (), head.root)
        # The deepest branches are the most recent conversation.
        by_depth = sorted(head.extremities, key=lambda e: (e.depth, e.event_nid), reverse=True)
        prevs = tuple(by_depth[:MAX_PREV_EVENTS])
        root = await self._resolver.resolve(stage, [e.root for e in prevs])
        return _Context(prevs, tuple(by_depth[MAX_PREV_EVENTS:]), root)

    def _proto(self, draft: Draft, context: _Context, version: RoomVersion) -> dict[str, Any]:
        proto: dict[str, Any] = {
            "type": draft.type,
            "sender": draft.sender,
            "content": draft.content,
            "origin_server_ts": self._clock.now_ms(),
            "depth": min(max((e.depth for e in context.prevs), default=0) + 1, version.max_depth),
            "prev_events": [e.event_id for e in context.prevs],
            "auth_events": [],
        }
        if draft.state_key is not None:
            proto["state_key"] = draft.state_key
        if draft.redacts is not None and "redacts" not in draft.content:
            proto["redacts"] = draft.redacts
        return proto

    def _new_event_id(self) -> str:
        return f"${secrets.token_urlsafe(18)}:{self._signer.server_name}"

    async def _refer_by_hash(self, stage: Stage, proto: dict[str, Any]) -> None:
        """v1 and v2: events have chosen ids and refer to others by (event_id, reference hash)."""
        proto["event_id"] = self._new_event_id()
        room = stage.head.room
        event_ids = [*proto["prev_events"], *proto["auth_events"]]
        staged = [placed.event for id in event_ids if (placed := stage.find_staged_id(id)) is not None]
        pdus = {event.event_id: event.pdu_json for event in staged}
        nids = await self._events.find_nids(room.room_nid, [id for id in event_ids if id not in pdus])
        stored = await self._events.get_pdu_json(list(nids.values()))
        pdus |= {event_id: stored[nid] for event_id, nid in nids.items()}
        for edges in ("prev_events", "auth_events"):
            proto[edges] = [reference_pair(id, pdus[id], room.version) for id in proto[edges]]

    async def _select_auth(
        self, stage: Stage, draft: Draft, context: _Context
    ) -> tuple[list[AuthRecord], AuthRecord | None]:
        """The auth events of the draft, from the state before it; and the create event, listed or not."""
        room = stage.head.room
        keys = select_auth_keys(room.version, draft.type, draft.sender, draft.state_key, draft.content)
        records = await self._reader.records_at(stage, context.root, [CREATE, *keys])
        return [records[key] for key in keys if key in records], records.get(CREATE)

    async def _check_current_state(self, stage: Stage, record: AuthRecord, version: RoomVersion) -> None:
        """Where an event does not build on all that we know, what we know must allow it too.

        Others would soft-fail it: server-server-api "Checks performed on receipt of a PDU", 6.
        """
        verdict = await self._reader.judge_by_state(stage, stage.head.root, record, version)
        if isinstance(verdict, Rejected):
            raise Forbidden(verdict.reason)

    async def _check_membership(self, stage: Stage, sender: str) -> None:
        found = await self._reader.records_at(stage, stage.head.root, [("m.room.member", sender)])
        if not any(record.membership == "join" for record in found.values()):
            raise Forbidden("you are not in this room any more")

    async def _find_same_state(
        self, stage: Stage, draft: Draft, context: _Context
    ) -> PlacedEvent | SentEvent | None:
        """The state event that says already what the draft would say."""
        if draft.state_key is None or not draft.deduplicate:
            return None
        key = (draft.type, draft.state_key)
        nid = (await self._reader.find_nids(stage, context.root, [key])).get(key)
        if nid is None:
            return None
        staged = stage.find_staged(nid)
        if staged is not None:
            same = staged.event.sender == draft.sender and _is_same(staged.event.content, draft.content)
            return staged if same else None
        record = await self._events.get(nid)
        if record.sender != draft.sender or not _is_same(record.content, draft.content):
            return None
        return SentEvent(record.event_id, nid, record.stream_ordering)

    async def _judge_and_place(
        self,
        stage: Stage,
        draft: Draft,
        event: Event,
        context: _Context,
        auth: Sequence[AuthRecord],
        create: AuthRecord | None,
    ) -> PlacedEvent:
        [nid] = await self._numbers.events.take(1)
        record = make_record(event, nid, auth)
        verdict = check_auth_list(event.version, record, auth, create)
        if isinstance(verdict, Rejected):
            raise BadJson(verdict.reason) if verdict.rule in _NEVER_ALLOWED else Forbidden(verdict.reason)
        if context.others:
            await self._check_current_state(stage, record, event.version)
        placed = PlacedEvent(
            event,
            nid,
            tuple(e.event_nid for e in context.prevs),
            context.root,
            context.root,
            record,
            transaction=draft.transaction,
        )
        if event.state_key is not None:
            await self._reader.enter_state(stage, placed, event.state_key)
        extremity = Extremity(nid, event.event_id, event.depth, placed.root)
        extremities = (*context.others, extremity)
        stage.place(placed)
        placed.room_root = await self._resolver.resolve(stage, [e.root for e in extremities])
        stage.advance(extremities, placed.room_root)
        return placed

    async def _check_redaction(self, stage: Stage, draft: Draft) -> int:
        """The number of the event to redact, where the sender may redact it; 0 for one that is not here.

        Spec: client-server-api "Redactions": one's own events, or with the level `redact`. What is not here may be
        at other servers, and may come yet: with the level it is redacted for all of them.
        """
        assert draft.redacts is not None
        room = stage.head.room
        staged = stage.find_staged_id(draft.redacts)
        if staged is not None:
            target_nid, target_sender = staged.event_nid, staged.event.sender
        else:
            target_nid = await self._events.find_nid(room.room_nid, draft.redacts) or 0
            target_sender = (await self._events.get(target_nid)).sender if target_nid else ""
        if target_sender != draft.sender:
            power = await self._power_levels(stage)
            if power.of_user(draft.sender) < power.redact:
                raise Forbidden("you may not redact this event") if target_nid else NotFound("no such event")
        return target_nid

    async def _power_levels(self, stage: Stage) -> PowerLevels:
        room = stage.head.room
        nids = await self._reader.find_nids(stage, stage.head.root, [CREATE, POWER])
        creator, create = await self._content_of(stage, nids[CREATE])
        levels = (await self._content_of(stage, nids[POWER]))[1] if POWER in nids else None
        return PowerLevels.of_contents(room.version, creator, create, levels)

    async def _content_of(self, stage: Stage, nid: int) -> tuple[str, dict[str, Any]]:
        staged = stage.find_staged(nid)
        if staged is not None:
            return staged.event.sender, staged.event.content
        record = await self._events.get(nid)
        return record.sender, record.content


def _with_redacts(draft: Draft, version: RoomVersion) -> Draft:
    """The draft of a redaction with its target where the room version wants it.

    Clients of old and new room versions name it beside or in the content (client-server-api "Redactions").
    """
    if draft.type != "m.room.redaction":
        return draft
    target = draft.redacts or draft.content.get("redacts")
    if not isinstance(target, str):
        raise BadJson("a redaction needs the id of the event that it redacts")
    content = {key: value for key, value in draft.content.items() if key != "redacts"}
    if version.redacts_in_content:
        content["redacts"] = target
    return replace(draft, content=content, redacts=target)


def _is_same(content: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    # To Python 1 and true are equal, to JSON they are not.
    return content == other and _sorted_json(content) == _sorted_json(other)


def _sorted_json(content: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(content, order="sorted")
