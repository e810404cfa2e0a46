"""Disputes: small rooms whose branches disagree, with the outcome that the spec demands, as JSON.

tests/fixtures/disputes/NAME.json:
    what      the dispute in a sentence
    room      creator, join_rule, levels: its first four events are called create, join, levels and rules
    events    label, type, sender, state_key, content, ts (milliseconds after the start), and where they are not
              the event before and what the spec selects: prev and auth, lists of labels
    resolve   the states to resolve: labels (the state after that event) or lists of labels (a state as given)
    expect    for some room versions: why, and "type|state_key" -> the label that must be there, or null;
              `rejected`: labels of the events that the auth rules must refuse

In room versions with privileged creators the loader leaves the creator out of all `users`.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hs._fast import state_tree
from hs._fast.state_tree import EMPTY, Node
from hs.matrix.auth_rules import StateKey
from tests.room_builder import BuiltEvent, RoomBuilder

FOLDER = Path(__file__).parent / "fixtures" / "disputes"


@dataclass(frozen=True)
class Expectation:
    """What must come out in one room version."""

    name: str
    version_id: str
    why: str
    state: dict[StateKey, str | None]
    rejected: frozenset[str]
    text: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name} v{self.version_id}"


def load_disputes() -> list[Expectation]:
    """All disputes, once for each room version that they say something about."""
    return [
        Expectation(
            path.stem,
            version_id,
            expect["why"],
            {(key.split("|")[0], key.split("|")[1]): label for key, label in expect["state"].items()},
            frozenset(expect.get("rejected", ())),
            text,
        )
        for path in sorted(FOLDER.glob("*.json"))
        for text in [json.loads(path.read_text())]
        for expect in text["expect"]
        for version_id in expect["versions"]
    ]


class Dispute:
    """A room built from a dispute's events, in the order of the file or in another one that is possible."""

    def __init__(self, expectation: Expectation, order: Random | None = None) -> None:
        self.text = expectation.text
        self.room = RoomBuilder(expectation.version_id)
        self.events: dict[str, BuiltEvent] = {}
        waiting = list(self._plan())
        while waiting:
            ready = [
                event for event in waiting if self.events.keys() >= {*event["prev"], *event.get("auth", ())}
            ]
            chosen = ready[0] if order is None else order.choice(ready)
            waiting.remove(chosen)
            self._send(chosen)
            if order is not None:
                self.room.resolve(self.room.extremities)  # as a server does that gets them one by one

    def _plan(self) -> Iterable[dict[str, Any]]:
        start = self.text["room"]
        creator = start["creator"]
        state: dict[str, Any] = {"sender": creator, "state_key": ""}
        yield {**state, "label": "create", "type": "m.room.create", "content": {}, "prev": [], "ts": 0}
        member = {"type": "m.room.member", "state_key": creator, "content": {"membership": "join"}}
        yield {**state, **member, "label": "join", "prev": ["create"], "ts": 1}
        levels = {"type": "m.room.power_levels", "content": start["levels"]}
        yield {**state, **levels, "label": "levels", "prev": ["join"], "ts": 2}
        rules = {"type": "m.room.join_rules", "content": {"join_rule": start["join_rule"]}}
        yield {**state, **rules, "label": "rules", "prev": ["levels"], "ts": 3}
        before = "rules"
        for number, event in enumerate(self.text["events"], 1):
            yield {"state_key": "", "ts": number * 1000, "prev": [before], **event}
            before = event["label"]

    def _send(self, event: dict[str, Any]) -> None:
        content = dict(event["content"])
        if self.room.version.privileged_creators and "users" in content:
            creator = self.text["room"]["creator"]
            content["users"] = {user: level for user, level in content["users"].items() if user != creator}
        label = event["label"]
        self.events[label] = self.room.send(
            event["type"],
            event["sender"],
            content,
            state_key=event["state_key"],
            prev=[self.events[prev] for prev in event["prev"]],
            auth=[self.events[auth] for auth in event["auth"]] if "auth" in event else None,
            ts=event["ts"],
            event_id=f"${label}:{event['sender'].partition(':')[2]}",
            label=label,
        )

    def roots(self) -> list[Node]:
        """The states to resolve."""
        return [self._root(entry) for entry in self.text["resolve"]]

    def _root(self, entry: str | Sequence[str]) -> Node:
        if isinstance(entry, str):
            return self.events[entry].root
        nids = [(self.room.key_ixs[self.events[label].key], self.events[label].nid) for label in entry]
        return state_tree.set_many(EMPTY, nids)

    def labels(self, state: dict[StateKey, BuiltEvent]) -> dict[StateKey, str]:
        """A state in words."""
        return {key: event.label for key, event in state.items()}

    def resolve(self, roots: Sequence[Node]) -> dict[StateKey, str]:
        """The resolution of states in words."""
        return self.labels(self.room.state(self.room.resolve_roots(roots)))
