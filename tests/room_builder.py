"""Builds rooms out of real events: real hashes, ids and auth events, real state before and after.

    room = RoomBuilder("12")
    room.start("@alice:a")                             # create, join, power levels, join rules
    ban = room.send("m.room.member", "@alice:a", {"membership": "ban"}, state_key="@bob:b")
    topic = room.send("m.room.topic", "@bob:b", {"topic": "x"}, state_key="", prev=[earlier])
    room.resolve([ban, topic])[("m.room.topic", "")]   # an event of the resolved state

An event that the auth rules refuse is in the room, but not in any state, with `rejected` saying why. With
`signing_keys` events are signed by the sender's server and come out as `parse_event` would make them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from signedjson.types import SigningKey

from hs._fast import event_auth, event_hash, state_res, state_tree
from hs._fast.auth_graph import AuthGraph
from hs._fast.state_tree import EMPTY, Node
from hs.matrix.auth_rules import AuthRecord, Rejected, StateKey, check_auth_list, check_auth_state
from hs.matrix.event import pdu_dict, sign_event
from hs.matrix.room_versions import get_room_version
from hs.matrix.state_res import MissingKeys, StateResolution

CREATE = ("m.room.create", "")


@dataclass(eq=False)
class BuiltEvent:
    """One event of a built room; `root` is the state after it, `before` the state before it."""

    nid: int
    event_id: str
    pdu: dict[str, Any]
    record: AuthRecord
    before: Node
    root: Node
    prev: list["BuiltEvent"]
    auth: list["BuiltEvent"]
    rejected: Rejected | None
    label: str = ""

    @property
    def key(self) -> StateKey:
        return self.pdu["type"], self.pdu["state_key"]

    def __repr__(self) -> str:
        return f"<{self.label or self.event_id} {self.pdu['type']} by {self.pdu['sender']}>"


@dataclass
class RoomBuilder:
    """A room that grows event by event; nothing is stored."""

    version_id: str = "12"
    signing_keys: Mapping[str, SigningKey] | None = None
    first_ts: int = 1_700_000_000_000
    events: list[BuiltEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.version = get_room_version(self.version_id)
        self.graph = AuthGraph()
        self.records: dict[int, AuthRecord] = {}
        self.key_ixs: dict[StateKey, int] = {}
        self.by_nid: dict[int, BuiltEvent] = {}
        self.by_id: dict[str, BuiltEvent] = {}
        self.create: BuiltEvent | None = None
        self.room_id = ""

    @property
    def extremities(self) -> list[BuiltEvent]:
        """The events that no other accepted event has as a previous one."""
        covered = {prev.nid for event in self.events if not event.rejected for prev in event.prev}
        return [event for event in self.events if event.nid not in covered and not event.rejected]

    # --- shorthands

    def start(
        self,
        creator: str,
        join_rule: str = "public",
        levels: Mapping[str, Any] | None = None,
        **create_content: Any,
    ) -> BuiltEvent:
        """A new room with its creator in it; the last of the four events. `levels` of None: 100 for the creator."""
        self.send("m.room.create", creator, create_content, state_key="")
        self.member(creator, creator, "join")
        if levels is None:
            levels = {"users": {} if self.version.privileged_creators else {creator: 100}}
        self.send("m.room.power_levels", creator, levels, state_key="")
        return self.send("m.room.join_rules", creator, {"join_rule": join_rule}, state_key="")

    def member(self, sender: str, target: str, membership: str, **options: Any) -> BuiltEvent:
        """A membership event."""
        content = {"membership": membership, **options.pop("content", {})}
        return self.send("m.room.member", sender, content, state_key=target, **options)

    # --- events

    def send(
        self,
        type: str,
        sender: str,
        content: Mapping[str, Any],
        *,
        state_key: str | None = None,
        prev: Sequence[BuiltEvent] | None = None,
        auth: Sequence[BuiltEvent] | None = None,
        ts: int | None = None,
        depth: int | None = None,
        redacts: str | None = None,
        event_id: str | None = None,
        label: str = "",
    ) -> BuiltEvent:
        """One more event; by default after all that came so far, with the auth events the spec selects."""
        nid = len(self.events) + 1
        prev = list(self.extremities if prev is None else prev)
        before = self.resolve_roots([event.root for event in prev])
        if type == CREATE[0] and not self.version.implicit_creator:
            content = {"creator": sender, **content}
        if type == CREATE[0]:
            content = {"room_version": self.version_id, **content}
            if not self.version.room_id_is_create_hash:
                self.room_id = self.room_id or f"!room:{sender.partition(':')[2]}"
        if auth is None:
            keys = event_auth.select_auth_keys(self.version.number, type, sender, state_key, dict(content))
            auth = [found for key in keys if (found := self.find(before, key)) is not None]
        pdu: dict[str, Any] = {
            "type": type,
            "sender": sender,
            "content": dict(content),
            "origin_server_ts": self.first_ts + nid * 1000 if ts is None else self.first_ts + ts,
            "depth": max((event.pdu["depth"] for event in prev), default=0) + 1 if depth is None else depth,
            "prev_events": [event.event_id for event in prev],
            "auth_events": [event.event_id for event in auth],
        }
        if type != CREATE[0] or not self.version.room_id_is_create_hash:
            pdu["room_id"] = self.room_id
        if state_key is not None:
            pdu["state_key"] = state_key
        if redacts is not None:
            pdu["redacts"] = redacts
        if self.version.has_reference_pairs:
            pdu["event_id"] = event_id or f"$event{nid}:{sender.partition(':')[2]}"
        pdu, event_id = self._finish(pdu)
        if type == CREATE[0] and self.version.room_id_is_create_hash:
            self.room_id = "!" + event_id[1:]
        record = self._record(nid, event_id, pdu, auth, rejected=False)
        rejected = self._judge(record, before, auth)
        if rejected is not None:
            record = self._record(nid, event_id, pdu, auth, rejected=True)
        root = before
        if state_key is not None:
            ix = self.key_ixs.setdefault((type, state_key), len(self.key_ixs))
            if rejected is None:
                root = state_tree.set_many(before, [(ix, nid)])
        event = BuiltEvent(nid, event_id, pdu, record, before, root, prev, list(auth), rejected, label)
        self._keep(event)
        return event

    def _finish(self, pdu: dict[str, Any]) -> tuple[dict[str, Any], str]:
        if self.signing_keys is not None:
            server = pdu["sender"].partition(":")[2]
            event = sign_event(pdu, self.version, server, self.signing_keys[server])
            return pdu_dict(event), event.event_id
        if self.version.has_reference_pairs:
            pdu = {
                **pdu,
                "prev_events": [[id, {}] for id in pdu["prev_events"]],
                "auth_events": [[id, {}] for id in pdu["auth_events"]],
            }
        hashes = event_hash.prepare_pdu(pdu, self.version.number)
        assert hashes.event_id is not None
        return {**pdu, "hashes": {"sha256": hashes.content_hash}, "signatures": {}}, hashes.event_id

    def _record(
        self, nid: int, event_id: str, pdu: dict[str, Any], auth: Sequence[BuiltEvent], rejected: bool
    ) -> AuthRecord:
        refs = pdu["prev_events"]
        return event_auth.make_record(
            self.version.number,
            nid,
            event_id,
            pdu["type"],
            pdu.get("state_key"),
            pdu["sender"],
            self.room_id,
            pdu["origin_server_ts"],
            pdu["depth"],
            pdu["content"],
            [event.nid for event in auth],
            prev_event_ids=[ref[0] for ref in refs] if self.version.has_reference_pairs else refs,
            redacts=pdu.get("redacts"),
            rejected=rejected,
        )

    def _judge(self, record: AuthRecord, before: Node, auth: Sequence[BuiltEvent]) -> Rejected | None:
        create = self.create.record if self.create is not None else None
        verdict = check_auth_list(self.version, record, [event.record for event in auth], create)
        if isinstance(verdict, Rejected):
            return verdict
        state = {}
        for key in event_auth.list_needed_keys(self.version.number, record):
            found = self.find(before, key)
            if found is not None:
                state[key] = found.record
        verdict = check_auth_state(self.version, record, state)
        return verdict if isinstance(verdict, Rejected) else None

    def _keep(self, event: BuiltEvent) -> None:
        self.events.append(event)
        self.records[event.nid] = event.record
        self.by_nid[event.nid] = self.by_id[event.event_id] = event
        self.graph.add(event.nid, event.record.auth_nids)
        if event.pdu["type"] == CREATE[0] and self.create is None:
            self.create = event

    # --- states

    def find(self, root: Node, key: StateKey) -> BuiltEvent | None:
        """The event of a state at a key."""
        ix = self.key_ixs.get(key)
        nid = state_tree.get(root, ix) if ix is not None else 0
        return self.by_nid[nid] if nid else None

    def state(self, root: Node) -> dict[StateKey, BuiltEvent]:
        """A whole state."""
        return {self.by_nid[nid].key: self.by_nid[nid] for _, nid in state_tree.items(root)}

    def resolve(self, events: Sequence[BuiltEvent]) -> dict[StateKey, BuiltEvent]:
        """The state before an event that has these as its previous ones."""
        return self.state(self.resolve_roots([event.root for event in events]))

    def resolve_roots(self, roots: Sequence[Node]) -> Node:
        """The resolution of states; what the algorithm asks for is handed to it bit by bit, as the server does."""
        if not roots:
            return EMPTY
        if len(roots) == 1:
            return roots[0]
        resolution = StateResolution(self.version, roots, self.graph)
        while True:
            try:
                resolved = resolution.run()
                break
            except MissingKeys as missing:
                resolution.add_keys(missing.keys, self.key_ixs)
            except state_res.Missing as missing:
                resolution.add_records({nid: self.records[nid] for nid in missing.ids})
        changes = [*resolved.changes, *((self.key_ixs[key], nid) for key, nid in resolved.new_keys.items())]
        return state_tree.set_many(roots[0], changes)
