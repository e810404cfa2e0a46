"""The auth rules, rule by rule, in every room version that has them; the room is that of `auth_room`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hs.matrix.auth_rules import Accepted, Rejected, StateKey
from tests.matrix.auth_room import (
    ALL,
    CREATE,
    MESSAGE,
    POWER,
    RULES,
    TOPIC,
    A,
    B,
    C,
    Content,
    D,
    E,
    Event,
    F,
    G,
    K,
    Room,
    levels,
    member,
    power_event,
)


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
