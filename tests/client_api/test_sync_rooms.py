"""GET /sync room by room: gaps, coming and going, lazily loaded members, summaries, filters."""

from typing import Any

import pytest

from tests.client_api.sync_client import (
    ask_sync,
    bodies,
    joined,
    members_of,
    room_ids,
    state_keys,
    sync,
    timeline_ids,
)
from tests.people import Person, Town

STRIPPED = {"content", "sender", "state_key", "type"}


def lazily(**timeline: Any) -> dict[str, Any]:
    return {"room": {"state": {"lazy_load_members": True}, "timeline": timeline}}


class TestGaps:
    async def test_a_gap_is_limited_and_its_prev_batch_pages_through_it(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        since = (await sync(alice))["next_batch"]
        sent = [await alice.say(room_id, f"{n}") for n in range(9)]
        section = joined(await sync(alice, since, filter={"room": {"timeline": {"limit": 3}}}), room_id)
        assert section["timeline"]["limited"] is True
        assert timeline_ids(section) == sent[-3:]
        gap = await page_back(alice, room_id, section["timeline"]["prev_batch"], since, 2)
        assert gap == sent[:-3][::-1]

    async def test_as_many_events_as_the_limit_are_no_gap(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        since = (await sync(alice))["next_batch"]
        sent = [await alice.say(room_id, f"{n}") for n in range(3)]
        section = joined(await sync(alice, since, filter={"room": {"timeline": {"limit": 3}}}), room_id)
        assert section["timeline"]["limited"] is False
        assert timeline_ids(section) == sent

    async def test_state_that_changed_in_a_gap_is_in_state(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", topic="old")
        since = (await sync(alice))["next_batch"]
        await alice.set_state(room_id, "m.room.topic", {"topic": "newer"})
        await alice.set_state(room_id, "m.room.topic", {"topic": "newest"})
        await bob.join(room_id)
        for n in range(5):
            await alice.say(room_id, f"{n}")
        await alice.set_state(room_id, "m.room.name", {"name": "in the timeline"})
        wanted = {"room": {"timeline": {"limit": 2}}}
        section = joined(await sync(alice, since, filter=wanted), room_id)
        state = {(e["type"], e["state_key"]): e["content"] for e in section["state"]["events"]}
        assert set(state) == {("m.room.topic", ""), ("m.room.member", bob.user_id)}
        assert state["m.room.topic", ""]["topic"] == "newest"
        assert section["summary"]["m.joined_member_count"] == 2

    async def test_members_of_a_gap_come_even_to_lazy_clients(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        since = (await sync(alice, filter=lazily()))["next_batch"]
        await bob.join(room_id)
        for n in range(5):
            await alice.say(room_id, f"{n}")
        section = joined(await sync(alice, since, filter=lazily(limit=2)), room_id)
        assert bob.user_id in members_of(section["state"]["events"])

    async def test_state_after_is_the_state_at_the_end_of_the_timeline(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(topic="old")
        first = joined(await sync(alice, use_state_after=True), room_id)
        assert "state" not in first
        assert ("m.room.topic", "") in state_keys(first["state_after"]["events"])
        since = (await sync(alice))["next_batch"]
        await alice.set_state(room_id, "m.room.topic", {"topic": "new"})
        section = joined(await sync(alice, since, use_state_after=True), room_id)
        assert "state" not in section
        assert [e["content"]["topic"] for e in section["state_after"]["events"]] == ["new"]
        await alice.say(room_id, "no state")
        body = await sync(alice, since, use_state_after=True, filter={"room": {"timeline": {"limit": 1}}})
        assert [e["content"].get("topic") for e in joined(body, room_id)["state_after"]["events"]] == ["new"]

    async def test_state_after_holds_the_lazy_members_whose_events_are_in_the_timeline(
        self, town: Town
    ) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await bob.say(room_id, "hello")
        body = await sync(alice, use_state_after=True, filter=lazily(limit=20))
        section = joined(body, room_id)
        both = {alice.user_id, bob.user_id}
        # The timeline tells of them, but the client must not take its state from there.
        assert members_of(section["timeline"]["events"]) == both
        assert members_of(section["state_after"]["events"]) == both
        await bob.say(room_id, "hello again")
        body = await sync(alice, body["next_batch"], use_state_after=True, filter=lazily(limit=20))
        assert members_of(joined(body, room_id)["state_after"]["events"]) == set()

    async def test_full_state_repeats_all_of_it(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(topic="here")
        since = (await sync(alice))["next_batch"]
        section = joined(await sync(alice, since, full_state=True), room_id)
        assert section["timeline"]["events"] == []
        assert {("m.room.create", ""), ("m.room.topic", "")} <= state_keys(section["state"]["events"])


async def page_back(person: Person, room_id: str, start: str, to: str | None, limit: int) -> list[str]:
    """Event ids from `start` back to `to`, page by page."""
    ids: list[str] = []
    token: str | None = start
    while token is not None:
        query = {"dir": "b", "from": token, "limit": str(limit)} | ({} if to is None else {"to": to})
        answer = await person.ask("GET", "rooms", room_id, "messages", query=query)
        assert answer.status == 200, answer
        ids += [event["event_id"] for event in answer.body["chunk"]]
        token = answer.body.get("end")
    return ids


class TestComingAndGoing:
    async def test_an_invite_has_the_stripped_state_of_the_room(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        since = (await sync(bob))["next_batch"]
        room_id = await alice.create_room(name="Club", topic="Secret", preset="private_chat")
        await alice.invite(room_id, bob.user_id)
        for body in (await sync(bob, since), await sync(bob)):
            events = body["rooms"]["invite"][room_id]["invite_state"]["events"]
            assert all(set(event) == STRIPPED for event in events)
            assert {
                ("m.room.create", ""),
                ("m.room.join_rules", ""),
                ("m.room.name", ""),
                ("m.room.topic", ""),
                ("m.room.member", alice.user_id),
                ("m.room.member", bob.user_id),
            } <= state_keys(events)
            own = next(event for event in events if event["state_key"] == bob.user_id)
            assert own["content"]["membership"] == "invite"
            assert room_id not in body["rooms"]["join"]

    async def test_an_invite_is_told_once(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room()
        await alice.invite(room_id, bob.user_id)
        since = (await sync(bob))["next_batch"]
        await alice.say(room_id, "not for the invited")
        assert room_ids(await sync(bob, since), "invite") == set()

    async def test_a_room_that_is_joined_comes_with_all_its_state(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="private_chat", name="Club")
        for n in range(4):
            await alice.say(room_id, f"before {n}")
        await alice.invite(room_id, bob.user_id)
        since = (await sync(bob))["next_batch"]
        await bob.join(room_id)
        body = await sync(bob, since, filter={"room": {"timeline": {"limit": 2}}})
        assert room_id not in body["rooms"]["invite"]
        section = joined(body, room_id)
        assert section["timeline"]["limited"] is True
        events = section["timeline"]["events"]
        assert events[-1]["state_key"] == bob.user_id
        assert {("m.room.create", ""), ("m.room.name", ""), ("m.room.member", alice.user_id)} <= state_keys(
            section["state"]["events"]
        )

    async def test_a_declined_invite_is_a_room_that_was_left(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(name="hidden from outsiders")
        await alice.invite(room_id, bob.user_id)
        since = (await sync(bob))["next_batch"]
        await bob.post("rooms", room_id, "leave")
        body = await sync(bob, since)
        assert room_ids(body, "leave") == {room_id}
        section = body["rooms"]["leave"][room_id]
        assert [e["content"]["membership"] for e in section["timeline"]["events"]] == ["leave"]
        assert "hidden from outsiders" not in str(section)
        assert room_ids(await sync(bob, body["next_batch"]), "leave") == set()

    @pytest.mark.parametrize("how", ["leave", "kick", "ban"])
    async def test_a_room_that_is_left_shows_up_once_until_the_leave(self, town: Town, how: str) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        since = (await sync(bob))["next_batch"]
        last = await alice.say(room_id, "last that bob hears")
        if how == "leave":
            await bob.post("rooms", room_id, "leave")
        else:
            await alice.post("rooms", room_id, how, body={"user_id": bob.user_id})
        await alice.say(room_id, "among us")
        body = await sync(bob, since)
        assert room_ids(body, "join") == set()
        section = body["rooms"]["leave"][room_id]
        assert timeline_ids(section)[0] == last
        end = section["timeline"]["events"][-1]
        assert (end["type"], end["state_key"]) == ("m.room.member", bob.user_id)
        assert end["content"]["membership"] == ("ban" if how == "ban" else "leave")
        assert "among us" not in str(section)
        later = await sync(bob, body["next_batch"])
        await alice.say(room_id, "still among us")
        assert room_ids(later, "leave") == room_ids(await sync(bob, later["next_batch"]), "leave") == set()

    async def test_rooms_left_long_ago_come_only_when_asked_for(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", topic="while bob was in")
        await bob.join(room_id)
        await bob.post("rooms", room_id, "leave")
        await alice.set_state(room_id, "m.room.topic", {"topic": "after bob"})
        assert room_ids(await sync(bob), "leave") == set()
        body = await sync(bob, filter={"room": {"include_leave": True, "timeline": {"limit": 2}}})
        section = body["rooms"]["leave"][room_id]
        assert "while bob was in" in str(section["state"])
        assert "after bob" not in str(section)
        await bob.post("rooms", room_id, "forget")
        body = await sync(bob, filter={"room": {"include_leave": True}})
        assert room_ids(body, "leave") == set()

    async def test_other_devices_learn_of_the_departure_though_it_is_forgotten_at_once(
        self, town: Town
    ) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        since = (await sync(bob))["next_batch"]
        await bob.post("rooms", room_id, "leave")
        await bob.post("rooms", room_id, "forget")
        body = await sync(bob, since)
        assert room_ids(body, "leave") == {room_id}
        assert body["rooms"]["leave"][room_id]["timeline"]["events"][-1]["content"]["membership"] == "leave"
        assert room_ids(await sync(bob, body["next_batch"]), "leave") == set()

    async def test_coming_back_brings_the_whole_room_again(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        since = (await sync(bob))["next_batch"]
        await bob.post("rooms", room_id, "leave")
        await alice.set_state(room_id, "m.room.topic", {"topic": "meanwhile"})
        await bob.join(room_id)
        body = await sync(bob, since, filter={"room": {"timeline": {"limit": 1}}})
        assert room_ids(body, "leave") == set()
        section = joined(body, room_id)
        assert {("m.room.create", ""), ("m.room.topic", "")} <= state_keys(section["state"]["events"])

    async def test_who_was_away_between_two_syncs_learns_which_lazy_members_changed(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await carol.join(room_id)
        since = (await sync(bob, filter=lazily()))["next_batch"]
        await bob.post("rooms", room_id, "leave")
        await carol.post("rooms", room_id, "leave")
        await bob.join(room_id)
        section = joined(await sync(bob, since, filter=lazily(limit=1)), room_id)
        # Bob's client has not seen him leave, so it still holds what it knew of the members.
        assert {bob.user_id, carol.user_id} <= members_of(
            section["state"]["events"] + section["timeline"]["events"]
        )

    async def test_a_profile_change_is_no_new_join(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        since = (await sync(alice))["next_batch"]
        name = {"displayname": "Queen Alice"}
        assert (await alice.put("profile", alice.user_id, "displayname", body=name)).status == 200
        section = joined(await sync(alice, since), room_id)
        assert len(section["timeline"]["events"]) == 1
        assert section["timeline"]["limited"] is False
        assert section["state"]["events"] == []

    async def test_a_knock_is_told_with_the_stripped_state(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        room_id = await alice.create_room(name="Ring", initial_state=[rules])
        since = (await sync(bob))["next_batch"]
        answer = await bob.post("knock", room_id)
        assert answer.status == 200, answer
        events = (await sync(bob, since))["rooms"]["knock"][room_id]["knock_state"]["events"]
        assert {("m.room.create", ""), ("m.room.name", "")} <= state_keys(events)
        assert all(set(event) == STRIPPED for event in events)


class TestLazyMembers:
    async def test_only_the_speakers_and_oneself_are_introduced(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await carol.join(room_id)
        for n in range(3):
            await bob.say(room_id, f"{n}")
        section = joined(await sync(alice, filter=lazily(limit=2)), room_id)
        assert members_of(section["state"]["events"]) >= {alice.user_id, bob.user_id}
        assert ("m.room.create", "") in state_keys(section["state"]["events"])

    async def test_heroes_are_introduced(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        for n in range(3):
            await alice.say(room_id, f"{n}")
        section = joined(await sync(alice, filter=lazily(limit=2)), room_id)
        assert section["summary"]["m.heroes"] == [bob.user_id]
        assert bob.user_id in members_of(section["state"]["events"])

    async def test_nobody_is_introduced_twice_unless_asked_for(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat", name="so that nobody is a hero")
        await bob.join(room_id)
        for n in range(3):
            await alice.say(room_id, f"{n}")
        since = (await sync(alice, filter=lazily(limit=2)))["next_batch"]
        await bob.say(room_id, "hello")
        body = await sync(alice, since, filter=lazily(limit=2))
        assert members_of(joined(body, room_id)["state"]["events"]) == {bob.user_id}
        # The answer may have been lost: who asks again from the same place is told again.
        body = await sync(alice, since, filter=lazily(limit=2))
        assert members_of(joined(body, room_id)["state"]["events"]) == {bob.user_id}
        await bob.say(room_id, "again")
        body = await sync(alice, body["next_batch"], filter=lazily(limit=2))
        assert members_of(joined(body, room_id)["state"]["events"]) == set()
        redundant = lazily(limit=2)
        redundant["room"]["state"]["include_redundant_members"] = True
        await bob.say(room_id, "and again")
        body = await sync(alice, body["next_batch"], filter=redundant)
        assert members_of(joined(body, room_id)["state"]["events"]) == {bob.user_id}


class TestSummary:
    async def test_counts_and_heroes_come_when_members_change(self, town: Town) -> None:
        alice, bob, carol = await town.people("alice", "bob", "carol")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        first = await sync(alice)
        summary = joined(first, room_id)["summary"]
        assert summary["m.joined_member_count"] == 2
        assert summary["m.invited_member_count"] == 0
        assert summary["m.heroes"] == [bob.user_id]
        await alice.say(room_id, "no change")
        second = await sync(alice, first["next_batch"])
        assert joined(second, room_id).get("summary", {}) in ({}, summary)
        await alice.invite(room_id, carol.user_id)
        third = joined(await sync(alice, second["next_batch"]), room_id)["summary"]
        assert (third["m.joined_member_count"], third["m.invited_member_count"]) == (2, 1)
        assert third["m.heroes"] == [bob.user_id, carol.user_id]

    async def test_those_who_left_stand_in_where_nobody_else_is_there(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        room_id = await alice.create_room(preset="public_chat")
        await bob.join(room_id)
        await bob.post("rooms", room_id, "leave")
        assert joined(await sync(alice), room_id)["summary"]["m.heroes"] == [bob.user_id]


class TestFilters:
    async def test_types_choose_what_is_in_the_timeline(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(topic="one")
        await alice.say(room_id, "hello")
        wanted = {"room": {"timeline": {"types": ["m.room.message"]}}}
        section = joined(await sync(alice, filter=wanted), room_id)
        assert [event["type"] for event in section["timeline"]["events"]] == ["m.room.message"]

    async def test_state_that_the_timeline_leaves_out_is_in_state(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room(topic="one")
        since = (await sync(alice))["next_batch"]
        await alice.set_state(room_id, "m.room.topic", {"topic": "two"})
        await alice.say(room_id, "hello")
        wanted = {"room": {"timeline": {"types": ["m.room.message"]}}}
        section = joined(await sync(alice, since, filter=wanted), room_id)
        assert bodies(section["timeline"]["events"]) == ["hello"]
        assert [event["content"]["topic"] for event in section["state"]["events"]] == ["two"]

    async def test_rooms_and_senders_can_be_left_out(self, town: Town) -> None:
        alice, bob = await town.people("alice", "bob")
        one = await alice.create_room(preset="public_chat")
        other = await alice.create_room()
        await bob.join(one)
        since = (await sync(alice))["next_batch"]
        await alice.say(one, "mine")
        await bob.say(one, "his")
        await alice.say(other, "elsewhere")
        wanted = {"room": {"not_rooms": [other], "timeline": {"not_senders": [bob.user_id]}}}
        body = await sync(alice, since, filter=wanted)
        assert room_ids(body, "join") == {one}
        assert bodies(joined(body, one)["timeline"]["events"]) == ["mine"]

    async def test_event_fields_cut_events_down(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        await alice.say(room_id, "hello")
        wanted = {"event_fields": ["type", "content.body"], "room": {"timeline": {"limit": 1}}}
        section = joined(await sync(alice, filter=wanted), room_id)
        assert section["timeline"]["events"] == [{"type": "m.room.message", "content": {"body": "hello"}}]

    async def test_the_federation_format_is_the_whole_pdu(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        await alice.say(room_id, "hello")
        wanted = {"event_format": "federation", "room": {"timeline": {"limit": 1}}}
        [event] = joined(await sync(alice, filter=wanted), room_id)["timeline"]["events"]
        assert {"auth_events", "prev_events", "hashes", "signatures", "depth", "content"} <= set(event)

    async def test_a_filter_can_be_named_by_its_id(self, town: Town) -> None:
        alice = await town.person("alice")
        room_id = await alice.create_room()
        await alice.say(room_id, "hello")
        wanted = {"room": {"timeline": {"types": ["m.room.message"]}}}
        answer = await alice.post("user", alice.user_id, "filter", body=wanted)
        assert answer.status == 200, answer
        section = joined(await sync(alice, filter=answer.body["filter_id"]), room_id)
        assert bodies(section["timeline"]["events"]) == ["hello"]

    @pytest.mark.parametrize(
        "text", ["{", '{"room": []}', "987654", "no such filter", '{"room":{"rooms":1}}']
    )
    async def test_what_is_no_filter_is_refused(self, town: Town, text: str) -> None:
        alice = await town.person("alice")
        answer = await ask_sync(alice, filter=text)
        assert 400 <= answer.status < 500
        assert answer.errcode is not None


async def test_a_room_that_was_left_comes_back_with_its_account_data(town: Town) -> None:
    anna, ben = await town.people("anna", "ben")
    room_id = await anna.create_room(preset="public_chat")
    await ben.join(room_id)
    await ben.put(
        "user", ben.user_id, "rooms", room_id, "account_data", "org.example.colour", body={"is": "red"}
    )
    answer = await ben.post("rooms", room_id, "leave")
    assert answer.status == 200
    since = (await ben.sync())["next_batch"]
    await ben.join(room_id)
    data = (await ben.sync(since))["rooms"]["join"][room_id]["account_data"]["events"]
    assert data == [{"type": "org.example.colour", "content": {"is": "red"}}]


async def test_an_uploaded_filter_is_the_filter_of_its_user(town: Town) -> None:
    anna, ben = await town.people("anna", "ben")
    rooms = {}
    for person, limit in ((anna, 1), (ben, 2)):
        rooms[person] = await person.create_room()
        uploaded = await person.post(
            "user", person.user_id, "filter", body={"room": {"timeline": {"limit": limit}}}
        )
        assert uploaded.body == {"filter_id": "0"}
    for _ in range(2):
        for person, limit in ((anna, 1), (ben, 2)):
            answer = await person.get("sync", filter="0")
            assert len(answer.body["rooms"]["join"][rooms[person]]["timeline"]["events"]) == limit


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("state_after", [True, False])
async def test_state_that_changed_unseen_is_not_undone_by_the_timeline(
    town: Town, is_first: bool, state_after: bool
) -> None:
    alice, bob, carol = await town.people("alice", "bob", "carol")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await carol.join(room_id)
    await carol.post("rooms", room_id, "leave")
    await alice.set_state(room_id, "m.room.history_visibility", {"history_visibility": "joined"})
    since = None if is_first else (await sync(bob))["next_batch"]
    await bob.post("rooms", room_id, "leave")
    await carol.join(room_id)
    await bob.join(room_id)
    options = {"use_state_after": "true"} if state_after else {}
    answer = await bob.get("sync", **options, **({"since": since} if since else {}))
    section = joined(answer.body, room_id)
    applied = section["state_after"]["events"] if state_after else section["state"]["events"]
    if not state_after:
        applied = applied + section["timeline"]["events"]
    members = {e["state_key"]: e["content"]["membership"] for e in applied if e["type"] == "m.room.member"}
    assert members == {person.user_id: "join" for person in (alice, bob, carol)}
    # What was cut off is behind the token.
    messages = await bob.get(
        "rooms", room_id, "messages", dir="b", limit="50", **{"from": section["timeline"]["prev_batch"]}
    )
    seen = [event["event_id"] for event in (*section["timeline"]["events"], *messages.body["chunk"])]
    assert len(seen) == len(set(seen))
    assert section["timeline"]["limited"] or is_first
