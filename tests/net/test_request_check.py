"""Requests to us: whose signature they have, and what strangers can make us do with signatures of nobody."""

import json
import time
from typing import Any

import pytest
from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key

from hs.matrix.errors import BadJson, LimitExceeded, MatrixError, NotJson, Unauthorized
from hs.matrix.request_auth import sign_request
from hs.net.fetch_budget import BURST
from tests.net.house import HERE, NetHouse
from tests.remote_scripts import hang_up
from tests.remote_server import RemoteServer

URI = "/_matrix/federation/v1/thing?x=%7e&y=1"
BODY = {"b": [1, "☃"], "a": None}
ADDRESS = "192.0.2.1"


class Sender:
    """Makes requests of a remote, as raw parts."""

    def __init__(self, house: NetHouse, remote: RemoteServer) -> None:
        self.house = house
        self.remote = remote
        self.bodies_read = 0

    def header(self, body: Any = None, *, method: str = "PUT", uri: str = URI, **said: Any) -> str:
        content = body if body is None or isinstance(body, bytes) else _canonical(body)
        header = sign_request(
            method, uri, said.pop("origin", self.remote.name), said.pop("destination", HERE), content,
            said.pop("key", self.remote.world.key),
        )  # fmt: skip
        return header

    async def send(
        self, *headers: str, body: bytes = b"", method: str = "PUT", uri: str = URI, address: str = ADDRESS
    ) -> str:
        async def read_body() -> bytes:
            self.bodies_read += 1
            return body

        return await self.house.check.authenticate(headers, method, uri, address, read_body)


@pytest.fixture
def sender(house: NetHouse, remote: RemoteServer) -> Sender:
    return Sender(house, remote)


def _canonical(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


async def test_a_signed_request_has_an_origin(sender: Sender) -> None:
    assert await sender.send(sender.header(), body=b"") == sender.remote.name
    assert await sender.send(sender.header(BODY), body=_canonical(BODY)) == sender.remote.name
    # The same again: replays are for endpoints to be idempotent about.
    assert await sender.send(sender.header(BODY), body=_canonical(BODY)) == sender.remote.name
    assert sender.house.heard == [sender.remote.name] * 3


async def test_the_body_may_be_written_in_any_way(sender: Sender) -> None:
    spaced = json.dumps(BODY, indent=3).encode()
    assert await sender.send(sender.header(BODY), body=spaced) == sender.remote.name
    # Numbers beyond canonical JSON, as others sign them.
    numbers = {"a": 1.5, "b": 2**60, "c": 1e2}
    assert await sender.send(sender.header(numbers), body=json.dumps(numbers).encode()) == sender.remote.name


async def test_large_bodies_too(sender: Sender) -> None:
    body = {"a": "x" * 1_000_000}
    assert await sender.send(sender.header(body), body=_canonical(body)) == sender.remote.name
    with pytest.raises(Unauthorized):
        await sender.send(sender.header(body), body=_canonical(body | {"b": 1}))


async def test_the_destination_may_be_missing_in_the_header(sender: Sender) -> None:
    header = sender.header().replace(f',destination="{HERE}"', "")
    assert await sender.send(header) == sender.remote.name
    elsewhere = sender.header(destination="other.example").replace(',destination="other.example"', "")
    with pytest.raises(Unauthorized):
        await sender.send(elsewhere)


async def test_one_right_signature_of_several_is_enough(sender: Sender) -> None:
    wrong = sender.header(key=generate_signing_key("other"))
    assert await sender.send(wrong, sender.header(), "Bearer x") == sender.remote.name


async def test_what_is_not_what_was_signed_is_refused(sender: Sender) -> None:
    other_key = generate_signing_key(sender.remote.world.key.version)
    right = sender.header(BODY)
    body = _canonical(BODY)
    wrong: list[tuple[str, dict[str, Any]]] = [
        (right, {"body": body, "method": "POST"}),
        (right, {"body": body, "uri": URI + "1"}),
        (right, {"body": body, "uri": URI.replace("%7e", "~")}),
        (right, {"body": b""}),
        (right, {"body": b"null"}),
        (right, {"body": _canonical({**BODY, "c": 1})}),
        (sender.header(), {"body": body}),
        (sender.header(BODY, key=other_key), {"body": body}),
        (right.replace(sender.remote.name, "127.0.0.1:1"), {"body": body}),
        (sender.header(BODY, destination="other.example"), {"body": body}),
        (right[:-3] + '"', {"body": body}),
        ("", {"body": body}),
    ]
    for header, how in wrong:
        with pytest.raises(Unauthorized):
            await sender.send(header, **how)
    assert sender.house.heard == []


async def test_a_body_that_is_no_json_is_said_to_be(sender: Sender) -> None:
    with pytest.raises(NotJson):
        await sender.send(sender.header(BODY), body=b"{")
    with pytest.raises(BadJson):
        await sender.send(sender.header(BODY), body=b'{"a":' * 600 + b"1" + b"}" * 600)
    with pytest.raises(BadJson):
        await sender.send(sender.header(BODY), uri="/_matrix/\udcff")


async def test_keys_that_signed_before_sign_no_requests(sender: Sender) -> None:
    remote, house = sender.remote, sender.house
    assert await sender.send(sender.header()) == remote.name
    old, remote.world.key = remote.world.key, generate_signing_key("fresh")
    house.clock.advance(60)
    assert await sender.send(sender.header()) == remote.name
    # The new answer does not name the old key any more: it ended with that answer, and is good for that moment still.
    house.clock.advance(1)
    with pytest.raises(Unauthorized):
        await sender.send(sender.header(key=old))


async def test_a_key_that_is_named_as_old_signs_no_requests(sender: Sender) -> None:
    world = sender.remote.world
    old, world.key = world.key, generate_signing_key("fresh")
    key = encode_verify_key_base64(get_verify_key(old))
    world.old_keys = {f"ed25519:{old.version}": {"key": key, "expired_ts": int(time.time() * 1000) + 10**9}}
    sender.house.clock.advance(1)
    with pytest.raises(Unauthorized):
        await sender.send(sender.header(key=old))


async def test_an_expired_key_is_asked_for_again_and_refused_where_it_stays_so(sender: Sender) -> None:
    world, clock = sender.remote.world, sender.house.clock
    world.key_valid_until_ts = clock.now_ms() + 60_000
    assert await sender.send(sender.header())
    clock.advance(61)
    with pytest.raises(Unauthorized):
        await sender.send(sender.header())
    clock.advance(61)
    # A clock that is a little ahead or behind does not matter.
    world.key_valid_until_ts = clock.now_ms() + 3600_000
    assert await sender.send(sender.header())


# --- strangers -------------------------------------------------------------------------------------


async def test_the_body_is_not_read_without_a_key(sender: Sender) -> None:
    with pytest.raises(Unauthorized):
        await sender.send(sender.header(origin="127.0.0.1:1"), body=b"{}")
    assert sender.bodies_read == 0


async def test_made_up_origins_cost_little(sender: Sender) -> None:
    """An address has a budget of servers to have asked, and each is asked once."""
    house = sender.house
    refused: list[type[MatrixError]] = []
    for i in range(2 * BURST):
        for _ in range(2):
            try:
                await sender.send(sender.header(origin=f"made-up-{i}.example"))
            except MatrixError as error:
                refused.append(type(error))
    assert len(house.finder.found) <= BURST + 20
    assert refused.count(LimitExceeded) >= 2 * BURST - 80
    # What is known is not affected, nor is who comes from elsewhere.
    with pytest.raises(Unauthorized):
        await sender.send(sender.header(origin="made-up-0.example"))
    assert await sender.send(sender.header(), address="192.0.2.2") == sender.remote.name
    assert await sender.send(sender.header()) == sender.remote.name


async def test_who_comes_back_is_believed_soon(sender: Sender) -> None:
    """However long it was away and its keys were wanted in vain."""
    remote, house = sender.remote, sender.house
    remote.script("GET", "/key/v2/server", hang_up())
    for _ in range(9):
        await house.keys.get_keys(house.wanted(remote.name, "ed25519:a"))
        house.clock.advance(3601)
    await house.keys.get_keys(house.wanted(remote.name, "ed25519:a"))
    remote.behave()
    with pytest.raises(Unauthorized):
        await sender.send(sender.header())
    house.clock.advance(11)
    assert await sender.send(sender.header()) == remote.name


async def test_made_up_keys_of_a_real_server_do_not_bother_it(sender: Sender) -> None:
    for i in range(20):
        with pytest.raises(Unauthorized):
            await sender.send(sender.header(key=generate_signing_key(f"k{i}")))
    assert len(sender.remote.received("GET", "/key/v2/server")) == 1
