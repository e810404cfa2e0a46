"""The auth rules, rule by rule, in every room version that has them.

The room: @a:x made it (100, or creator since v12), @c:x has 50, @b:x 0, all joined; @e:x is banned, @f:x invited,
@g:x knocks, @d:x never was there; others may only be invited; @k:y has 25 and is joined.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json

from hs._fast import event_auth
from hs.matrix.auth_rules import (
    Accepted,
    AuthRecord,
    Rejected,
    StateKey,
    Verdict,
    check_auth_list,
    check_auth_state,
    list_needed_keys,
    select_auth_keys,
    verify_third_party_signed,
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


@dataclass
class Case:
    """An event that a rule refuses (or none does) in these versions; `state` replaces events of the room."""

    what: str
    rule: str | Callable[[int], str | None] | None
    event: Event | Callable[[int], Event]
    versions: Iterable[int] = ALL
    state: list[Event] | Callable[[int], list[Event]] = field(default_factory=list)
    gone: list[StateKey] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)


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


def pl(number: int, sub: int | None = None) -> Callable[[int], str]:
    """A power levels rule by its number in v1; v10 put two rules before all but the first, v12 one more."""

    def rule(version: int) -> str:
        if number == 1:
            return "auth.power_levels.3" if version >= 10 else "auth.power_levels.1"
        shifted = number + (0 if version < 10 else 2 if version < 12 else 3)
        return f"auth.power_levels.{shifted}" + (f".{sub}" if sub else "")

    return rule


def otherwise_join(version: int) -> str:
    return "auth.member.join.7" if version >= 8 else "auth.member.join.6"


def unknown_membership(version: int) -> str:
    return f"auth.member.{6 if version < 7 else 7 if version == 7 else 8}"


def rule_of(join_rule: str) -> list[Event]:
    return [("m.room.join_rules", A, "", {"join_rule": join_rule})]


def with_levels(**content: Any) -> Callable[[int], list[Event]]:
    return lambda version: [power_event(A, levels(version, **dict(content)))]


def new_levels(sender: str, **content: Any) -> Callable[[int], Event]:
    return lambda version: power_event(sender, levels(version, **dict(content)))


def create(content: Content | None = None, sender: str = A) -> Callable[[int], Event]:
    def event(version: int) -> Event:
        return ("m.room.create", sender, "", {"creator": sender} if content is None else content)

    return event


TOPIC = ("m.room.topic", C, "", {"topic": "x"})
MESSAGE = ("m.room.message", B, None, {"body": "x"})
NEW_PREV = {"prev_event_ids": ["$create:x"]}

CASES = [
    # m.room.create
    Case("create", None, create()),
    Case("create with prev_events", "auth.create.1", create(), options={"prev_event_ids": ["$x"]}),
    Case("create of a foreign room id", "auth.create.2", create(), range(1, 12), options={"room_id": "!create:y"}),
    Case("create of an unknown version", "auth.create.3", create({"creator": A, "room_version": "99"})),
    Case("create of a version that is no string", "auth.create.3", create({"creator": A, "room_version": 1})),
    Case("create without creator", "auth.create.4", create({}), range(1, 11)),
    Case("create without creator since v11", None, create({}), range(11, 13)),
    Case("additional creators", None, create({"additional_creators": [B, K]}), [12]),
    Case("additional creators no list", "auth.create.4", create({"additional_creators": B}), [12]),
    Case("additional creator no user id", "auth.create.4", create({"additional_creators": [B, "b"]}), [12]),
    Case("additional creator no string", "auth.create.4", create({"additional_creators": [1]}), [12]),
    Case("additional creators mean nothing before", None, create({"additional_creators": 1, "creator": A}), range(1, 12)),
    # the room id, federation
    Case("room id of no create event", "auth.room_id", MESSAGE, [12], options={"room_id": "!other:x"}),
    Case("no create event", "auth.events.4", MESSAGE, range(1, 12), gone=[CREATE]),
    Case("no create event", "auth.room_id", MESSAGE, [12], gone=[CREATE]),
    Case("not federated", "auth.federate", ("m.room.message", K, None, {}),
         state=[("m.room.create", A, "", {"creator": A, "m.federate": False})]),
    Case("not federated, own server", None, MESSAGE,
         state=[("m.room.create", A, "", {"creator": A, "m.federate": False})]),
    Case("federate is null", None, ("m.room.message", K, None, {}),
         state=[("m.room.create", A, "", {"creator": A, "m.federate": None})]),
    # m.room.aliases
    Case("aliases of the own server by an outsider", None, ("m.room.aliases", D, "x", {}), range(1, 6)),
    Case("aliases without state_key", "auth.aliases.1", ("m.room.aliases", A, None, {}), range(1, 6)),
    Case("aliases of another server", "auth.aliases.2", ("m.room.aliases", A, "y", {}), range(1, 6)),
    Case("aliases are ordinary since v6", "auth.sender", ("m.room.aliases", D, "x", {}), range(6, 13)),
    Case("aliases are ordinary since v6", None, ("m.room.aliases", A, "y", {}), range(6, 13)),
    # m.room.member
    Case("member without state_key", "auth.member.1", ("m.room.member", B, None, {"membership": "join"})),
    Case("member without membership", "auth.member.1", ("m.room.member", B, B, {})),
    Case("unknown membership", unknown_membership, member(B, "hug")),
    Case("membership no string", unknown_membership, ("m.room.member", B, B, {"membership": 5})),
    Case("authoriser no string", "auth.member.2.1", member(B, "join", join_authorised_via_users_server=5), range(8, 13)),
    Case("authoriser no string before v8", None, member(B, "join", join_authorised_via_users_server=5), range(1, 8)),
    # join
    Case("the creator's first join", None, member(A, "join"), gone=[POWER, RULES, ("m.room.member", A)], options=NEW_PREV),
    Case("somebody else's first join", otherwise_join, member(B, "join"),
         gone=[POWER, RULES, ("m.room.member", B)], options=NEW_PREV),
    Case("the creator's second join", otherwise_join, member(A, "join"), gone=[("m.room.member", A)]),
    Case("first join, two prev_events", otherwise_join, member(A, "join"), gone=[("m.room.member", A)],
         options={"prev_event_ids": ["$create:x", "$x"]}),
    Case("creator by content before v11", None, member(B, "join"), range(1, 11),
         state=[("m.room.create", A, "", {"creator": B})], gone=[("m.room.member", B)], options=NEW_PREV),
    Case("creator by sender since v11", otherwise_join, member(B, "join"), range(11, 13),
         state=[("m.room.create", A, "", {"creator": B})], gone=[("m.room.member", B)], options=NEW_PREV),
    Case("additional creators get no free join", otherwise_join, member(B, "join"), [12],
         state=[("m.room.create", A, "", {"additional_creators": [B]})], gone=[("m.room.member", B)], options=NEW_PREV),
    Case("join for somebody else", "auth.member.join.2", member(D, "join", A)),
    Case("banned join", "auth.member.join.3", member(E, "join"), state=rule_of("public")),
    Case("invited join", None, member(F, "join")),
    Case("joined again", None, member(B, "join")),
    Case("uninvited join", otherwise_join, member(D, "join")),
    Case("join rule missing means invite", otherwise_join, member(D, "join"), gone=[RULES]),
    Case("join rule missing means invite", None, member(F, "join"), gone=[RULES]),
    Case("public join", None, member(D, "join"), state=rule_of("public")),
    Case("join of a private room", otherwise_join, member(F, "join"), state=rule_of("private")),
    Case("join rule no string", otherwise_join, member(F, "join"),
         state=[("m.room.join_rules", A, "", {"join_rule": 5})]),
    Case("knocking room, invited", None, member(F, "join"), range(7, 13), state=rule_of("knock")),
    Case("knocking room, knocked", otherwise_join, member(G, "join"), range(7, 13), state=rule_of("knock")),
    Case("knocking room before v7", otherwise_join, member(F, "join"), range(1, 7), state=rule_of("knock")),
    Case("restricted, invited", None, member(F, "join"), range(8, 13), state=rule_of("restricted")),
    Case("restricted, joined", None, member(B, "join"), range(8, 13), state=rule_of("restricted")),
    Case("restricted, nobody authorises", "auth.member.join.5.2", member(D, "join"), range(8, 13),
         state=rule_of("restricted")),
    Case("restricted, authorised", None, member(D, "join", join_authorised_via_users_server=C), range(8, 13),
         state=rule_of("restricted")),
    Case("restricted, authoriser may not invite", "auth.member.join.5.2",
         member(D, "join", join_authorised_via_users_server=B), range(8, 13),
         state=lambda v: [*rule_of("restricted"), power_event(A, levels(v, invite=50))]),
    Case("restricted, authoriser may invite", None,
         member(D, "join", join_authorised_via_users_server=C), range(8, 13),
         state=lambda v: [*rule_of("restricted"), power_event(A, levels(v, invite=50))]),
    Case("restricted, authoriser not joined", "auth.member.join.5.2",
         member(D, "join", join_authorised_via_users_server=F), range(8, 13), state=rule_of("restricted")),
    Case("restricted before v8", otherwise_join, member(F, "join"), range(1, 8), state=rule_of("restricted")),
    Case("knock_restricted, authorised", None, member(D, "join", join_authorised_via_users_server=C), range(10, 13),
         state=rule_of("knock_restricted")),
    Case("knock_restricted, nobody authorises", "auth.member.join.5.2", member(D, "join"), range(10, 13),
         state=rule_of("knock_restricted")),
    Case("knock_restricted before v10", otherwise_join, member(F, "join"), range(1, 10),
         state=rule_of("knock_restricted")),
    # invite
    Case("invite", None, member(D, "invite", B)),
    Case("invite of one who knocks", None, member(G, "invite", B)),
    Case("invite by an outsider", "auth.member.invite.2", member(D, "invite", F)),
    Case("invite of a member", "auth.member.invite.3", member(B, "invite", A)),
    Case("invite of a banned user", "auth.member.invite.3", member(E, "invite", A)),
    Case("invite without the level", "auth.member.invite.5", member(D, "invite", B), state=with_levels(invite=1)),
    Case("invite with the level", None, member(D, "invite", C), state=with_levels(invite=50)),
    # leave
    Case("leave", None, member(B, "leave")),
    Case("decline", None, member(F, "leave")),
    Case("take back a knock", None, member(G, "leave"), range(7, 13)),
    Case("take back a knock before v7", "auth.member.leave.1", member(G, "leave"), range(1, 7)),
    Case("leave without having been there", "auth.member.leave.1", member(D, "leave")),
    Case("banned leave", "auth.member.leave.1", member(E, "leave")),
    Case("kick by an outsider", "auth.member.leave.2", member(B, "leave", F)),
    Case("kick", None, member(B, "leave", C)),
    Case("kick without the level", "auth.member.leave.5", member(B, "leave", K)),
    Case("kick of an equal", "auth.member.leave.5", member(C, "leave", K),
         state=with_levels(users={K: 50})),
    Case("kick of a superior", "auth.member.leave.5", member(A, "leave", C)),
    Case("unban", None, member(E, "leave", C)),
    Case("unban without the ban level", "auth.member.leave.3", member(E, "leave", C), state=with_levels(ban=60)),
    Case("unban without the kick level", "auth.member.leave.5", member(E, "leave", C), state=with_levels(kick=60)),
    # ban
    Case("ban", None, member(B, "ban", C)),
    Case("ban of one who is not there", None, member(D, "ban", C)),
    Case("ban by an outsider", "auth.member.ban.1", member(B, "ban", F)),
    Case("ban without the level", "auth.member.ban.3", member(B, "ban", K)),
    Case("ban of an equal", "auth.member.ban.3", member(K, "ban", C), state=with_levels(users={K: 50})),
    Case("ban of oneself", "auth.member.ban.3", member(C, "ban", C)),
    Case("ban of the creator", "auth.member.ban.3", member(A, "ban", C), state=with_levels(users={C: 1000}), versions=[12]),
    # knock
    Case("knock", None, member(D, "knock"), range(7, 13), state=rule_of("knock")),
    Case("knock again", None, member(G, "knock"), range(7, 13), state=rule_of("knock")),
    Case("knock before v7", unknown_membership, member(D, "knock"), range(1, 7), state=rule_of("knock")),
    Case("knock at an invite room", "auth.member.knock.1", member(D, "knock"), range(7, 13)),
    Case("knock at a knock_restricted room", None, member(D, "knock"), range(10, 13), state=rule_of("knock_restricted")),
    Case("knock at one before v10", "auth.member.knock.1", member(D, "knock"), range(7, 10),
         state=rule_of("knock_restricted")),
    Case("knock for another", "auth.member.knock.2", member(D, "knock", B), range(7, 13), state=rule_of("knock")),
    *(Case(f"knock of {user}", "auth.member.knock.4", member(user, "knock"), range(7, 13), state=rule_of("knock"))
      for user in (B, E, F)),
    # everything else
    Case("message", None, MESSAGE),
    *(Case(f"message of {user}", "auth.sender", ("m.room.message", user, None, {})) for user in (D, E, F, G)),
    Case("third party invite", None, ("m.room.third_party_invite", B, "token", {})),
    Case("third party invite without the level", "auth.third_party_invite.1",
         ("m.room.third_party_invite", B, "token", {}), state=with_levels(invite=1)),
    Case("third party invite is no state_default", None, ("m.room.third_party_invite", B, "token", {}),
         state=with_levels(state_default=100)),
    Case("state needs 50", None, TOPIC),
    Case("state needs 50", "auth.required_power", ("m.room.topic", K, "", {})),
    Case("state needs 50 without power levels", "auth.required_power", TOPIC, gone=[POWER]),
    Case("the creator has 100 without power levels", None, ("m.room.topic", A, "", {}), gone=[POWER]),
    Case("state_default", "auth.required_power", TOPIC, state=with_levels(state_default=51)),
    Case("events_default", "auth.required_power", MESSAGE, state=with_levels(events_default=1)),
    Case("level of the type", "auth.required_power", TOPIC, state=with_levels(events={"m.room.topic": 51})),
    Case("level of the type goes first", None, ("m.room.topic", B, "", {}),
         state=with_levels(events={"m.room.topic": 0}, state_default=100)),
    Case("users_default", None, ("m.room.topic", B, "", {}), state=with_levels(users_default=50)),
    Case("creators stand above all", None, ("m.room.topic", A, "", {}), [12],
         state=with_levels(events={"m.room.topic": 2**53 - 1})),
    Case("a creator outside the room", "auth.sender", ("m.room.topic", A, "", {}), [12], gone=[("m.room.member", A)]),
    Case("additional creators stand above all", None, ("m.room.topic", B, "", {}), [12],
         state=[("m.room.create", A, "", {"additional_creators": [B]})]),
    Case("own user id as state_key", None, ("org.example.x", C, C, {})),
    Case("another's user id as state_key", "auth.state_key", ("org.example.x", C, B, {})),
    # m.room.power_levels
    Case("same levels", None, new_levels(C)),
    Case("levels by somebody without", "auth.required_power", new_levels(B)),
    Case("users no object", pl(1), power_event(A, {"users": []})),
    Case("users null", pl(1), power_event(A, {"users": None})),
    Case("user id no user id", pl(1), power_event(A, {"users": {"b": 5}})),
    Case("user id of no server", pl(1), power_event(A, {"users": {"@b:?": 5}})),
    Case("level no level", pl(1), power_event(A, {"users": {B: "x"}})),
    Case("level true", pl(1), power_event(A, {"users": {B: True}})),
    Case("level null", pl(1), power_event(A, {"users": {B: None}})),
    Case("levels as strings", None, new_levels(A, users={B: " +007 "}, ban="60"), range(1, 10)),
    Case("levels as strings since v10", "auth.power_levels.1", new_levels(A, ban="60"), range(10, 13)),
    Case("user's level as string since v10", pl(1), new_levels(A, users={B: "7"}), range(10, 13)),
    Case("event's level as string since v10", "auth.power_levels.2", new_levels(A, events={"x": "7"}), range(10, 13)),
    Case("notification as string since v10", "auth.power_levels.2", new_levels(A, notifications={"room": "7"}),
         range(10, 13)),
    Case("events no object since v10", "auth.power_levels.2", new_levels(A, events=5), range(10, 13)),
    Case("levels as floats", None, new_levels(A, users={B: 7.9}), range(1, 6)),
    Case("levels as floats since v6", pl(1), new_levels(A, users={B: 7.0}), range(6, 13)),
    Case("levels too large", pl(1), new_levels(A, users={B: 2**53}), range(6, 13)),
    Case("level infinite", pl(1), new_levels(A, users={B: float("inf")})),
    Case("creator among the users", "auth.power_levels.4", power_event(A, {"users": {A: 100}}), [12]),
    Case("additional creator among the users", "auth.power_levels.4", power_event(A, {"users": {B: 0}}), [12],
         state=[("m.room.create", A, "", {"additional_creators": [B]})]),
    Case("first levels", None, power_event(A, {"users": {B: 1000}, "ban": 1000}), gone=[POWER]),
    *(Case(f"{name} above the sender changed", pl(3, 1), new_levels(C, **{name: 50}),
           state=with_levels(**{name: 51}, events={"m.room.power_levels": 50}))
      for name in ("users_default", "events_default", "ban", "redact", "kick", "invite")
      if name != "users_default"),
    *(Case(f"{name} above the sender added", pl(3, 2), new_levels(C, **{name: 51}))
      for name in ("events_default", "state_default", "ban", "redact", "kick", "invite", "users_default")),
    Case("a level above the sender removed", pl(3, 1), new_levels(C, events={"m.room.power_levels": 50}),
         state=with_levels(ban=51, events={"m.room.power_levels": 50})),
    Case("a level of the sender's own changed", None, new_levels(C, ban=0), state=with_levels(ban=50)),
    Case("event above the sender changed", pl(4, 1), new_levels(C, events={"x": 5}), state=with_levels(events={"x": 51})),
    Case("event above the sender removed", pl(4, 1), new_levels(C), state=with_levels(events={"x": 51})),
    Case("event above the sender added", pl(5, 1), new_levels(C, events={"x": 51})),
    Case("event as high as the sender", None, new_levels(C, events={"x": 50})),
    Case("notifications are not guarded before v6", None, new_levels(C, notifications={"room": 51}), range(1, 6)),
    Case("notification above the sender added", pl(5, 1), new_levels(C, notifications={"room": 51}), range(6, 13)),
    Case("notification above the sender removed", pl(4, 1), new_levels(C), range(6, 13),
         state=with_levels(notifications={"room": 51})),
    Case("an equal's level changed", pl(6, 1), new_levels(C, users={K: 5}), state=with_levels(users={K: 50})),
    Case("an equal's level removed", pl(6, 1), new_levels(C), state=with_levels(users={B: 50})),
    Case("a superior's level changed", pl(6, 1), new_levels(C, users={K: 5}), state=with_levels(users={K: 51})),
    Case("a lesser's level raised to the own", None, new_levels(C, users={K: 50})),
    Case("a lesser's level raised above the own", pl(7, 1), new_levels(C, users={K: 51})),
    Case("a new user above the own", pl(7, 1), new_levels(C, users={B: 51})),
    Case("own level lowered", None, new_levels(C, users={C: 10})),
    Case("own level raised", pl(7, 1), new_levels(C, users={C: 51})),
    Case("an equal promoted by a creator", None, new_levels(A, users={K: 2**53 - 1}), [12]),
    # m.room.redaction
    Case("redaction with the level", None, ("m.room.redaction", C, None, {}), options={"redacts": "$x:y"}),
    Case("redaction of the same server's", None, ("m.room.redaction", B, None, {}), options={"redacts": "$x:x"}),
    Case("redaction of another server's", "auth.redaction.3", ("m.room.redaction", B, None, {}), [1, 2],
         options={"redacts": "$x:y"}),
    Case("redaction of nothing", "auth.redaction.3", ("m.room.redaction", B, None, {}), [1, 2]),
    Case("redactions are ordinary since v3", None, ("m.room.redaction", B, None, {}), range(3, 13),
         options={"redacts": "$x:y"}),
]  # fmt: skip


ROWS = [
    pytest.param(case, version, id=f"v{version}: {case.what}") for case in CASES for version in case.versions
]


@pytest.mark.parametrize(("case", "version"), ROWS)
def test_rule(case: Case, version: int) -> None:
    changes = case.state(version) if callable(case.state) else case.state
    room = Room(version, changes, case.gone)
    event = case.event(version) if callable(case.event) else case.event
    expected = case.rule(version) if callable(case.rule) else case.rule
    for verdict in room.judge(event, **case.options):
        if expected is None:
            assert verdict == Accepted()
        else:
            assert isinstance(verdict, Rejected)
            assert verdict.rule == expected, verdict.reason


# --- the list of auth events


@pytest.mark.parametrize("version", ALL)
class TestAuthList:
    def judge(self, room: Room, change: Callable[[list[AuthRecord]], list[AuthRecord]]) -> Verdict:
        record = room.record(TOPIC)
        return check_auth_list(room.version, record, change(room.auth_events(record)), room.state[CREATE])

    def rule(self, room: Room, change: Callable[[list[AuthRecord]], list[AuthRecord]]) -> str:
        verdict = self.judge(room, change)
        assert isinstance(verdict, Rejected)
        return verdict.rule

    def test_complete(self, version: int) -> None:
        assert self.judge(Room(version), lambda auth: auth) == Accepted()
        assert self.judge(Room(version), lambda auth: auth[::-1]) == Accepted()

    def test_the_same_twice(self, version: int) -> None:
        assert self.rule(Room(version), lambda auth: [*auth, auth[-1]]) == "auth.events.1"

    def test_a_rejected_one_does_not_hide_behind_another(self, version: int) -> None:
        room = Room(version)
        other = room.record(power_event(A, levels(version)), "$other:x", rejected=True)
        assert self.rule(room, lambda auth: [other, *auth]) == "auth.events.1"
        assert self.rule(room, lambda auth: [*auth, other]) == "auth.events.1"

    def test_one_that_does_not_belong(self, version: int) -> None:
        room = Room(version)
        assert self.rule(room, lambda auth: [*auth, room.state["m.room.member", B]]) == "auth.events.2"
        assert self.rule(room, lambda auth: [*auth, room.state[RULES]]) == "auth.events.2"
        message = room.record(MESSAGE)
        assert self.rule(room, lambda auth: [*auth, message]) == "auth.events.2"
        odd = room.record(("m.room.power_levels", A, "x", {}))
        assert self.rule(room, lambda auth: [*auth, odd]) == "auth.events.2"

    def test_a_rejected_one(self, version: int) -> None:
        room = Room(version)
        room.state["m.room.member", C] = room.record(member(C, "join"), rejected=True)
        assert self.rule(room, lambda auth: auth) == "auth.events.3"

    def test_without_create(self, version: int) -> None:
        room = Room(version)
        if version >= 12:
            assert self.rule(room, lambda auth: [room.state[CREATE], *auth]) == "auth.events.2"
        else:
            assert self.rule(room, lambda auth: auth[1:]) == "auth.events.4"

    def test_one_of_another_room(self, version: int) -> None:
        room = Room(version)
        room.state["m.room.member", C] = room.record(member(C, "join"), room_id="!other:x")
        assert self.rule(room, lambda auth: auth) == "auth.events.5"

    def test_one_out_of_the_store(self, version: int) -> None:
        room = Room(version)
        stored = event_auth.pack_record(room.state["m.room.member", C])
        room.state["m.room.member", C] = event_auth.unpack_record(7, [1], stored)
        assert self.judge(room, lambda auth: auth) == Accepted()

    def test_fewer_than_could_be(self, version: int) -> None:
        # Nothing demands that all are named, but what is not there does not help.
        room = Room(version)
        assert self.rule(room, lambda auth: [e for e in auth if e.type != "m.room.member"]) == "auth.sender"


def test_a_rejected_create_event_makes_no_room() -> None:
    room = Room(12)
    create_event = room.record(state_of(12)[0], "$create:x", rejected=True)
    record = room.record(TOPIC)
    verdict = check_auth_list(room.version, record, room.auth_events(record), create_event)
    assert verdict == Rejected("auth.room_id", "the room_id does not name an accepted create event")


# --- selection


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (("m.room.create", A, "", {}), None),
        (MESSAGE, [("m.room.member", B)]),
        (TOPIC, [("m.room.member", C)]),
        (member(B, "join"), [("m.room.member", B), RULES]),
        (member(B, "leave"), [("m.room.member", B)]),
        (member(B, "leave", A), [("m.room.member", A), ("m.room.member", B)]),
        (member(B, "ban", A), [("m.room.member", A), ("m.room.member", B)]),
        (member(D, "knock"), [("m.room.member", D), RULES]),
        (member(D, "invite", A), [("m.room.member", A), ("m.room.member", D), RULES]),
        (
            member(D, "invite", A, third_party_invite={"signed": {"token": "t"}}),
            [("m.room.member", A), ("m.room.member", D), RULES, ("m.room.third_party_invite", "t")],
        ),
        (member(D, "invite", A, third_party_invite=5), [("m.room.member", A), ("m.room.member", D), RULES]),
        (member(D, "leave", join_authorised_via_users_server=A), [("m.room.member", D)]),
    ],
)
def test_selection(version: int, event: Event, expected: list[StateKey] | None) -> None:
    type, sender, state_key, content = event
    keys = select_auth_keys(get_room_version(str(version)), type, sender, state_key, content)
    if expected is None:
        assert keys == []
    else:
        assert set(keys) == {*([CREATE] if version < 12 else []), POWER, *expected}
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("version", ALL)
def test_selection_of_the_authoriser_since_v8(version: int) -> None:
    type, sender, state_key, content = member(D, "join", join_authorised_via_users_server=C)
    keys = select_auth_keys(get_room_version(str(version)), type, sender, state_key, content)
    assert (("m.room.member", C) in keys) == (version >= 8)


# --- third-party invites

KEY = generate_signing_key("1")
PUBLIC = encode_verify_key_base64(get_verify_key(KEY))


def third_party_invite(signed: Any, sender: str = A, target: str = D) -> Event:
    return member(target, "invite", sender, third_party_invite={"display_name": "d", "signed": signed})


def signed_token(mxid: str = D, token: str = "token") -> Mapping[str, Any]:
    signed: dict[str, Any] = sign_json({"mxid": mxid, "token": token}, "id.example.org", KEY)
    return signed


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("event", "invite", "rule"),
    [
        (third_party_invite(signed_token()), {"public_key": PUBLIC}, None),
        (
            third_party_invite(signed_token()),
            {"public_key": "x", "public_keys": [{"public_key": PUBLIC}]},
            None,
        ),
        (third_party_invite(signed_token(E), target=E), {"public_key": PUBLIC}, "1.1"),
        (member(D, "invite", A, third_party_invite={}), {"public_key": PUBLIC}, "1.2"),
        (member(D, "invite", A, third_party_invite="x"), {"public_key": PUBLIC}, "1.2"),
        (third_party_invite({"mxid": D}), {"public_key": PUBLIC}, "1.3"),
        (third_party_invite({"token": "token"}), {"public_key": PUBLIC}, "1.3"),
        (third_party_invite(signed_token(B)), {"public_key": PUBLIC}, "1.4"),
        (third_party_invite(signed_token(token="other")), {"public_key": PUBLIC}, "1.5"),
        (third_party_invite(signed_token(), sender=B), {"public_key": PUBLIC}, "1.6"),
        (
            third_party_invite(signed_token()),
            {"public_key": PUBLIC.replace("/", "_").replace("+", "-")},
            None,
        ),
        (third_party_invite(signed_token()), {"public_key": "A" * 43}, "1.8"),
        (third_party_invite(signed_token()), {}, "1.8"),
        (third_party_invite({"mxid": D, "token": "token"}), {"public_key": PUBLIC}, "1.8"),
        (third_party_invite({**signed_token(), "more": 1}), {"public_key": PUBLIC}, "1.8"),
    ],
)
def test_third_party_invite(version: int, event: Event, invite: Content, rule: str | None) -> None:
    room = Room(version, [("m.room.third_party_invite", A, "token", invite)])
    for verdict in room.judge(event):
        if rule is None:
            assert verdict == Accepted()
        else:
            assert isinstance(verdict, Rejected)
            assert verdict.rule == f"auth.member.invite.{rule}"


@pytest.mark.parametrize(
    "signatures",
    [None, [], {"x": 5}, {"x": {"ed25519:1": 5}}, {"x": {"rsa:1": "x"}}, {"x": {"ed25519:1": "%"}}],
)
def test_odd_signatures_verify_nothing(signatures: Any) -> None:
    assert not verify_third_party_signed(
        {"mxid": D, "token": "t", "signatures": signatures}, [PUBLIC, "%", "é"]
    )


def test_the_number_of_signatures_to_try_is_bounded() -> None:
    signed = dict(signed_token())
    good = signed["signatures"]["id.example.org"]["ed25519:1"]
    many = {f"s{n}": {"ed25519:1": "A" * 86} for n in range(300)}
    assert not verify_third_party_signed(
        {**signed, "signatures": {**many, "z": {"ed25519:1": good}}}, [PUBLIC]
    )
