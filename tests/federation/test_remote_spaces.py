"""Rooms of other servers in trees of spaces and in summaries: what their servers say is shown as far as it makes sense."""

from typing import Any

import pytest

from tests.people import Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_scripts import Flood, garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer

HIERARCHY = "/hierarchy/"


def describe(room_id: str, **more: Any) -> dict[str, Any]:
    """A room as its server tells of it."""
    usual = {"num_joined_members": 1, "world_readable": False, "guest_can_join": False, "join_rule": "public"}
    return {"room_id": room_id, "name": f"Name of {room_id}"} | usual | more


def child_event(remote: RemoteServer, room_id: str, **content: Any) -> dict[str, Any]:
    """An m.space.child event as it is told."""
    return {
        "type": "m.space.child",
        "state_key": room_id,
        "sender": remote.user("creator"),
        "origin_server_ts": 1,
        "content": {"via": [remote.name]} | content,
    }


def space(remote: RemoteServer, room_id: str, *children: str) -> dict[str, Any]:
    """A space as its server tells of it."""
    events = [child_event(remote, child) for child in children]
    return describe(room_id, room_type="m.space", children_state=events)


def tell(remote: RemoteServer, room_id: str, room: Any, children: Any = (), inaccessible: Any = ()) -> None:
    """Have the remote describe a room so."""
    answer = {"room": room, "children": list(children), "inaccessible_children": list(inaccessible)}
    remote.script("GET", HIERARCHY + room_id, reply(answer))


async def make_space(alice: Person, *children: tuple[str, dict[str, Any]]) -> str:
    """A space of ours."""
    room_id = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    for child, content in children:
        assert (await alice.set_state(room_id, "m.space.child", content, child)).status == 200
    return room_id


async def walk(alice: Person, room_id: str, **query: str) -> Any:
    """The answer of GET /hierarchy."""
    suffix = "?" + "&".join(f"{name}={value}" for name, value in query.items())
    return await alice.raw("GET", f"/_matrix/client/v1/rooms/{room_id}/hierarchy{suffix}")


def ids(answer: Any) -> list[str]:
    """The rooms that it shows."""
    assert answer.status == 200, answer
    return [room["room_id"] for room in answer.body["rooms"]]


def asked(remote: RemoteServer) -> list[str]:
    """The rooms that the remote was asked about."""
    return [request.parts[-1] for request in remote.received("GET", HIERARCHY)]


async def test_a_tree_goes_on_at_other_servers(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    tell(
        remote,
        "!far:x",
        space(remote, "!far:x", "!leaf:x", "!inner:x", "!closed:x"),
        [describe("!leaf:x"), describe("!inner:x", room_type="m.space")],
        ["!closed:x"],
    )
    tell(remote, "!inner:x", space(remote, "!inner:x", "!deep:x"), [describe("!deep:x")])
    top = await make_space(alice, ("!far:x", {"via": [remote.name]}))
    answer = await walk(alice, top)
    assert ids(answer) == [top, "!far:x", "!inner:x", "!deep:x", "!leaf:x"]
    far, inner = answer.body["rooms"][1:3]
    assert far["name"] == "Name of !far:x"
    assert [event["state_key"] for event in far["children_state"]] == ["!closed:x", "!inner:x", "!leaf:x"]
    assert [event["state_key"] for event in inner["children_state"]] == ["!deep:x"]
    # Rooms that were described on the way are not asked for, nor those that nobody may see.
    assert asked(remote) == ["!far:x", "!inner:x"]
    # What they said is good for a while, so pages are of one tree.
    first = await walk(alice, top, limit="3")
    assert ids(first) == [top, "!far:x", "!inner:x"]
    assert ids(await walk(alice, top, limit="3", **{"from": first.body["next_batch"]})) == [
        "!deep:x",
        "!leaf:x",
    ]
    assert ids(await walk(alice, top, max_depth="1")) == [top, "!far:x"]
    assert len(asked(remote)) == 2


async def test_who_may_see_a_room_is_for_us_to_say(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    club = await alice.create_room(preset="private_chat")
    rooms = {
        "!invite:x": describe("!invite:x", join_rule="invite"),
        "!readable:x": describe("!readable:x", join_rule="invite", world_readable=True),
        "!knock:x": describe("!knock:x", join_rule="knock"),
        "!club:x": describe("!club:x", join_rule="restricted", allowed_room_ids=[club]),
        "!others:x": describe("!others:x", join_rule="restricted", allowed_room_ids=["!else:x"]),
    }
    for room_id, room in rooms.items():
        tell(remote, room_id, room | {"children_state": []})
    top = await make_space(alice, *((room_id, {"via": [remote.name]}) for room_id in rooms))
    assert set(ids(await walk(alice, top))) == {top, "!club:x", "!knock:x", "!readable:x"}


async def test_only_suggested_rooms(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    events = [child_event(remote, "!a:x", suggested=True), child_event(remote, "!b:x")]
    far = describe("!far:x", room_type="m.space", children_state=events)
    tell(remote, "!far:x", far, [describe("!a:x"), describe("!b:x")])
    top = await make_space(alice, ("!far:x", {"via": [remote.name], "suggested": True}))
    assert ids(await walk(alice, top, suggested_only="true")) == [top, "!far:x", "!a:x"]


@pytest.mark.parametrize(
    "answer",
    [
        refuse(404, "M_NOT_FOUND"),
        garbage(),
        hang_up(),
        reply({"room": {"room_id": "!far:x"}, "children": []}),
        reply({"room": describe("!other:x", children_state=[]), "children": []}),
        reply({"room": describe("!far:x", name=7, children_state=[]), "children": []}),
        reply([]),
        Flood(),
    ],
    ids=["refused", "garbage", "hung up", "too little", "another room", "wrong types", "a list", "long"],
)
async def test_servers_that_make_no_sense(federated_town: Town, remote: RemoteServer, answer: Any) -> None:
    alice = await federated_town.person("alice")
    remote.script("GET", HIERARCHY, answer)
    top = await make_space(alice, ("!far:x", {"via": [remote.name]}))
    assert ids(await walk(alice, top)) == [top]
    # They are not asked again for a while.
    before = len(asked(remote))
    assert ids(await walk(alice, top)) == [top]
    assert len(asked(remote)) == before


async def test_what_makes_sense_of_an_answer_is_shown(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    events: list[Any] = [
        child_event(remote, "!good:x", order="a", more={"secret": "of clients"}),
        child_event(remote, "!good:x") | {"origin_server_ts": "soon"},
        {"type": "m.space.child"},
        7,
        child_event(remote, "!bad:x", via="x"),
        child_event(remote, "!name:x") | {"type": "m.room.name"},
    ]
    far = describe("!far:x", room_type="m.space", children_state=events, unknown={"a": 1})
    tell(remote, "!far:x", far, [describe("!good:x"), 7, {"room_id": "!good:x"}, None], ["!bad:x"])
    top = await make_space(alice, ("!far:x", {"via": [remote.name]}))
    answer = await walk(alice, top)
    assert ids(answer) == [top, "!far:x", "!good:x"]
    shown = answer.body["rooms"][1]
    assert "unknown" not in shown
    [event] = shown["children_state"]
    assert event["content"] == {"via": [remote.name], "order": "a"}


async def test_one_request_of_a_client_asks_for_so_many_rooms(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice = await federated_town.person("alice")
    names = [f"!r{number:03}:x" for number in range(200)]
    for name in names:
        tell(remote, name, describe(name, children_state=[]))
    # A space that names more rooms than it describes.
    tell(remote, "!far:x", space(remote, "!far:x", *names))
    top = await make_space(alice, ("!far:x", {"via": [remote.name]}))
    assert len(ids(await walk(alice, top, limit="100"))) == 51
    assert len(asked(remote)) == 50


async def test_spaces_within_each_other_end(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    tell(remote, "!a:x", space(remote, "!a:x", "!b:x", "!a:x"), [describe("!b:x", room_type="m.space")])
    tell(remote, "!b:x", space(remote, "!b:x", "!a:x", "!b:x"), [describe("!a:x", room_type="m.space")])
    top = await make_space(alice, ("!a:x", {"via": [remote.name]}))
    assert ids(await walk(alice, top)) == [top, "!a:x", "!b:x"]


async def test_a_space_that_nobody_here_is_in(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    room_id = f"!far:{remote.name}"
    tell(remote, room_id, space(remote, room_id, "!leaf:x"), [describe("!leaf:x")])
    assert ids(await walk(alice, room_id)) == [room_id, "!leaf:x"]
    refused = await walk(alice, f"!nothing:{remote.name}")
    assert refused.error == (403, "M_FORBIDDEN")


async def test_summaries_of_rooms_elsewhere(federated_town: Town, remote: RemoteServer) -> None:
    alice = await federated_town.person("alice")
    tell(remote, "!far:x", describe("!far:x", room_version="11", children_state=[]))
    tell(remote, "!shut:x", describe("!shut:x", join_rule="invite", children_state=[]))
    where = "/_matrix/client/v1/room_summary/"
    found = await alice.raw("GET", f"{where}!far:x?via={remote.name}")
    assert found.status == 200, found
    assert found.body == describe("!far:x", room_version="11") | {"membership": "leave"}
    for target in (f"!shut:x?via={remote.name}", "!far:x"):
        assert (await alice.raw("GET", where + target)).error == (404, "M_NOT_FOUND")
    before = len(asked(remote))
    # Nobody's requests to other servers.
    visitor = federated_town.visitor
    assert (await visitor.raw("GET", f"{where}!new:x?via={remote.name}")).error == (404, "M_NOT_FOUND")
    assert len(asked(remote)) == before


async def test_a_room_that_we_have_left_is_described_by_who_is_in_it(
    federated_town: Town, remote: RemoteServer
) -> None:
    alice = await federated_town.person("alice")
    room: RemoteRoom = remote.make_room()
    joined = await alice.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
    assert (await alice.post("rooms", room.room_id, "leave", body={})).status == 200
    tell(remote, room.room_id, describe(room.room_id, name="New name", children_state=[]))
    top = await make_space(alice, (room.room_id, {"via": [remote.name]}))
    answer = await walk(alice, top)
    assert ids(answer) == [top, room.room_id]
    assert answer.body["rooms"][1]["name"] == "New name"
