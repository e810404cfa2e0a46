"""Who sees which events, rule by rule (client-server-api "Room history visibility")."""

from typing import Any

import pytest

from hs._fast.event_record import EventRecord
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE, BOB
from tests.sync.reading import Library, library

__all__ = ["library"]

VISIBILITY = "m.room.history_visibility"


async def room_with(library: Library, visibility: str | None, **wishes: Any) -> RoomInfo:
    content = {} if visibility is None else {"history_visibility": visibility}
    state = [{"type": VISIBILITY, "content": content}]
    return await library.make_room(preset="public_chat", initial_state=state, **wishes)


async def records(library: Library, room: RoomInfo) -> list[EventRecord]:
    """The room's events, oldest first."""
    page = await library.page(room, dir="f", limit=1000)
    event_ids = [event["event_id"] for event in page["chunk"]]
    nids = await library.engine.events.find_nids(room.room_nid, event_ids)
    found = await library.engine.events.get_many(list(nids.values()))
    return [found[nids[event_id]] for event_id in event_ids]


async def seen_texts(library: Library, room: RoomInfo, user_id: str = BOB) -> list[str]:
    """Texts of the messages that the user may see."""
    seen = await library.visibility.filter(user_id, await records(library, room))
    return [one.record.content["body"] for one in seen if one.record.type == "m.room.message"]


async def life(library: Library, room: RoomInfo) -> None:
    """Bob is a stranger, invited, in, out, and in again; each time Alice says what he is."""
    memberships = library.engine.memberships
    await library.say(room, "stranger")
    await memberships.invite(room, ALICE, BOB)
    await library.say(room, "invited")
    await memberships.join(room, BOB)
    await library.say(room, "in")
    await memberships.leave(room, BOB)
    await library.say(room, "out")


@pytest.mark.parametrize(
    ("visibility", "seen", "seen_after_return"),
    [
        ("world_readable", ["stranger", "invited", "in", "out"], ["stranger", "invited", "in", "out"]),
        ("shared", ["stranger", "invited", "in"], ["stranger", "invited", "in", "out"]),
        ("invited", ["invited", "in"], ["invited", "in"]),
        ("joined", ["in"], ["in"]),
        # Nothing set, or nothing understood, is shared.
        (None, ["stranger", "invited", "in"], ["stranger", "invited", "in", "out"]),
        ("sideways", ["stranger", "invited", "in"], ["stranger", "invited", "in", "out"]),
    ],
)
async def test_each_visibility_through_a_life(
    library: Library, visibility: str | None, seen: list[str], seen_after_return: list[str]
) -> None:
    room = await room_with(library, visibility)
    await life(library, room)
    assert await seen_texts(library, room) == seen
    await library.engine.memberships.join(room, BOB)
    assert await seen_texts(library, room) == seen_after_return
    assert await seen_texts(library, room, ALICE) == ["stranger", "invited", "in", "out"]


async def test_who_was_never_there_sees_only_what_is_open_to_the_world(library: Library) -> None:
    room = await room_with(library, "shared")
    await library.say(room, "one")
    await library.set_state(room, VISIBILITY, {"history_visibility": "world_readable"})
    await library.say(room, "two")
    await library.set_state(room, VISIBILITY, {"history_visibility": "joined"})
    await library.say(room, "three")
    seen = await library.visibility.filter(BOB, await records(library, room))
    assert [(one.record.type, one.record.content) for one in seen][1][1]["body"] == "two"
    # Both changes are seen: one side of each is open.
    assert [one.record.type for one in seen] == [VISIBILITY, "m.room.message", VISIBILITY]
    assert {one.membership for one in seen} == {"leave"}


async def test_ones_own_memberships_are_always_seen(library: Library) -> None:
    room = await room_with(library, "joined")
    await life(library, room)
    seen = await library.visibility.filter(BOB, await records(library, room))
    own = [one.membership for one in seen if one.record.state_key == BOB]
    assert own == ["invite", "join", "leave"]
    assert all(
        one.record.content["membership"] == one.membership for one in seen if one.record.state_key == BOB
    )


async def test_a_refused_invite_is_seen_and_nothing_else(library: Library) -> None:
    room = await room_with(library, "shared")
    await library.say(room, "before")
    await library.engine.memberships.invite(room, ALICE, BOB)
    await library.engine.memberships.leave(room, BOB)
    seen = await library.visibility.filter(BOB, await records(library, room))
    assert [one.record.content.get("membership") for one in seen] == ["invite", "leave"]


async def test_the_membership_at_an_event_includes_what_the_event_did(library: Library) -> None:
    room = await room_with(library, "shared")
    await life(library, room)
    await library.engine.memberships.join(room, BOB)
    seen = await library.visibility.filter(BOB, await records(library, room))
    by_text = {one.record.content.get("body"): one.membership for one in seen}
    assert by_text["stranger"] == "leave"
    assert by_text["invited"] == "invite"
    assert by_text["in"] == "join"
    assert by_text["out"] == "leave"


async def test_a_later_tightening_hides_nothing_that_was_shared(library: Library) -> None:
    room = await room_with(library, "shared")
    await library.say(room, "shared")
    await library.set_state(room, VISIBILITY, {"history_visibility": "joined"})
    await library.say(room, "hidden")
    await library.engine.memberships.join(room, BOB)
    await library.say(room, "seen")
    assert await seen_texts(library, room) == ["shared", "seen"]


async def test_no_events_no_questions(library: Library) -> None:
    assert await library.visibility.filter(ALICE, []) == []


async def test_broken_memberships_and_visibilities_are_read_as_the_default(library: Library) -> None:
    room = await room_with(library, None)
    await library.set_state(room, VISIBILITY, {"history_visibility": ["joined"]})
    await library.say(room, "before")
    assert await seen_texts(library, room) == []
    await library.engine.memberships.join(room, BOB)
    assert await seen_texts(library, room) == ["before"]
