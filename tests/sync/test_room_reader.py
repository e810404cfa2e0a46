"""State and members as a reader is shown them, and who is a reader at all."""

import asyncio
from typing import Any

import msgspec
import pytest

from hs.matrix.errors import Forbidden, NotFound
from hs.matrix.tokens import RoomToken, TopologicalToken, parse_pagination_token
from hs.storage.rooms import RoomInfo
from hs.sync.client_events import Viewer
from tests.rooms.conftest import ALICE, BOB, CAROL
from tests.sync.reading import Library, library

__all__ = ["library"]


async def topic(library: Library, room: RoomInfo, user_id: str) -> str:
    access = await library.access.check_reader(room, user_id)
    content = msgspec.json.decode(await library.reader.state_content(room, access, "m.room.topic", ""))
    found: str = content["topic"]
    return found


async def members(
    library: Library,
    room: RoomInfo,
    user_id: str,
    at: RoomToken | TopologicalToken | None = None,
    membership: str | None = None,
    not_membership: str | None = None,
) -> dict[str, str]:
    access = await library.access.check_reader(room, user_id)
    answer = await library.reader.members_at(
        room, Viewer(user_id, "DEVICE"), access, at, membership, not_membership
    )
    chunk: list[Any] = msgspec.json.decode(answer)["chunk"]
    return {event["state_key"]: event["content"]["membership"] for event in chunk}


async def test_who_left_reads_the_state_of_then_even_if_more_was_committed_at_once(library: Library) -> None:
    room = await library.make_room(preset="public_chat", topic="with bob")
    await library.engine.memberships.join(room, BOB)
    # The lane takes what waits for it together: the leave is in one commit with what follows.
    await asyncio.gather(
        *(library.say(room, f"{n}") for n in range(3)),
        library.engine.memberships.leave(room, BOB),
        library.set_state(room, "m.room.topic", {"topic": "without bob"}),
        library.engine.memberships.join(room, CAROL),
    )
    access = await library.access.check_reader(room, BOB)
    shown = await library.read_all(room, BOB, dir="f", limit=100)
    topics = [event["content"]["topic"] for event in shown if event["type"] == "m.room.topic"]
    assert await topic(library, room, BOB) == topics[-1]
    now = library.engine.room_token()
    assert await members(library, room, BOB, now) == await members(library, room, BOB)
    people = {event["state_key"] for event in shown if event["type"] == "m.room.member"}
    assert set(await members(library, room, BOB, now)) == people
    assert access.until < now.stream


async def test_an_invite_back_does_not_open_what_happened_meanwhile(library: Library) -> None:
    room = await library.make_room(preset="public_chat", topic="then")
    await library.engine.memberships.join(room, BOB)
    await library.engine.memberships.leave(room, BOB)
    await library.set_state(room, "m.room.topic", {"topic": "meanwhile"})
    await library.engine.memberships.invite(room, ALICE, BOB)
    assert await topic(library, room, BOB) == "then"
    await library.engine.memberships.join(room, BOB)
    assert await topic(library, room, BOB) == "meanwhile"


async def test_who_was_banned_is_somebody_who_left(library: Library) -> None:
    room = await library.make_room(preset="public_chat", topic="then")
    await library.engine.memberships.join(room, BOB)
    await library.engine.memberships.ban(room, ALICE, BOB, None)
    await library.set_state(room, "m.room.topic", {"topic": "now"})
    assert await topic(library, room, BOB) == "then"
    await library.engine.memberships.unban(room, ALICE, BOB, None)
    assert await topic(library, room, BOB) == "then"


@pytest.mark.parametrize("steps", [[], ["invite"], ["invite", "leave"], ["ban"], ["ban", "unban"]])
async def test_who_never_was_in_is_refused(library: Library, steps: list[str]) -> None:
    room = await library.make_room(topic="secret")
    for step in steps:
        memberships = library.engine.memberships
        if step == "invite":
            await memberships.invite(room, ALICE, BOB)
        elif step == "leave":
            await memberships.leave(room, BOB)
        elif step == "ban":
            await memberships.ban(room, ALICE, BOB, None)
        else:
            await memberships.unban(room, ALICE, BOB, None)
    with pytest.raises(Forbidden):
        await library.access.check_reader(room, BOB)
    with pytest.raises(Forbidden):
        await library.access.check_member(room, BOB)


async def test_state_that_the_room_lacks_is_not_found(library: Library) -> None:
    room = await library.make_room()
    access = await library.access.check_reader(room, ALICE)
    for type, state_key in (("m.room.topic", ""), ("m.room.create", "x"), ("never.seen", "")):
        with pytest.raises(NotFound):
            await library.reader.state_content(room, access, type, state_key)


async def test_members_of_each_moment(library: Library) -> None:
    room = await library.make_room(preset="public_chat")
    moments = [(library.engine.room_token(), {ALICE: "join"})]
    await library.engine.memberships.join(room, BOB)
    moments.append((library.engine.room_token(), {ALICE: "join", BOB: "join"}))
    await library.say(room, "x")
    await library.engine.memberships.invite(room, ALICE, CAROL)
    moments.append((library.engine.room_token(), {ALICE: "join", BOB: "join", CAROL: "invite"}))
    await library.engine.memberships.leave(room, BOB)
    for token, expected in moments:
        assert await members(library, room, ALICE, token) == expected
        page = await library.page(room, dir="b", limit=1, **{"from": str(token)})
        # Right after the newest event of that moment, as a place in history.
        place = await library.page(room, dir="f", limit=1, **{"from": page["end"]})
        assert await members(library, room, ALICE, parse_pagination_token(place["end"])) == expected
    assert await members(library, room, ALICE, RoomToken(0)) == {}
    assert await members(library, room, ALICE, TopologicalToken(0, 0)) == {}
    last = await members(library, room, ALICE, None, membership="invite", not_membership="join")
    assert last == {BOB: "leave", CAROL: "invite"}


async def test_members_now_and_at_now_are_the_same(library: Library) -> None:
    room = await library.make_room(preset="public_chat")
    await library.engine.memberships.join(room, BOB)
    await library.engine.memberships.invite(room, ALICE, CAROL)
    viewer = Viewer(ALICE, "DEVICE")
    access = await library.access.check_reader(room, ALICE)
    kinds = (None, "join", "invite", "leave")
    for membership in kinds:
        for not_membership in kinds:
            now = await library.reader.members_now(room, viewer, membership, not_membership)
            at = await library.reader.members_at(room, viewer, access, None, membership, not_membership)
            found = [
                sorted(event["state_key"] for event in msgspec.json.decode(answer)["chunk"])
                for answer in (now, at)
            ]
            assert found[0] == found[1], (membership, not_membership)


async def test_profiles_of_the_joined(library: Library) -> None:
    room = await library.make_room(preset="public_chat")
    await library.engine.memberships.join(room, BOB)
    await library.set_state(room, "m.room.member", {"membership": "join", "avatar_url": "mxc://a/b"}, ALICE)
    joined = msgspec.json.decode(await library.reader.joined_members(room))["joined"]
    assert joined == {ALICE: {"avatar_url": "mxc://a/b"}, BOB: {"display_name": "bob"}}
