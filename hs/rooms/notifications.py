"""Which thread each new event is in, and whom it notifies: judged once, when it is committed.

Spec: client-server-api module "Push Notifications"; modules "Threading" and "Receipts" on threads.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cachetools import LRUCache

from hs.matrix.power_levels import PowerLevels
from hs.matrix.push_evaluation import RoomFacts, compile_rules
from hs.matrix.relations import THREAD, Relation, find_relation
from hs.rooms.audience import PLAIN_RULES, Audience, JudgedEvent, is_room_mention, level_of
from hs.rooms.drafts import Judgement, Judgements
from hs.rooms.stage import PlacedEvent, Stage
from hs.rooms.state import RoomStates
from hs.storage.events import HIDDEN, EventStore
from hs.storage.notifications import EventThread, NotificationStore, UserRules
from hs.storage.room_writes import MemberRow
from hs.storage.rooms import RoomInfo

# A member takes about 300 bytes here: 150 MB when full. Rooms count for more than their members.
_CACHED_MEMBERS = 500_000
_ROOM_SIZE = 20
# About 300 bytes each.
_CACHED_THREADS = 50_000
# Rules that ask whether a room is larger than this see this number.
_COUNTED_MEMBERS = 10_000

# Compiling rules takes up to 100 microseconds for each user.
_MEMBERS_AT_ONCE = 200

_MAIN = EventThread(0, 0, "")
_CREATE = ("m.room.create", "")
_POWER = ("m.room.power_levels", "")
# Writing has read what came before; to be renamed in all rooms, or to clean up, is not to be looking.
_NO_READING = frozenset({"m.room.member", "m.room.redaction"})


class PushJudge:
    """Judges the events of a stage for all our users; keeps the members of busy rooms with their rules.

    Whoever calls holds the room's lane. After a stage whose commit failed, `forget` its room.
    """

    def __init__(
        self, store: NotificationStore, states: RoomStates, events: EventStore, server_name: str
    ) -> None:
        self._store = store
        self._states = states
        self._events = events
        self._server_name = server_name
        self._audiences: LRUCache[int, Audience] = LRUCache(
            _CACHED_MEMBERS, lambda audience: min(len(audience) + _ROOM_SIZE, _CACHED_MEMBERS)
        )
        self._threads: LRUCache[tuple[int, str], EventThread] = LRUCache(_CACHED_THREADS)

    def is_local(self, user_id: str) -> bool:
        """Whether the user is ours."""
        return user_id.partition(":")[2] == self._server_name

    def forget(self, room_nid: int) -> None:
        """Read again who is in the room."""
        self._audiences.pop(room_nid, None)

    def on_rules(self, user_id: str) -> None:
        """The user may have other push rules from now on, or ignore others."""
        for audience in self._audiences.values():
            # While an audience is being read it is not known who is in it.
            if user_id in audience or not audience.is_loaded:
                audience.changed.add(user_id)

    async def judge(
        self, stage: Stage, first: int, members: Sequence[MemberRow], gone_members: Sequence[str]
    ) -> Judgements:
        """The judgement of each placed event; the first gets the stream ordering `first`."""
        room = stage.head.room
        audience = self._audiences.get(room.room_nid) or await self._load(stage)
        for user_id in gone_members:
            audience.remove(user_id)
        local = [member for member in members if member.is_local]
        joining = await self._update_rules(room, audience, local)
        relations = [find_relation(placed.event.content) for placed in stage.placed]
        await self._look_up_threads(stage, [relation for relation in relations if relation is not None])
        judgements = []
        for i, (placed, relation) in enumerate(zip(stage.placed, relations, strict=True)):
            for member in local:
                if member.stream_ordering == first + i:
                    _move(audience, member, joining)
            judgements.append(await self._judge_event(stage, audience, placed, relation))
        if members or gone_members:
            # To be counted again once these are in the database; they themselves see the number before.
            audience.joined = None
        return Judgements(tuple(judgements), audience.take_flips())

    async def find_threads(self, stage: Stage) -> tuple[Judgement, ...]:
        """Which thread each of some old events is in; they notify nobody."""
        relations = [find_relation(placed.event.content) for placed in stage.placed]
        await self._look_up_threads(stage, [relation for relation in relations if relation is not None])
        return tuple(
            self._place_in_thread(stage.head.room.room_nid, placed, relation)
            for placed, relation in zip(stage.placed, relations, strict=True)
        )

    async def _load(self, stage: Stage) -> Audience:
        room = stage.head.room
        audience = self._audiences[room.room_nid] = Audience(room.room_id)
        if stage.committed.extremities:
            for i, member in enumerate(await self._store.list_members(room.room_nid)):
                audience.add(member.user_id, member.display_name, member.rules)
                if i % _MEMBERS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # others have their turn: rules of many users take a while
        audience.is_loaded = True
        # Only now its size is known.
        self._audiences.pop(room.room_nid, None)
        self._audiences[room.room_nid] = audience
        return audience

    async def _update_rules(
        self, room: RoomInfo, audience: Audience, members: Sequence[MemberRow]
    ) -> dict[str, UserRules]:
        """Take over changed rules; answers with the rules of those who join now."""
        joins = {m.user_id for m in members if m.membership == "join"}
        leaves = {m.user_id for m in members if m.membership != "join"}
        joins = {user_id for user_id in joins if user_id not in audience or user_id in leaves}
        if not audience.changed and not joins:
            return {}
        changed, audience.changed = audience.changed, set()
        found = await self._store.list_rules(room.room_nid, list(joins | changed))
        for user_id in changed:
            if user_id in audience:
                audience.set_rules(user_id, found[user_id].rules, found[user_id].ignored)
        return found

    # --- one event --------------------------------------------------------------------------------

    async def _judge_event(
        self, stage: Stage, audience: Audience, placed: PlacedEvent, relation: Relation | None
    ) -> Judgement:
        event, room_nid = placed.event, stage.head.room.room_nid
        place = self._place_in_thread(room_nid, placed, relation)
        if placed.flags & HIDDEN:
            return place
        facts = await self._facts(stage, audience, placed)
        judged = JudgedEvent(event)
        push = level_of(PLAIN_RULES.evaluate(judged.plain, facts))
        exceptions = await audience.judge(judged, push, facts)
        if event.type == "m.room.member" and event.content.get("membership") == "invite":
            exceptions |= await self._judge_invite(room_nid, judged, facts, event.state_key or "", push)
        return replace(place, push=push, exceptions=exceptions, is_reading=event.type not in _NO_READING)

    def _place_in_thread(self, room_nid: int, placed: PlacedEvent, relation: Relation | None) -> Judgement:
        thread = self._thread_of(room_nid, relation)
        self._threads[room_nid, placed.event.event_id] = EventThread(
            placed.event_nid, thread.root_nid, thread.root_id
        )
        return Judgement(relation, thread.root_nid, thread.root_id)

    async def _judge_invite(
        self, room_nid: int, event: JudgedEvent, facts: RoomFacts, target: str, push: int
    ) -> dict[str, tuple[int, int]]:
        """What it is to the user who is invited: one of us, and not in the room yet."""
        if not self.is_local(target):
            return {}
        found = (await self._store.list_rules(room_nid, [target]))[target]
        if event.sender in found.ignored:
            return {}
        level = level_of(compile_rules(found.rules, target).evaluate(event.plain, facts))
        return {target: (push, level)} if level != push else {}

    async def _facts(self, stage: Stage, audience: Audience, placed: PlacedEvent) -> RoomFacts:
        """What somebody's rules want to know; the rest is left out."""
        content, needs = placed.event.content, audience.needs
        joined = 0
        if "count" in needs:
            if audience.joined is None:
                room_nid = stage.head.room.room_nid
                audience.joined = await self._store.count_joined(room_nid, _COUNTED_MEMBERS)
            joined = audience.joined
        if "levels" not in needs and not is_room_mention(content):
            return RoomFacts(joined)
        levels = await self._levels(stage, audience, placed)
        return RoomFacts(joined, levels.of_user(placed.event.sender), levels.notifications)

    async def _levels(self, stage: Stage, audience: Audience, placed: PlacedEvent) -> PowerLevels:
        room = stage.head.room
        keys = (_CREATE, _POWER)
        ixs = {key: ix for key in keys if (ix := stage.find_key_ix(key)) is not None}
        if len(ixs) < len(keys):
            ixs |= await self._states.find_key_ixs(room.room_nid, [key for key in keys if key not in ixs])
        nids = await self._states.get_numbered(room.room_nid, placed.root, ixs)
        found = (nids.get(_CREATE, 0), nids.get(_POWER, 0))
        if audience.levels is None or audience.levels[0] != found:
            creator, create = await self._content_of(stage, found[0]) if found[0] else ("", {})
            content = (await self._content_of(stage, found[1]))[1] if found[1] else None
            audience.levels = (found, PowerLevels.of_contents(room.version, creator, create, content))
        return audience.levels[1]

    async def _content_of(self, stage: Stage, nid: int) -> tuple[str, dict[str, Any]]:
        staged = stage.find_staged(nid)
        if staged is not None:
            return staged.event.sender, staged.event.content
        record = await self._events.get(nid)
        return record.sender, record.content

    # --- threads ----------------------------------------------------------------------------------

    async def _look_up_threads(self, stage: Stage, relations: Sequence[Relation]) -> None:
        room_nid = stage.head.room.room_nid
        unknown = {
            relation.event_id
            for relation in relations
            if (room_nid, relation.event_id) not in self._threads
            and stage.find_staged_id(relation.event_id) is None
        }
        if unknown:
            for event_id, thread in (await self._store.list_threads(room_nid, list(unknown))).items():
                self._threads[room_nid, event_id] = thread

    def _thread_of(self, room_nid: int, relation: Relation | None) -> EventThread:
        """The thread of an event with this relation.

        An event that relates to one of a thread is in it, too, and is stored so: what relates to that finds
        the thread after one hop, however long the chain is.
        """
        if relation is None:
            return _MAIN
        parent = self._threads.get((room_nid, relation.event_id), _MAIN)
        if relation.rel_type == THREAD and parent.event_nid:
            return EventThread(0, parent.event_nid, relation.event_id)
        return parent


def _move(audience: Audience, member: MemberRow, joining: Mapping[str, UserRules]) -> None:
    user_id = member.user_id
    if member.membership != "join":
        audience.remove(user_id)
    elif user_id in audience:
        audience.names[user_id] = member.display_name
    else:
        audience.add(user_id, member.display_name, joining[user_id])
