"""Whatever events another server sends into a room: the room lives on, and all that was taken can be served."""

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from yarl import URL

from hs._fast import canonical_json
from hs.matrix.request_auth import sign_request
from tests.eyes import Eyes
from tests.fuzz.strange_events import KINDS, sign, with_strange_content, with_strange_fields, write
from tests.people import Answer, Person, Town, path
from tests.remote_room import RemoteRoom
from tests.remote_scripts import reply
from tests.remote_server import RemoteServer

MakeRemote = Callable[..., Awaitable[RemoteServer]]

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(180)]

_numbers = count(1)


@dataclass
class Stage:
    """A room of ours with Alice in it, with Mallory, whose server sends what it likes, and Gina, whose does not."""

    town: Town
    remote: RemoteServer
    alice: Person
    room: RemoteRoom
    good: RemoteServer
    good_room: RemoteRoom

    @classmethod
    async def open(cls, town: Town, make_remote: MakeRemote, version_id: str) -> "Stage":
        remote, good = await make_remote(), await make_remote()
        mallory = remote.user("mallory")
        alice = await town.person("alice")
        users = {mallory: 99} | ({} if version_id == "12" else {alice.user_id: 100})
        room_id = await alice.create_room(
            preset="public_chat", room_version=version_id, power_level_content_override={"users": users}
        )
        good_room = await good.join(town.server_name, room_id, good.user("gina"))
        room = await remote.join(town.server_name, room_id, mallory)
        return cls(town, remote, alice, room, good, good_room)

    @property
    def mallory(self) -> str:
        return self.remote.user("mallory")

    async def throw(self, pdus: Iterable[Any]) -> list[str]:
        """Send them, fifty at once; the ids of those that were taken."""
        taken, written = [], [write(pdu) for pdu in pdus]
        for start in range(0, len(written), 50):
            results = await self.throw_raw(written[start : start + 50])
            taken += [event_id for event_id, result in results.items() if result == {}]
        return taken

    async def throw_raw(self, pdus: Sequence[bytes]) -> dict[str, Any]:
        """The results of a transaction with these bytes for events."""
        body = b'{"origin":"x","origin_server_ts":1,"pdus":[' + b",".join(pdus) + b"]}"
        answer = await self.ask("PUT", f"/_matrix/federation/v1/send/strange{next(_numbers)}", body)
        assert answer.status == 200, (answer, body[:2000])
        results: dict[str, Any] = answer.body["pdus"]
        return results

    async def ask(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """The answer to a request with this body, signed as it is."""
        remote, name = self.remote, self.town.server_name
        header = sign_request(method, target, remote.name, name, body, remote.world.key)
        url = URL(f"https://{name}{target}", encoded=True)
        async with remote._session.request(
            method, url, data=body, headers={"Authorization": header}
        ) as response:
            return Answer(response.status, json.loads(await response.text()))

    async def check(self, taken: Sequence[str]) -> None:
        """AssertionError if the room is not what it should be for everybody, or what was taken cannot be served."""
        # Gina's server knows nothing of what the other one has sent.
        marker = self.good_room.say(self.good.user("gina"), "still here")
        answer = await self.good.send(self.town.server_name, marker)
        assert answer.body == {"pdus": {marker.event_id: {}}}
        await Eyes(self.alice).event(self.room.room_id, marker.event_id)
        said = await self.alice.say(self.room.room_id, "me too")
        pdu = await self.good.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "me too")
        assert self.room.parse(pdu).event_id == said
        await self.check_reading(taken)
        await self.check_servers(said, taken)

    async def check_reading(self, taken: Sequence[str]) -> None:
        room_id = self.room.room_id
        for query in ({"full_state": "true"}, {"set_presence": "offline"}):
            assert (await self.alice.get("sync", **query)).status == 200
        token, seen = "", set()
        while token is not None:
            query = {"dir": "b", "limit": "100"} | ({"from": token} if token else {})
            page = await self.alice.get("rooms", room_id, "messages", **query)
            assert page.status == 200, page
            seen |= {event["event_id"] for event in page.body["chunk"]}
            token = page.body.get("end")
        for parts in (("state",), ("members",), ("joined_members",), ("aliases",), ("threads",)):
            prefix = path("rooms", room_id)
            target = (
                prefix.replace("/v3/", "/v1/") + "/threads"
                if parts == ("threads",)
                else f"{prefix}/{parts[0]}"
            )
            assert (await self.alice.raw("GET", target)).status == 200, parts
        hierarchy = path("rooms", room_id).replace("/v3/", "/v1/") + "/hierarchy"
        assert (await self.alice.raw("GET", hierarchy)).status == 200
        for event_id in taken:
            shown = await self.alice.get("rooms", room_id, "event", event_id)
            assert shown.status in (200, 404), (event_id, shown)
            if event_id in seen:
                assert shown.status == 200
                assert (await self.alice.get("rooms", room_id, "context", event_id)).status == 200

    async def check_servers(self, newest: str, taken: Sequence[str]) -> None:
        ask, name, room_id = self.remote.ask, self.town.server_name, self.room.room_id
        for what in ("state", "state_ids"):
            answer = await ask(name, "GET", "v1", what, room_id, query={"event_id": newest})
            assert answer.status == 200, answer
        answer = await ask(name, "GET", "v1", "backfill", room_id, query={"v": newest, "limit": "100"})
        assert answer.status == 200, answer
        for pdu in answer.body["pdus"]:
            self.room.parse(pdu)
        answer = await ask(name, "GET", "v1", "event_auth", room_id, newest)
        assert answer.status == 200, answer
        for event_id in taken:
            answer = await ask(name, "GET", "v1", "event", event_id)
            assert answer.status in (200, 404), (event_id, answer)
            if answer.status == 200:
                self.room.parse(answer.body["pdus"][0])


@pytest.mark.parametrize("version_id", ["1", "3", "6", "12"])
async def test_every_field_with_every_wrong_value(
    federated_town: Town,
    make_remote: MakeRemote,
    version_id: str,
) -> None:
    stage = await Stage.open(federated_town, make_remote, version_id)
    taken = await stage.throw(with_strange_fields(stage.room, stage.mallory))
    await stage.check(taken)


@pytest.mark.parametrize("version_id", ["1", "12"])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_part_of_contents_with_every_wrong_value(
    federated_town: Town,
    make_remote: MakeRemote,
    version_id: str,
    kind: str,
) -> None:
    stage = await Stage.open(federated_town, make_remote, version_id)
    taken = await stage.throw(with_strange_content(stage.room, stage.mallory, kind))
    await stage.check(taken)


async def test_a_server_that_branches_without_end_stops_nobody_else(
    federated_town: Town,
    make_remote: MakeRemote,
) -> None:
    stage = await Stage.open(federated_town, make_remote, "12")
    branches = [
        stage.room.forge(stage.mallory, "org.example.state", state_key=f"key {number}", content={})
        for number in range(150)
    ]
    ids = [stage.room.parse(pdu).event_id for pdu in branches]
    assert await stage.throw(branches) == ids
    # Of as many states as these, a few dozen are resolved; the rest is there for whom builds upon it.
    state = (await stage.alice.get("rooms", stage.room.room_id, "state")).body
    taken = [event for event in state if event["type"] == "org.example.state"]
    assert 40 <= len(taken) <= 60
    await stage.check(ids)


def _bombs(room: RemoteRoom, sender: str) -> Iterator[Any]:
    """Events that are large, deep, at the limits, or speak of themselves."""
    server = sender.partition(":")[2]
    for depth in (50, 253, 254, 255, 500, 510):
        yield room.forge(sender, content={"x": json.loads("[" * depth + "]" * depth)})
    for size in (65_536, 65_537, 200_000):
        pdu = room.forge(sender, content={"body": ""})
        room_left = size - len(canonical_json.encode(pdu))
        yield room.forge(sender, content={"body": "x" * room_left})
    for length in (254, 255, 256):
        yield room.forge(sender, "t" * length, state_key="s" * length)
        yield room.forge(sender, "é" * (length // 2) + "x" * (length % 2))
        yield room.forge(sender, "a", state_key="é" * (length // 2) + "x" * (length % 2))
        yield room.forge("@" + "u" * (length - len(server) - 2) + ":" + server)
    right = room.forge(sender)
    last, auth = right["prev_events"], right["auth_events"]
    strangers = [f"$made-up-{number}:{server}" for number in range(30)]
    made_up = [[id, {}] for id in strangers] if room.version.has_reference_pairs else strangers
    for prev in ([], last * 20, last * 21, last + made_up[:19], made_up[:20]):
        yield room.forge(sender, prev_events=prev)
    for rests_on in ([], auth * 3, auth[:1] * 10, auth[:1] * 11, auth + made_up[:1], last, auth + last):
        yield room.forge(sender, auth_events=rests_on)
    own = right.get("event_id", "$" + "x" * 43)
    for key in ("prev_events", "auth_events"):
        yield room.forge(sender, **{key: [[own, {}]] if room.version.has_reference_pairs else [own]})
    many = {f"ed25519:{number}": "A" * 86 for number in range(500)}
    yield right | {"signatures": {server: right["signatures"][server] | many}}
    yield right | {
        "signatures": right["signatures"] | {f"s{number}.example": {"a:b": "x"} for number in range(1500)}
    }
    yield right | {"signatures": {server: {"rsa:1": "x", "ed25519:": "", "ed25519:\x00": "\x00"}}}
    yield right | {"signatures": {"\x00": {"\x00": "\x00"}} | right["signatures"]}
    for hashes in ({}, {"sha256": ""}, {"sha256": "\x00"}, {"md5": "x"}, {"sha256": "x" * 43, "sha512": 5}):
        yield right | {"hashes": hashes}


@pytest.mark.parametrize("version_id", ["1", "3", "6", "11", "12"])
async def test_large_deep_and_circular_events(
    federated_town: Town, make_remote: MakeRemote, version_id: str
) -> None:
    stage = await Stage.open(federated_town, make_remote, version_id)
    for method, part in (("POST", "/get_missing_events/"), ("GET", "/state_ids/"), ("GET", "/event_auth/")):
        stage.remote.script(
            method, part, reply({"events": [], "pdu_ids": [], "auth_chain_ids": [], "auth_chain": []})
        )
    taken = []
    for bomb in _bombs(stage.room, stage.mallory):
        taken += await stage.throw([bomb])
    await stage.check(taken)


UNSIGNED = {
    "transaction_id": "stolen", "age": -5, "age_ts": 1, "prev_content": {"x": 1}, "membership": "ban",
    "redacted_because": {"type": "m.room.redaction", "content": {}}, "redacted_by": "$x", "prev_sender": "@a:b",
    "m.relations": {"m.annotation": {"chunk": [{"key": "x", "count": 1000}]}}, "invite_room_state": [], "org.example": 1,
    "replaces_state": "$x",
}  # fmt: skip


async def test_what_is_unsigned_is_nobody_elses_to_say(federated_town: Town, make_remote: MakeRemote) -> None:
    stage = await Stage.open(federated_town, make_remote, "12")
    room = stage.room
    said = room.say(stage.mallory, "hello")
    top = {"age_ts": 1, "user_id": "@a:b", "org.example.extra": 1, "redacted_because": {}, "event_id": "$lie"}
    [event_id] = await stage.throw([said.pdu | {"unsigned": UNSIGNED}])
    forged = sign(room, room.forge(stage.mallory) | top | {"unsigned": UNSIGNED}, stage.remote.name)
    extra_id = room.parse(forged).event_id
    assert await stage.throw([forged]) == [extra_id]
    eyes = Eyes(stage.alice)
    for shown in (
        await eyes.event(room.room_id, event_id),
        await eyes.event(room.room_id, extra_id),
        (await stage.alice.get("rooms", room.room_id, "event", extra_id)).body,
        (await stage.alice.get("rooms", room.room_id, "context", extra_id)).body["event"],
    ):
        assert not shown["unsigned"].keys() & (UNSIGNED.keys() - {"age", "membership"}), shown
        assert shown["unsigned"].get("membership") != "ban"
        assert shown["unsigned"].get("age", 0) >= 0
        assert shown["event_id"] in (event_id, extra_id)
        assert not shown.keys() & {"redacted_because", "user_id", "org.example.extra", "age_ts"}, shown


@pytest.mark.parametrize("depth", [253, 254, 500, 510])
async def test_nobody_is_kept_out_of_a_room_by_something_deep_in_it(
    federated_town: Town, remote: RemoteServer, depth: int
) -> None:
    bob, room, alice = await federated_town.person("bob"), remote.make_room(), remote.user("alice")
    deep = json.loads("[" * depth + "]" * depth)
    room.send("org.example.deep", alice, {"x": deep}, state_key="")
    joined = await bob.ask("POST", "join", room.room_id, query={"via": remote.name})
    assert joined.status == 200, joined
    assert (await bob.sync())["rooms"]["join"].keys() == {room.room_id}
    # What clients may say gets through to other servers.
    content = {"body": "deep", "x": json.loads("[" * 254 + "]" * 254)}
    sent = await bob.put("rooms", room.room_id, "send", "m.room.message", "1", body=content)
    assert sent.status == 200, sent
    await remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == "deep")


@pytest.mark.parametrize("version_id", ["1", "2"])
async def test_an_id_that_was_taken_stays_with_its_event(
    federated_town: Town, make_remote: MakeRemote, version_id: str
) -> None:
    stage = await Stage.open(federated_town, make_remote, version_id)
    room, eyes = stage.room, Eyes(stage.alice)
    ours = await stage.alice.say(room.room_id, "ours")
    gina = stage.good_room.say(stage.good.user("gina"), "hers")
    await stage.good.send(stage.town.server_name, gina)
    own = room.say(stage.mallory, "first")
    await stage.throw([own.pdu])
    for event_id in (ours, gina.event_id, own.event_id):
        lie = room.forge(stage.mallory, event_id=event_id, content={"msgtype": "m.text", "body": "instead"})
        await stage.throw([lie, room.forge(stage.mallory, "m.room.topic", event_id=event_id, state_key="")])
    await stage.check([])
    for event_id, text in ((ours, "ours"), (gina.event_id, "hers"), (own.event_id, "first")):
        shown = await eyes.event(room.room_id, event_id)
        assert shown["content"]["body"] == text
    assert "instead" not in eyes.texts(room.room_id)
