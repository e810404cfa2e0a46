"""Sending messages, state and redactions."""

import asyncio
from typing import Any

import pytest

from tests.people import Answer, Person, Town, path


async def newest(person: Person, room_id: str, limit: int = 5) -> list[Any]:
    answer = await person.get("rooms", room_id, "messages", dir="b", limit=str(limit))
    assert answer.status == 200, answer
    chunk: list[Any] = answer.body["chunk"]
    return chunk


async def send(person: Person, room_id: str, type: str, txn: str, content: Any) -> Answer:
    return await person.put("rooms", room_id, "send", type, txn, body=content)


async def test_a_message_is_there_for_everybody(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    event_id = await alice.say(room_id, "hello")
    [event] = await newest(bob, room_id, 1)
    assert (event["event_id"], event["sender"], event["content"]["body"]) == (
        event_id,
        alice.user_id,
        "hello",
    )


async def test_a_transaction_id_counts_once_for_its_device(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    first = await alice.say(room_id, "once", txn="t1")
    assert await alice.say(room_id, "another text, the same transaction", txn="t1") == first
    assert [event["event_id"] for event in await newest(alice, room_id, 1)] == [first]


async def test_without_a_transaction_each_request_is_an_event(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    answers = [await alice.post("rooms", room_id, "send", "m.room.message", body={"body": "x"}) for _ in "12"]
    event_ids = [answer.body["event_id"] for answer in answers]
    assert [event["event_id"] for event in await newest(alice, room_id, 2)] == event_ids[::-1]
    redacted = await alice.post("rooms", room_id, "redact", event_ids[0], body={"reason": "twice"})
    assert redacted.status == 200
    assert (await alice.get("rooms", room_id, "event", event_ids[0])).body["content"] == {}
    for answer in (
        await bob.post("rooms", room_id, "send", "m.room.message"),
        await bob.post("rooms", room_id, "redact", event_ids[1]),
    ):
        assert answer.error == (403, "M_FORBIDDEN")


async def test_concurrent_repeats_of_a_request_make_one_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    ids = await asyncio.gather(*(alice.say(room_id, "once", txn="same") for _ in range(20)))
    assert len(set(ids)) == 1
    bodies = [event["content"].get("body") for event in await newest(alice, room_id, 30)]
    assert bodies.count("once") == 1


async def test_transactions_of_other_rooms_types_and_devices_are_others(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id, other = [await alice.create_room(preset="public_chat") for _ in range(2)]
    await bob.join(room_id)
    ids = {
        await alice.say(room_id, "a", txn="t"),
        await alice.say(other, "b", txn="t"),
        await bob.say(room_id, "c", txn="t"),
        (await send(alice, room_id, "org.example.type", "t", {})).body["event_id"],
    }
    assert len(ids) == 4


async def test_concurrent_sends_are_all_kept_in_one_order(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    sent = await asyncio.gather(
        *(person.say(room_id, f"{number}") for person in (alice, bob) for number in range(20))
    )
    seen = [event["event_id"] for event in await newest(bob, room_id, 40)]
    assert sorted(seen) == sorted(sent)
    assert seen == [event["event_id"] for event in await newest(alice, room_id, 40)]


async def test_nobody_speaks_in_a_room_they_are_not_in(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room()
    content = {"msgtype": "m.text", "body": "psst"}
    assert (await send(bob, room_id, "m.room.message", "t", content)).error == (403, "M_FORBIDDEN")
    unknown = await send(bob, "!unheardof:test.example", "m.room.message", "t", content)
    assert unknown.error == (403, "M_FORBIDDEN")
    await alice.invite(room_id, bob.user_id)
    assert (await send(bob, room_id, "m.room.message", "t", content)).error == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"{", (400, "M_NOT_JSON")),
        (b"\xff\xfe", (400, "M_NOT_JSON")),
        (b"[]", (400, "M_BAD_JSON")),
        (b'"text"', (400, "M_BAD_JSON")),
        (b"null", (400, "M_BAD_JSON")),
        (b'{"x": 1.5}', (400, "M_BAD_JSON")),
        (b'{"x": 9007199254740992}', (400, "M_BAD_JSON")),
        (b'{"x": [{"y": 1e400}]}', (400, "M_BAD_JSON")),
        (b'{"x": "' + b"x" * 66_000 + b'"}', (413, "M_TOO_LARGE")),
        (b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}", (400, "M_BAD_JSON")),
    ],
)
async def test_a_content_that_no_event_can_have(town: Town, data: bytes, error: Any) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    for parts in (("send", "m.room.message", "t"), ("state", "org.example.thing", "")):
        answer = await alice.raw("PUT", path("rooms", room_id, *parts), data)
        if data.startswith(b'{"x": [[') or b"[[[" in data:
            # How deep a JSON text may be is a matter of the decoder; refusing it is what counts.
            assert answer.status == 400, answer
        else:
            assert answer.error == error, (parts, answer)


async def test_the_numbers_at_the_edge_of_canonical_json_pass(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    content = {"low": -(2**53) + 1, "high": 2**53 - 1, "text": "\u0000 \U0001f600 \\"}
    sent = await send(alice, room_id, "org.example.numbers", "t", content)
    assert sent.status == 200, sent
    [event] = await newest(alice, room_id, 1)
    assert event["content"] == content


async def test_a_large_event_passes_and_a_larger_one_does_not(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    assert (await send(alice, room_id, "m.room.message", "t1", {"body": "x" * 60_000})).status == 200
    answer = await send(alice, room_id, "m.room.message", "t2", {"body": "x" * 65_400})
    assert answer.error == (413, "M_TOO_LARGE")


@pytest.mark.parametrize(
    ("type", "content"),
    [
        ("m.room.create", {}),
        ("m.room.member", {"membership": "join"}),
        ("m.room.create", {"room_version": "1"}),
    ],
)
async def test_what_must_be_state_is_no_message(town: Town, type: str, content: dict[str, Any]) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    # Nobody may ever send another create event.
    refusal = (400, "M_BAD_JSON") if type == "m.room.create" else (403, "M_FORBIDDEN")
    assert (await send(alice, room_id, type, "t", content)).error == refusal


async def test_a_room_has_one_create_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    answer = await alice.set_state(room_id, "m.room.create", {"room_version": "12", "new": True})
    assert answer.error == (400, "M_BAD_JSON")


@pytest.mark.parametrize(
    "parts",
    [
        ("send", "m.room.message", "t" * 256),
        ("send", "m.room.message", "nul\x00"),
        ("send", "nul\x00", "t"),
        ("state", "nul\x00", ""),
        ("state", "org.example.thing", "nul\x00"),
        ("redact", "no event", "t"),
        ("redact", "$nul\x00:test.example", "t"),
    ],
)
async def test_paths_that_no_client_would_ask_for(town: Town, parts: tuple[str, ...]) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    answer = await alice.put("rooms", room_id, *parts)
    assert answer.error == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("field", ["type", "state_key"])
async def test_names_longer_than_the_spec_allows(town: Town, field: str) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    type, state_key = ("x" * 256, "") if field == "type" else ("org.example.thing", "x" * 256)
    answer = await alice.set_state(room_id, type, {}, state_key)
    assert answer.status in (400, 413), answer
    assert answer.errcode in ("M_BAD_JSON", "M_TOO_LARGE", "M_INVALID_PARAM")


# state


@pytest.mark.parametrize("suffix", ["", "/"])
async def test_the_slash_before_an_empty_state_key_is_optional(town: Town, suffix: str) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    url = path("rooms", room_id, "state", "m.room.topic") + suffix
    answer = await alice.raw("PUT", url, b'{"topic": "short paths"}')
    assert answer.status == 200, answer
    assert await alice.state(room_id, "m.room.topic") == {"topic": "short paths"}
    for suffix_read in ("", "/"):
        read = await alice.raw("GET", path("rooms", room_id, "state", "m.room.topic") + suffix_read)
        assert read.body == {"topic": "short paths"}


async def test_old_paths_answer_like_new_ones(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    url = path("rooms", room_id, "state", "m.room.topic").replace("/v3/", "/r0/")
    assert (await alice.raw("PUT", url, b'{"topic": "r0"}')).status == 200
    assert await alice.state(room_id, "m.room.topic") == {"topic": "r0"}


async def test_state_that_changes_nothing_is_no_new_event(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    first = await alice.set_state(room_id, "m.room.topic", {"topic": "same"})
    again = await alice.set_state(room_id, "m.room.topic", {"topic": "same"})
    other = await alice.set_state(room_id, "m.room.topic", {"topic": "other"})
    assert first.body == again.body
    assert other.body != first.body


async def test_state_keys_with_slashes_and_odd_characters_stay_as_they_are(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    for state_key in ("a/b", "ä %2F ?#", " "):
        answer = await alice.set_state(room_id, "org.example.odd", {"key": state_key}, state_key)
        assert answer.status == 200, (state_key, answer)
        assert await alice.state(room_id, "org.example.odd", state_key) == {"key": state_key}


async def test_state_needs_the_level(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    answer = await bob.set_state(room_id, "m.room.topic", {"topic": "mine"})
    assert answer.error == (403, "M_FORBIDDEN")
    own = await bob.set_state(room_id, "org.example.own", {}, bob.user_id)
    assert own.error == (403, "M_FORBIDDEN")


async def test_a_server_acl_must_not_deny_this_server(town: Town) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    host = town.server_name.partition(":")[0]
    for content in ({}, {"allow": ["other.example"]}, {"allow": ["*"], "deny": [host.upper()]}):
        answer = await alice.set_state(room_id, "m.room.server_acl", content)
        assert answer.error == (400, "M_INVALID_PARAM")
    for content in ({"allow": ["*"]}, {"allow": [host], "deny": ["evil.example"]}):
        assert (await alice.set_state(room_id, "m.room.server_acl", content)).status == 200
    # With a key it is nothing that servers look at.
    assert (await alice.set_state(room_id, "m.room.server_acl", {}, "key")).status == 200


async def test_state_of_another_user_is_theirs(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat", power_level_content_override={"state_default": 0})
    await bob.join(room_id)
    assert (await bob.set_state(room_id, "org.example.own", {}, alice.user_id)).error == (403, "M_FORBIDDEN")
    assert (await bob.set_state(room_id, "org.example.own", {}, bob.user_id)).status == 200


@pytest.mark.parametrize(
    "levels",
    [
        {"users": {"not a user": 1}},
        {"events_default": "0"},
        {"users_default": 1.5},
        {"users": []},
        {"ban": None},
    ],
)
async def test_malformed_power_levels_are_refused(town: Town, levels: dict[str, Any]) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room()
    answer = await alice.set_state(room_id, "m.room.power_levels", levels)
    assert answer.status in (400, 403), answer


# redactions


async def redaction_room(town: Town) -> tuple[Person, Person, str]:
    alice, bob = await town.people("alice", "bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    return alice, bob, room_id


@pytest.mark.parametrize("version", ["10", "11", "12"])
@pytest.mark.parametrize("by_send", [False, True])
async def test_both_ways_to_redact_mean_the_same(town: Town, version: str, by_send: bool) -> None:
    alice = await town.person("alice")
    room_id = await alice.create_room(room_version=version)
    event_id = await alice.say(room_id, "gone soon")
    if by_send:
        content = {"redacts": event_id, "reason": "why not"}
        answer = await send(alice, room_id, "m.room.redaction", "t", content)
    else:
        answer = await alice.put("rooms", room_id, "redact", event_id, "t", body={"reason": "why not"})
    assert answer.status == 200, answer
    redacted = (await alice.get("rooms", room_id, "event", event_id)).body
    assert redacted["content"] == {}
    because = redacted["unsigned"]["redacted_because"]
    assert because["event_id"] == answer.body["event_id"]
    assert because["content"]["reason"] == "why not"
    redaction = (await alice.get("rooms", room_id, "event", answer.body["event_id"])).body
    # Clients of either age find the id where they look for it.
    assert redaction["redacts"] == event_id
    assert redaction["content"].get("redacts") == event_id


async def test_repeated_redactions_count_once(town: Town) -> None:
    alice, _, room_id = await redaction_room(town)
    event_id = await alice.say(room_id, "gone soon")
    first = await alice.put("rooms", room_id, "redact", event_id, "t")
    again = await alice.put("rooms", room_id, "redact", event_id, "t")
    assert first.status == 200
    assert first.body == again.body


async def test_people_redact_their_own_and_moderators_everything(town: Town) -> None:
    alice, bob, room_id = await redaction_room(town)
    by_alice, by_bob = await alice.say(room_id, "a"), await bob.say(room_id, "b")
    assert (await bob.put("rooms", room_id, "redact", by_alice, "1")).error == (403, "M_FORBIDDEN")
    assert (await bob.put("rooms", room_id, "redact", by_bob, "2")).status == 200
    assert (await alice.put("rooms", room_id, "redact", by_bob, "3")).status == 200
    assert (await alice.put("rooms", room_id, "redact", by_alice, "4")).status == 200


async def test_a_redaction_needs_something_to_redact(town: Town) -> None:
    alice, bob, room_id = await redaction_room(town)
    unknown = "$" + "A" * 43
    assert (await bob.put("rooms", room_id, "redact", unknown, "t")).error == (404, "M_NOT_FOUND")
    # It may be at other servers of the room.
    assert (await alice.put("rooms", room_id, "redact", unknown, "t")).status == 200
    assert (await send(alice, room_id, "m.room.redaction", "1", {})).error == (400, "M_MISSING_PARAM")
    assert (await send(alice, room_id, "m.room.redaction", "2", {"redacts": 5})).error == (400, "M_BAD_JSON")


async def test_an_event_of_another_room_is_not_redacted_from_here(town: Town) -> None:
    alice, bob, room_id = await redaction_room(town)
    private = await bob.create_room()
    secret = await bob.say(private, "secret")
    assert (await alice.put("rooms", room_id, "redact", secret, "t")).status == 200
    assert (await bob.put("rooms", room_id, "redact", secret, "t")).error == (404, "M_NOT_FOUND")
    assert (await bob.get("rooms", private, "event", secret)).body["content"]["body"] == "secret"
