"""The list of auth events: what is selected, what is refused, and third-party invites."""

from collections.abc import Callable, Mapping
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
    select_auth_keys,
    verify_third_party_signed,
)
from hs.matrix.room_versions import get_room_version
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
    Room,
    levels,
    member,
    power_event,
    state_of,
)


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
