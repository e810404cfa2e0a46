"""A room of many members that two branches dispute, with real hashes, for benchmarks."""

from dataclasses import dataclass, field
from typing import Any

from hs._fast import event_auth, event_hash, state_tree
from hs._fast.auth_graph import AuthGraph
from hs._fast.state_tree import EMPTY, Node

ADMIN = "@admin:example.org"
FIRST_TS = 1_700_000_000_000


@dataclass
class BigRoom:
    """`branches` are the states after two branches that both changed the power levels and many members."""

    version: int
    events: dict[int, dict[str, Any]] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    records: dict[int, Any] = field(default_factory=dict)
    key_ixs: dict[tuple[str, str], int | None] = field(default_factory=dict)
    graph: AuthGraph = field(default_factory=AuthGraph)
    branches: list[Node] = field(default_factory=list)
    room_id: str = "!room:example.org"

    def add(
        self, type: str, sender: str, state_key: str, content: dict[str, Any], auth: list[int], depth: int
    ) -> int:
        nid = len(self.events) + 1
        pdu: dict[str, Any] = {
            "type": type,
            "sender": sender,
            "state_key": state_key,
            "content": content,
            "origin_server_ts": FIRST_TS + depth * 10,
            "depth": depth,
            "prev_events": [self.ids[nid - 1]] if nid > 1 else [],
            "auth_events": [self.ids[a] for a in auth],
        }
        if nid > 1 or self.version < 12:
            pdu["room_id"] = self.room_id
        hashes = event_hash.prepare_pdu(pdu, self.version)
        pdu |= {"hashes": {"sha256": hashes.content_hash}, "signatures": {}}
        self.events[nid], self.ids[nid] = pdu, hashes.event_id
        if nid == 1 and self.version >= 12:
            self.room_id = "!" + hashes.event_id[1:]
        record = event_auth.make_record(
            self.version, nid, hashes.event_id, type, state_key, sender, self.room_id, pdu["origin_server_ts"],
            depth, content, auth, prev_event_ids=pdu["prev_events"],
        )  # fmt: skip
        # As it comes out of the store.
        self.records[nid] = event_auth.unpack_record(nid, auth, event_auth.pack_record(record))
        self.graph.add(nid, auth)
        self.key_ixs.setdefault((type, state_key), len(self.key_ixs))
        return nid


def big_room(version: int, members: int, disputed: int) -> BigRoom:
    """A public room; each branch changes the power levels and then the profiles of the same `disputed` members."""
    room = BigRoom(version)
    roots = [] if version >= 12 else [1]
    creator = {"creator": ADMIN} if version <= 10 else {}
    levels = {} if version >= 12 else {ADMIN: 100}
    room.add("m.room.create", ADMIN, "", {"room_version": str(version), **creator}, [], 1)
    join = room.add("m.room.member", ADMIN, ADMIN, {"membership": "join"}, roots, 2)
    power = room.add("m.room.power_levels", ADMIN, "", {"users": levels}, [*roots, join], 3)
    rules = room.add("m.room.join_rules", ADMIN, "", {"join_rule": "public"}, [*roots, power, join], 4)
    users = [f"@user{number}:server{number % 500}.example.org" for number in range(members)]
    depth = 4
    state = {1: 0, join: 0, power: 0, rules: 0}
    joins = {}
    for user in users:
        depth += 1
        joins[user] = room.add(
            "m.room.member", user, user, {"membership": "join"}, [*roots, power, rules], depth
        )
    base = state_tree.set_many(
        EMPTY, [(room.key_ixs[_key(room, nid)], nid) for nid in [*state, *joins.values()]]
    )
    for branch in range(2):
        at = depth
        changes = []
        changed = {**levels, users[branch]: 50}
        at += 1
        own = room.add("m.room.power_levels", ADMIN, "", {"users": changed}, [*roots, power, join], at)
        changes.append(own)
        step = members // disputed
        for user in users[::step][:disputed]:
            at += 1
            content = {"membership": "join", "displayname": f"{user} {branch}"}
            changes.append(
                room.add("m.room.member", user, user, content, [*roots, own, rules, joins[user]], at)
            )
        tree = state_tree.set_many(base, [(room.key_ixs[_key(room, nid)], nid) for nid in changes])
        room.branches.append(tree)
    return room


def _key(room: BigRoom, nid: int) -> tuple[str, str]:
    return room.events[nid]["type"], room.events[nid]["state_key"]
