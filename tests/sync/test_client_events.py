"""How events look to clients: the spec's fields, and `unsigned` for the one who reads."""

from typing import Any

import msgspec
import pytest

from hs._fast.event_record import EventRecord
from hs.rooms.drafts import Draft, Transaction
from hs.storage.rooms import RoomInfo
from hs.sync.client_events import Viewer, stripped_json
from tests.rooms.conftest import ALICE, BOB
from tests.sync.reading import Library, library

__all__ = ["library"]

ON_PHONE = Viewer(ALICE, "PHONE")


async def record_of(library: Library, room: RoomInfo, event_id: str) -> EventRecord:
    nid = await library.engine.events.find_nid(room.room_nid, event_id)
    assert nid is not None
    return await library.engine.events.get(nid)


async def render(
    library: Library, room: RoomInfo, event_id: str, viewer: Viewer = ON_PHONE, **options: Any
) -> Any:
    record = await record_of(library, room, event_id)
    [event] = await library.client_events.render([record], viewer, **options)
    return msgspec.json.decode(event)


async def test_a_message_has_the_fields_of_the_client_format_and_no_others(library: Library) -> None:
    room = await library.make_room()
    event_id = await library.say(room, 'hello \u2028 \U0001f600 "quoted" \\ end')
    event = await render(library, room, event_id, with_room_id=True)
    assert event.pop("unsigned") == {"age": 0}
    assert event == {
        "event_id": event_id,
        "room_id": room.room_id,
        "type": "m.room.message",
        "sender": ALICE,
        "origin_server_ts": library.clock.time_ms,
        "content": {"body": 'hello \u2028 \U0001f600 "quoted" \\ end', "msgtype": "m.text"},
    }
    assert "room_id" not in await render(library, room, event_id)


async def test_the_age_grows_and_is_never_negative(library: Library) -> None:
    room = await library.make_room()
    event_id = await library.say(room, "hello")
    library.clock.time_ms += 1_234
    assert (await render(library, room, event_id))["unsigned"]["age"] == 1_234
    library.clock.time_ms -= 10_000
    assert (await render(library, room, event_id))["unsigned"]["age"] == 0


async def test_state_tells_what_it_replaced(library: Library) -> None:
    room = await library.make_room(topic="old")
    old_id = (await library.reader_state(room, "m.room.topic"))["event_id"]
    new_id = await library.set_state(room, "m.room.topic", {"topic": "new"})
    event = await render(library, room, new_id)
    assert event["state_key"] == ""
    assert event["unsigned"]["prev_content"]["topic"] == "old"
    assert event["unsigned"]["prev_sender"] == ALICE
    assert event["unsigned"]["replaces_state"] == old_id
    first = await render(library, room, old_id)
    assert "prev_content" not in first["unsigned"]


async def test_what_was_redacted_is_not_told_by_its_successor(library: Library) -> None:
    room = await library.make_room(topic="secret")
    old_id = (await library.reader_state(room, "m.room.topic"))["event_id"]
    new_id = await library.set_state(room, "m.room.topic", {"topic": "new"})
    # Once rendered, the event is kept ready.
    assert (await render(library, room, new_id))["unsigned"]["prev_content"]["topic"] == "secret"
    await library.redact(room, old_id)
    assert "secret" not in msgspec.json.encode(await render(library, room, new_id)).decode()


async def test_a_redacted_event_has_lost_its_content_and_says_why(library: Library) -> None:
    room = await library.make_room()
    event_id = await library.say(room, "secret")
    assert (await render(library, room, event_id))["content"]["body"] == "secret"
    redaction_id = await library.redact(room, event_id)
    event = await render(library, room, event_id)
    assert event["content"] == {}
    because = event["unsigned"]["redacted_because"]
    assert because["event_id"] == redaction_id
    assert because["sender"] == ALICE
    assert because["content"]["reason"] == "gone"


@pytest.mark.parametrize("version", ["10", "11"])
async def test_redactions_name_their_target_where_clients_of_each_version_look(
    library: Library, version: str
) -> None:
    room = await library.make_room(room_version=version)
    event_id = await library.say(room, "secret")
    redaction = await render(library, room, await library.redact(room, event_id))
    # Spec: since v11 `redacts` is in the content; servers give old clients a copy at the top, and new
    # clients one in the content of older rooms.
    assert redaction["redacts"] == event_id
    assert redaction["content"].get("redacts") == event_id


async def test_only_the_device_that_sent_it_knows_the_transaction_id(library: Library) -> None:
    room = await library.make_room()
    transaction = Transaction("PHONE", "send", 'a"b')
    draft = Draft("m.room.message", ALICE, {"body": "x"}, transaction=transaction)
    event_id = (await library.engine.writer.send(room, draft)).event_id
    assert (await render(library, room, event_id))["unsigned"]["transaction_id"] == 'a"b'
    for other in (Viewer(ALICE, "LAPTOP"), Viewer(BOB, "PHONE")):
        assert "transaction_id" not in (await render(library, room, event_id, other))["unsigned"]


async def test_the_reader_s_membership_is_told(library: Library) -> None:
    room = await library.make_room()
    event_id = await library.say(room, "x")
    record = await record_of(library, room, event_id)
    event = await render(library, room, event_id, memberships={record.event_nid: "invite"})
    assert event["unsigned"]["membership"] == "invite"


async def test_only_the_wanted_fields(library: Library) -> None:
    room = await library.make_room()
    event_id = await library.say(room, "x")
    shape = ("client", ("content.body", "type"))
    assert await render(library, room, event_id, shape=shape) == {
        "content": {"body": "x"},
        "type": "m.room.message",
    }


async def test_many_events_keep_their_order(library: Library) -> None:
    room = await library.make_room()
    records = [await record_of(library, room, await library.say(room, f"{n}")) for n in range(12)]
    rendered = await library.client_events.render(records[::-1], ON_PHONE)
    assert [msgspec.json.decode(event)["content"]["body"] for event in rendered] == [
        f"{n}" for n in reversed(range(12))
    ]


async def test_stripped_state_has_four_fields(library: Library) -> None:
    room = await library.make_room(name="Name")
    event_id = (await library.reader_state(room, "m.room.name"))["event_id"]
    stripped = msgspec.json.decode(stripped_json(await record_of(library, room, event_id)))
    assert stripped == {"type": "m.room.name", "state_key": "", "sender": ALICE, "content": {"name": "Name"}}


class TestMembershipAndPreviousContent:
    async def test_who_may_not_see_what_was_replaced_is_told_its_id_only(self, library: Library) -> None:
        room = await library.make_room(preset="public_chat")
        await library.set_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
        hidden = await library.set_state(room, "m.room.topic", {"topic": "secret"})
        await library.engine.memberships.join(room, BOB)
        seen = await library.set_state(room, "m.room.topic", {"topic": "open"})
        last = await library.set_state(room, "m.room.topic", {"topic": "last"})
        bob = Viewer(BOB, "PHONE")
        unsigned = (await render(library, room, seen, bob))["unsigned"]
        assert unsigned["replaces_state"] == hidden
        assert "prev_content" not in unsigned
        assert "prev_sender" not in unsigned
        assert (await render(library, room, last, bob))["unsigned"]["prev_content"] == {"topic": "open"}
        assert (await render(library, room, seen))["unsigned"]["prev_content"] == {"topic": "secret"}

    async def test_events_of_several_rooms_are_judged_each_in_its_own(self, library: Library) -> None:
        events = []
        for _ in range(2):
            room = await library.make_room(topic="old")
            events.append(
                await record_of(
                    library, room, await library.set_state(room, "m.room.topic", {"topic": "new"})
                )
            )
        for viewer, expected in ((ON_PHONE, True), (Viewer(BOB, "PHONE"), False)):
            rendered = await library.client_events.render(events, viewer)
            assert [b'"prev_content"' in event for event in rendered] == [expected, expected]

    async def test_memberships_at_events_of_before_and_after(self, library: Library) -> None:
        room = await library.make_room(preset="public_chat")
        ids = [await library.say(room, "before")]
        await library.engine.memberships.join(room, BOB)
        ids.append(await library.say(room, "during"))
        await library.engine.memberships.leave(room, BOB)
        ids.append(await library.say(room, "after"))
        records = [await record_of(library, room, event_id) for event_id in ids]
        found = await library.visibility.memberships(BOB, records)
        assert [found[record.event_nid] for record in records] == ["leave", "join", "leave"]
