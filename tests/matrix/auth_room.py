"""A room for the tests of the auth rules: records of a state in which everybody is something else.

@a:x made it (100, or creator since v12), @c:x has 50, @b:x 0, all joined; @e:x is banned, @f:x invited, @g:x
knocks, @d:x never was there; others may only be invited; @k:y has 25 and is joined.
"""

from collections.abc import Iterable
from typing import Any

from hs._fast import event_auth
from hs.matrix.auth_rules import (
    AuthRecord,
    StateKey,
    Verdict,
    check_auth_list,
    check_auth_state,
    list_needed_keys,
)
from hs.matrix.room_versions import get_room_version

A, B, C, D, E, F, G, K = (f"@{name}:{'y' if name == 'k' else 'x'}" for name in "abcdefgk")
ALL = range(1, 13)
CREATE = ("m.room.create", "")
POWER = ("m.room.power_levels", "")
RULES = ("m.room.join_rules", "")

Content = dict[str, Any]
Event = tuple[str, str, str | None, Content]  # type, sender, state_key, content


def member(user: str, membership: str, sender: str | None = None, **content: Any) -> Event:
    return "m.room.member", sender or user, user, {"membership": membership, **content}


def levels(version: int = 1, **content: Any) -> Content:
    users = {C: 50, K: 25} if version >= 12 else {A: 100, C: 50, K: 25}
    return {"users": {**users, **content.pop("users", {})}, **content}


def power_event(sender: str, content: Content) -> Event:
    return "m.room.power_levels", sender, "", content


def state_of(version: int) -> list[Event]:
    creator = {"creator": A} if version <= 10 else {}
    return [
        ("m.room.create", A, "", {"room_version": str(version), **creator}),
        power_event(A, levels(version)),
        ("m.room.join_rules", A, "", {"join_rule": "invite"}),
        *(member(user, "join") for user in (A, B, C, K)),
        member(E, "ban", A),
        member(F, "invite", A),
        member(G, "knock"),
    ]


TOPIC = ("m.room.topic", C, "", {"topic": "x"})
MESSAGE = ("m.room.message", B, None, {"body": "x"})


class Room:
    """Records of a state, with what is replaced replaced."""

    def __init__(self, version: int, changes: Iterable[Event] = (), gone: Iterable[StateKey] = ()) -> None:
        self.version = get_room_version(str(version))
        self.state: dict[StateKey, AuthRecord] = {}
        for event in (*state_of(version), *changes):
            key = (event[0], event[2] or "")
            self.state[key] = self.record(
                event, f"${event[0]}|{event[2]}:x" if key != CREATE else "$create:x"
            )
        for key in gone:
            self.state.pop(key, None)

    def record(self, event: Event, event_id: str = "$event:x", **options: Any) -> AuthRecord:
        type, sender, state_key, content = event
        options.setdefault("prev_event_ids", [] if type == CREATE[0] else ["$before:x"])
        options.setdefault("room_id", "!create:x")
        return event_auth.make_record(
            self.version.number, 1, event_id, type, state_key, sender,
            origin_server_ts=1, depth=1, content=content, auth_nids=(), **options,
        )  # fmt: skip

    def auth_events(self, record: AuthRecord) -> list[AuthRecord]:
        keys = list_needed_keys(self.version, record)
        return [
            self.state[key]
            for key in keys
            if key in self.state and not (key == CREATE and self.version.room_id_is_create_hash)
        ]

    def judge(self, event: Event, **options: Any) -> tuple[Verdict, Verdict]:
        """By the state, and by the auth events that the spec selects from it."""
        record = self.record(event, **options)
        return (
            check_auth_state(self.version, record, self.state),
            check_auth_list(self.version, record, self.auth_events(record), self.state.get(CREATE)),
        )
