"""Requests to other servers: signed, bounded, decoded, and not made where they would be in vain."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.net.bounds import Bounds
from hs.net.errors import BadAnswer, RemoteError, RemoteRefused, TimedOut, TooLong, Unreachable
from hs.net.federation_client import FederationClient, path_of, read_retry_after
from tests.net.house import HERE, NetHouse
from tests.remote_scripts import Flood, cut, garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer

PATH = "/_matrix/federation/v1/thing"


class Thing(msgspec.Struct):
    """An answer."""

    name: str
    count: int = 0


@pytest.fixture
def remote(house: NetHouse, remote: RemoteServer) -> RemoteServer:
    """One that knows our keys."""
    remote._keys[HERE] = msgspec.json.decode(house.own.answer())["verify_keys"]
    return remote


async def get(house: NetHouse, remote: RemoteServer, **more: Any) -> Thing:
    return await house.client.ask("GET", remote.name, PATH, Thing, **more)


async def test_requests_are_signed_as_the_other_side_checks_it(house: NetHouse, remote: RemoteServer) -> None:
    remote.script("*", "/thing", reply({"name": "☃", "more": 1}))
    path = path_of(PATH + "/{}/{}", "$a/b?c", "#é:x")
    query = {"ver": ["1", "2"], "x": "a b&c"}
    assert await house.client.ask("GET", remote.name, path, Thing, query=query) == Thing("☃")
    assert await house.client.ask("PUT", remote.name, path, Thing, body={"b": "☃", "a": 1.5}) == Thing("☃")
    assert await house.client.ask("POST", remote.name, path, Thing, body=Thing("x", 2)) == Thing("☃")
    assert await house.client.ask("PUT", remote.name, path, Thing, body=b'{"a":[]}') == Thing("☃")
    got = remote.received("*", "/thing")
    assert [request.origin for request in got] == [HERE] * 4
    assert got[0].parts[-2:] == ["$a/b?c", "#é:x"]
    assert dict(got[0].query) == {"ver": ["1", "2"], "x": ["a b&c"]}
    assert [request.body for request in got[1:]] == [
        {"b": "☃", "a": 1.5},
        {"name": "x", "count": 2},
        {"a": []},
    ]
    assert remote.complaints == []


async def test_a_refusal_has_status_and_code_and_a_short_text(house: NetHouse, remote: RemoteServer) -> None:
    remote.script("GET", "/thing", reply({"errcode": "M_FORBIDDEN", "error": "x" * 5000}, 403))
    with pytest.raises(RemoteRefused) as refused:
        await get(house, remote)
    assert (refused.value.status, refused.value.errcode, len(refused.value.message)) == (
        403,
        "M_FORBIDDEN",
        200,
    )
    remote.script("GET", "/thing", reply({"errcode": 5}, 404))
    with pytest.raises(RemoteRefused) as refused:
        await get(house, remote)
    assert (refused.value.status, refused.value.errcode) == (404, "M_UNKNOWN")


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (reply({"name": 5}), BadAnswer),
        (reply([]), BadAnswer),
        (reply({"name": "x", "deep": [[]]}), None),
        (garbage(), BadAnswer),
        (garbage(b'{"name":"\xff"}', "application/json"), BadAnswer),
        (garbage(b'{"name":"x","a":' + b"[" * 600 + b"]" * 600 + b"}", "application/json"), BadAnswer),
        (garbage(b'{"name":"x","a":' + b"[" * 9000 + b"]" * 9000 + b"}", "application/json"), BadAnswer),
        (Flood(20_000_000), TooLong),
        (Flood(20_000_000, says_so=True), TooLong),
        (cut(b'{"name": "x"'), Unreachable),
        (hang_up(), Unreachable),
        (garbage(b"", "text/html"), BadAnswer),
    ],
)
async def test_strange_answers(
    house: NetHouse, remote: RemoteServer, action: Any, error: type[RemoteError] | None
) -> None:
    remote.script("GET", "/thing", action)
    if error is None:
        assert (await get(house, remote)).name == "x"
    else:
        with pytest.raises(error):
            await get(house, remote)
    # Only who does not answer at all is left alone.
    assert bool(house.backoff.retry_ts(remote.name)) == (error is Unreachable)


async def test_a_slow_server_is_waited_for_as_long_as_said(house: NetHouse, remote: RemoteServer) -> None:
    stall = remote.stall("GET", "/thing")
    with pytest.raises(TimedOut):
        await get(house, remote, bounds=Bounds(1000, 0.2))
    stall.release()
    assert house.backoff.retry_ts(remote.name)


async def test_a_dead_server_is_left_alone_unless_forced(house: NetHouse, remote: RemoteServer) -> None:
    remote.script("GET", "/thing", refuse(502, "M_UNKNOWN"), times=1)
    with pytest.raises(RemoteRefused):
        await get(house, remote)
    remote.script("GET", "/thing", reply({"name": "back"}))
    with pytest.raises(Unreachable):
        await get(house, remote)
    assert len(remote.received("GET", "/thing")) == 1
    assert await get(house, remote, forced=True) == Thing("back")
    # It answers, so others may ask again.
    assert await get(house, remote) == Thing("back")


async def test_giving_up_says_nothing_of_the_server(house: NetHouse, remote: RemoteServer) -> None:
    stall = remote.stall("GET", "/thing")
    asking = asyncio.create_task(get(house, remote))
    await stall.reached()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    stall.release()
    assert house.backoff.retry_ts(remote.name) == 0


async def test_nothing_is_asked_of_ourselves_or_of_no_server(house: NetHouse) -> None:
    for name in (HERE, "", "a b", "a/b", "https://a.example", "a.example\r\n"):
        with pytest.raises(Unreachable):
            await house.client.ask("GET", name, PATH, Thing, forced=True)
    assert house.finder.found == []


@pytest.mark.parametrize(
    "name",
    [
        "a.example:0",
        "a.example:99999",
        "a..example",
        ".example",
        ".",
        "x" * 64 + ".example",
        "[::1]:99999",
        "-",
        "[::",
    ],
)
async def test_names_that_no_network_has(house: NetHouse, name: str) -> None:
    for _ in range(2):
        with pytest.raises(Unreachable):
            await house.client.ask("GET", name, PATH, Thing, forced=True)
    assert await house.keys.get_keys(house.wanted(name, "ed25519:a")) == {name: {}}


async def test_without_federation_nobody_is_asked(house: NetHouse, remote: RemoteServer) -> None:
    client = FederationClient(
        house.server_http, house.own, house.backoff, house.clock.now_ms, is_enabled=False
    )
    with pytest.raises(Unreachable):
        await client.ask("GET", remote.name, PATH, Thing, forced=True)
    assert house.finder.found == []


@pytest.mark.parametrize(
    ("said", "wished_ms"),
    [
        ("30", 30_000),
        (" 0 ", 0),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10_000),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("9" * 10_000, 999_999_999_000),
        ("-5", 0),
        ("1e9", 0),
        ("\u0663", 0),
        ("soon", 0),
        ("Tue, 99 Nov 99999 22:13:10 GMT", 0),
        ("", 0),
    ],
)
def test_how_long_a_server_wishes_to_be_left_alone(said: str, wished_ms: int) -> None:
    assert read_retry_after({"Retry-After": said}, 1_700_000_000_000) == wished_ms


@given(st.text())
def test_nothing_that_a_server_says_of_it_is_too_strange(said: str) -> None:
    assert read_retry_after({"Retry-After": said}, 1_700_000_000_000) >= 0
