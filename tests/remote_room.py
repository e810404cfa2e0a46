"""A room as a remote server has it: its events, the state at each of them, and what it does not tell.

    room = RemoteRoom.make("12", "@alice:remote", {"remote": key})
    text = room.say("@alice:remote", "hello")
    fork = [room.say("@alice:remote", "left", prev=[text]), room.say("@alice:remote", "right", prev=[text])]
    room.withheld.add(text.event_id)          # is never served again
    room.receive(pdu)                         # an event of another server

What is sent here may break every rule: `forge` makes events that `send` would not.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from signedjson.types import SigningKey

from hs._fast import event_auth, event_hash, state_tree
from hs._fast.state_tree import EMPTY, Node
from hs.matrix.auth_rules import Rejected
from hs.matrix.event import Event, add_signature, parse_event, pdu_dict, sign_event
from hs.matrix.keys import sign_bytes
from hs.matrix.signing import required_signers
from tests.room_builder import BuiltEvent, RoomBuilder

Pdu = dict[str, Any]

_numbers = itertools.count(1)


@dataclass
class RemoteRoom(RoomBuilder):
    """A room that remembers its extremities, takes events of others, and answers questions about its past."""

    withheld: set[str] = field(default_factory=set)
    is_public: bool = True
    # Who lets others in where the join rule is `restricted`; None says that nobody here may.
    authoriser: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._extremities: dict[str, BuiltEvent] = {}
        # Events whose previous ones are not here yet.
        self.waiting: dict[str, Pdu] = {}

    @classmethod
    def make(
        cls, version_id: str, creator: str, signing_keys: Mapping[str, SigningKey], **options: Any
    ) -> "RemoteRoom":
        """A new room with its creator in it; options as of `RoomBuilder.start`."""
        room = cls(version_id, signing_keys)
        # The room's id follows from its first event since v12: no two are made at the same time.
        room.first_ts += next(_numbers) * 1_000_000
        if not room.version.room_id_is_create_hash:
            room.room_id = f"!room{next(_numbers)}:{creator.partition(':')[2]}"
        room.start(creator, **options)
        return room

    @classmethod
    def from_join(
        cls,
        version_id: str,
        signing_keys: Mapping[str, SigningKey],
        state: Iterable[Pdu],
        auth_chain: Iterable[Pdu],
        join: Pdu,
    ) -> "RemoteRoom":
        """The room that an answer to /send_join describes; it ends in the join."""
        room = cls(version_id, signing_keys)
        events = [room.parse(pdu) for pdu in state]
        room._import([*events, *map(room.parse, auth_chain)])
        before = room._root_of([room.by_id[event.event_id] for event in events])
        room._add(room.parse(join), before, [])
        return room

    @property
    def extremities(self) -> list[BuiltEvent]:
        """The events that no other accepted event has as a previous one."""
        return list(self._extremities.values())

    @property
    def newest(self) -> BuiltEvent:
        """The event that came last."""
        return self.events[-1]

    @property
    def current(self) -> dict[tuple[str, str], BuiltEvent]:
        """The state after all of them."""
        return self.resolve(self.extremities)

    def membership(self, user_id: str) -> str | None:
        """What somebody is in the room now."""
        event = self.current.get(("m.room.member", user_id))
        return None if event is None else event.pdu["content"]["membership"]

    def servers(self) -> set[str]:
        """Those with joined members."""
        members = [event for (type, _), event in self.current.items() if type == "m.room.member"]
        joined = [event for event in members if event.pdu["content"].get("membership") == "join"]
        return {event.pdu["state_key"].partition(":")[2] for event in joined}

    # --- events of our own

    def send(self, type: str, sender: str, content: Mapping[str, Any], **options: Any) -> BuiltEvent:
        """One more event, as of `RoomBuilder.send`; its id is no other room's either."""
        if self.version.has_reference_pairs and options.get("event_id") is None:
            options["event_id"] = f"$e{next(_numbers)}:{sender.partition(':')[2]}"
        return super().send(type, sender, content, **options)

    def say(self, sender: str, text: str, **options: Any) -> BuiltEvent:
        """A message."""
        return self.send("m.room.message", sender, {"msgtype": "m.text", "body": text}, **options)

    def redact(self, sender: str, event: BuiltEvent, **options: Any) -> BuiltEvent:
        """A redaction of the event."""
        return self.send("m.room.redaction", sender, {}, redacts=event.event_id, **options)

    def forge(self, sender: str, type: str = "m.room.message", **fields: Any) -> Pdu:
        """A signed PDU that is checked by nobody and kept nowhere; `fields` replace its keys, None leaves one out."""
        pdu: Pdu = {
            "type": type,
            "sender": sender,
            "room_id": self.room_id,
            "content": {"msgtype": "m.text", "body": "forged"},
            "origin_server_ts": self.first_ts + (len(self.events) + 1) * 1000,
            "depth": max((event.pdu["depth"] for event in self.extremities), default=0) + 1,
            "prev_events": self.references(self.extremities),
            "auth_events": self.references(self.select_auth(type, sender, fields.get("state_key"), fields)),
        }
        if self.version.has_reference_pairs:
            pdu["event_id"] = f"$forged{len(self.events)}:{sender.partition(':')[2]}"
        pdu = {key: value for key, value in (pdu | fields).items() if value is not None}
        server = sender.partition(":")[2]
        assert self.signing_keys is not None
        hashes = event_hash.prepare_pdu({**pdu, "signatures": {}}, self.version.number)
        pdu["hashes"] = {"sha256": hashes.content_hash}
        pdu["signatures"] = sign_bytes(hashes.bytes_to_sign, {}, server, self.signing_keys[server])
        return pdu

    def select_auth(
        self, type: str, sender: str, state_key: str | None, fields: Mapping[str, Any]
    ) -> list[BuiltEvent]:
        """The auth events that the specification selects for an event after all others."""
        root, content = self.resolve_roots([e.root for e in self.extremities]), fields.get("content", {})
        keys = event_auth.select_auth_keys(self.version.number, type, sender, state_key, content)
        return [found for key in keys if (found := self.find(root, key)) is not None]

    def references(self, events: Sequence[BuiltEvent]) -> list[Any]:
        """How PDUs of this room refer to events."""
        ids = [event.event_id for event in events]
        return [[id, {}] for id in ids] if self.version.has_reference_pairs else ids

    # --- events of others

    def parse(self, pdu: Pdu) -> Event:
        """The event of a PDU; InvalidEvent where it is none."""
        return parse_event({key: value for key, value in pdu.items() if key != "unsigned"}, self.version)

    def check(self, event: Event) -> Rejected | None:
        """Whether and why the event would be rejected where it stands."""
        before = self.resolve_roots([self.by_id[id].root for id in event.prev_events])
        return self._judge_event(0, event, before)

    def receive(self, pdu: Pdu) -> list[BuiltEvent]:
        """Take an event of another server, and the ones that waited for it; nothing while it must wait itself."""
        event = self.parse(pdu)
        if event.event_id not in self.by_id:
            self.waiting[event.event_id] = pdu
        taken: list[BuiltEvent] = []
        while ready := [event for event in map(self.parse, self.waiting.values()) if self._has_prev(event)]:
            for event in ready:
                del self.waiting[event.event_id]
                prev = [self.by_id[id] for id in event.prev_events]
                taken.append(self._add(event, self.resolve_roots([p.root for p in prev]), prev))
        return taken

    def sign_for(self, event: Event) -> Event:
        """The event with the signature of each server that it needs and whose key is here."""
        for server in sorted(required_signers(event) & set(self.signing_keys or ())):
            event = add_signature(event, server, self.signing_keys[server])  # type: ignore[index]
        return event

    def finish(self, proto: Mapping[str, Any], server: str) -> tuple[Pdu, str]:
        """A draft as an event that the server has signed, and its id."""
        assert self.signing_keys is not None
        # Who made the template has no say in the id, which v1 and v2 choose.
        proto = {key: value for key, value in proto.items() if key != "event_id"}
        event = sign_event(proto, self.version, server, self.signing_keys[server])
        return pdu_dict(event), event.event_id

    def countersign(self, event: Event) -> Pdu:
        """The event with the signature of everybody here, as for invites."""
        for server, key in (self.signing_keys or {}).items():
            event = add_signature(event, server, key)
        return pdu_dict(event)

    # --- questions

    def served(self, events: Iterable[BuiltEvent]) -> list[Pdu]:
        """The PDUs, without those that are withheld."""
        return [event.pdu for event in events if event.event_id not in self.withheld]

    def auth_chain(self, events: Iterable[BuiltEvent]) -> list[BuiltEvent]:
        """All events that these rest on, themselves not included, oldest first."""
        found: dict[int, BuiltEvent] = {}
        left = [auth for event in events for auth in event.auth]
        while left:
            event = left.pop()
            if event.nid not in found:
                found[event.nid] = event
                left += event.auth
        return [found[nid] for nid in sorted(found)]

    def ancestors(self, ids: Collection[str], limit: int, stop: Collection[str] = ()) -> list[BuiltEvent]:
        """Events from these backwards, breadth first, these included; not past those of `stop`."""
        found: dict[str, BuiltEvent] = {}
        left = [self.by_id[id] for id in ids if id in self.by_id]
        while left and len(found) < limit:
            event = left.pop(0)
            if event.event_id not in found and event.event_id not in stop:
                found[event.event_id] = event
                left += event.prev
        return list(found.values())

    # --- keeping

    def _has_prev(self, event: Event) -> bool:
        known = all(id in self.by_id for id in (*event.prev_events, *event.auth_events))
        return known and bool(event.prev_events)

    def _keep(self, event: BuiltEvent) -> None:
        super()._keep(event)
        if event.rejected is None:
            for prev in event.prev:
                self._extremities.pop(prev.event_id, None)
            self._extremities[event.event_id] = event

    def _import(self, events: Sequence[Event]) -> None:
        """Outliers: what others rest on comes before them."""
        left = {event.event_id: event for event in events}
        while left:
            ready = [e for e in left.values() if not any(id in left for id in e.auth_events)]
            assert ready, f"the auth events go in a circle: {sorted(left)}"
            for event in ready:
                del left[event.event_id]
                self._add(event, EMPTY, [])
        self._extremities.clear()

    def _root_of(self, events: Sequence[BuiltEvent]) -> Node:
        items = [(self.key_ixs.setdefault(event.key, len(self.key_ixs)), event.nid) for event in events]
        return state_tree.set_many(EMPTY, sorted(items))

    def _judge_event(self, nid: int, event: Event, before: Node) -> Rejected | None:
        auth = [self.by_id[id] for id in event.auth_events]
        pdu = pdu_dict(event)
        return self._judge(self._record(nid, event.event_id, pdu, auth, rejected=False), before, auth)

    def _add(self, event: Event, before: Node, prev: list[BuiltEvent]) -> BuiltEvent:
        nid, pdu = len(self.events) + 1, pdu_dict(event)
        auth = [self.by_id[id] for id in event.auth_events if id in self.by_id]
        self.room_id = self.room_id or event.room_id
        # An outlier has no state that it could break.
        rejected = self._judge_event(nid, event, before) if before is not EMPTY else None
        record = self._record(nid, event.event_id, pdu, auth, rejected=rejected is not None)
        root = before
        if event.state_key is not None and rejected is None:
            ix = self.key_ixs.setdefault((event.type, event.state_key), len(self.key_ixs))
            root = state_tree.set_many(before, [(ix, nid)])
        built = BuiltEvent(nid, event.event_id, pdu, record, before, root, prev, auth, rejected)
        self._keep(built)
        return built


def with_bad_signature(pdu: Pdu) -> Pdu:
    """The PDU with signatures of something else."""
    wrong = "A" * 86
    return pdu | {
        "signatures": {name: dict.fromkeys(by_key, wrong) for name, by_key in pdu["signatures"].items()}
    }


def with_bad_hash(pdu: Pdu) -> Pdu:
    """The PDU with content that was not signed: its signature and its id are right, its hash is not."""
    return pdu | {"content": pdu["content"] | {"body": "somebody has changed this"}}
