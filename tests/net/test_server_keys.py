"""Keys of other servers: asked for once, kept, and believed only as far as they are signed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key

from hs.matrix.keys import MAX_KEY_VALIDITY_MS, key_id_of
from tests.net.house import HERE, KEY, NetHouse
from tests.remote_scripts import Flood, cut, garbage, hang_up, refuse, reply
from tests.remote_server import RemoteServer
from tests.remote_world import RemoteWorld

MakeRemote = Callable[..., Awaitable[RemoteServer]]
DAY_S = 24 * 3600.0


def key_id(remote: RemoteServer) -> str:
    return key_id_of(remote.world.key)


def asked(remote: RemoteServer) -> int:
    return len(remote.received("GET", "/key/v2/server"))


async def get(house: NetHouse, remote: RemoteServer, *key_ids: str, until_s: float = 0) -> dict[str, Any]:
    wanted = house.wanted(remote.name, *(key_ids or (key_id(remote),)), until_s=until_s)
    return dict((await house.keys.get_keys(wanted))[remote.name])


async def test_a_server_is_asked_once_by_all_who_want_its_keys(house: NetHouse, remote: RemoteServer) -> None:
    found = await asyncio.gather(*(get(house, remote) for _ in range(20)))
    assert all(keys[key_id(remote)].verify_key == get_verify_key(remote.world.key) for keys in found)
    assert asked(remote) == 1
    # After a restart they come from the database.
    keys = await get(house.build(), remote)
    assert set(keys) == {key_id(remote)}
    assert asked(remote) == 1


async def test_our_own_keys_are_known_without_asking(house: NetHouse) -> None:
    keys = await house.keys.get_keys({HERE: {"ed25519:unknown": house.clock.now_ms() + 99}})
    assert keys[HERE][key_id_of(KEY)].verify_key == get_verify_key(KEY)
    assert house.finder.found == []


async def test_a_key_that_must_be_good_for_longer_is_asked_for_again(
    house: NetHouse, remote: RemoteServer
) -> None:
    first = (await get(house, remote))[key_id(remote)]
    house.clock.advance(DAY_S + 60)
    remote.world.key_valid_until_ts = house.clock.now_ms() + 1000 * 3600
    second = (await get(house, remote))[key_id(remote)]
    assert second.valid_until_ts == remote.world.key_valid_until_ts > first.valid_until_ts
    assert asked(remote) == 2


async def test_no_key_is_good_for_more_than_a_week(house: NetHouse, remote: RemoteServer) -> None:
    remote.world.key_valid_until_ts = 2**53 - 1
    key = (await get(house, remote))[key_id(remote)]
    assert key.valid_until_ts <= house.clock.now_ms() + MAX_KEY_VALIDITY_MS
    # So what is said to happen next year is not worth asking for.
    house.clock.advance(60)
    await get(house, remote, until_s=365 * DAY_S)
    assert asked(remote) == 1


async def test_keys_that_nobody_has_are_not_asked_for_again_and_again(
    house: NetHouse, remote: RemoteServer
) -> None:
    for i in range(5):
        assert key_id(remote) in await get(house, remote, f"ed25519:made_up_{i}")
    assert asked(remote) == 1
    house.clock.advance(31)
    await get(house, remote, "ed25519:made_up")
    assert asked(remote) == 2


async def test_a_rotated_key_is_good_for_what_was_before(house: NetHouse, remote: RemoteServer) -> None:
    old = remote.world.key
    await get(house, remote)
    house.clock.advance(60)
    retired_ts = house.clock.now_ms() - 5000
    remote.world.key = generate_signing_key("fresh")
    remote.world.old_keys = {
        key_id_of(old): {"key": _text_of(old), "expired_ts": retired_ts},
    }
    keys = await get(house, remote)
    assert keys[key_id_of(old)].valid_until_ts == retired_ts
    assert not keys[key_id_of(old)].covers(house.clock.now_ms())
    # It will not live again, so nobody is asked for it.
    house.clock.advance(60)
    await get(house, remote, key_id_of(old))
    assert asked(remote) == 2


@pytest.mark.parametrize(
    "action",
    [
        refuse(500, "M_UNKNOWN"),
        refuse(404, "M_UNRECOGNIZED"),
        reply([]),
        reply({"server_name": "127.0.0.1:1", "verify_keys": {}, "valid_until_ts": 5, "signatures": {}}),
        garbage(),
        garbage(b"[" * 5000, "application/json"),
        cut(),
        hang_up(),
        Flood(10_000_000),
    ],
)
async def test_a_server_without_good_answers_is_asked_less_and_less(
    house: NetHouse, remote: RemoteServer, action: Any
) -> None:
    remote.script("GET", "/key/v2/server", action)
    assert await get(house, remote) == {}
    assert await get(house, remote) == {}
    assert len(house.finder.found) == 1
    house.clock.advance(61)
    assert await get(house, remote) == {}
    assert len(house.finder.found) == 2
    house.clock.advance(61)
    remote.behave()
    assert await get(house, remote) == {}
    house.clock.advance(61)
    assert set(await get(house, remote)) == {key_id(remote)}


async def test_an_answer_of_another_key_is_not_believed(house: NetHouse, remote: RemoteServer) -> None:
    def forge(document: dict[str, Any]) -> dict[str, Any]:
        document["verify_keys"] = {key_id(remote): {"key": _text_of(generate_signing_key("x"))}}
        return document

    remote.lie("GET", "/key/v2/server", forge)
    assert await get(house, remote) == {}


async def test_keys_of_many_servers_come_together(house: NetHouse, make_remote: MakeRemote) -> None:
    remotes = [await make_remote() for _ in range(5)]
    wanted: dict[str, dict[str, int]] = {remote.name: {key_id(remote): 0} for remote in remotes}
    wanted |= {f"dead{i}.example": {"ed25519:a": 0} for i in range(300)}
    keys = await house.keys.get_keys(wanted)
    assert {name for name, known in keys.items() if known} == {remote.name for remote in remotes}
    tried = len(house.finder.found)
    await house.keys.get_keys(wanted)
    assert len(house.finder.found) == tried == 305


async def test_a_slow_server_holds_up_its_own_keys_only(house: NetHouse, make_remote: MakeRemote) -> None:
    slow, quick = await make_remote(), await make_remote()
    stall = slow.stall("GET", "/key/v2/server")
    waiting = asyncio.create_task(get(house, slow))
    await stall.reached()
    assert await get(house, quick)
    # Who wants its keys waits for the same answer, and who gives up ends nothing.
    waiting.cancel()
    second = asyncio.create_task(get(house, slow))
    stall.release()
    assert set(await second) == {key_id(slow)}
    assert asked(slow) == 1


# --- notaries --------------------------------------------------------------------------------------


async def _notary_for(house: NetHouse, make_remote: MakeRemote, gone: RemoteServer) -> RemoteServer:
    """A notary that knows the keys of a server that does not answer itself."""
    notary = await make_remote()
    notary.world.notary_keys[gone.name] = gone.world.key_document()
    gone.script("GET", "/key/v2/server", hang_up())
    house.notaries = (notary.name,)
    house.build()
    return notary


async def test_a_notary_vouches_for_who_does_not_answer(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    found = await asyncio.gather(*(get(house, remote) for _ in range(5)))
    assert all(set(keys) == {key_id(remote)} for keys in found)
    [query] = notary.received("POST", "/key/v2/query")
    assert set(query.body["server_keys"]) == {remote.name}
    # Its own keys were asked of itself.
    assert asked(notary) == 1


async def test_servers_that_do_not_answer_are_asked_for_together(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    wanted: dict[str, dict[str, int]] = {remote.name: {key_id(remote): 0}}
    wanted |= {f"dead{i}.example": {"ed25519:a": 0} for i in range(150)}
    keys = await house.keys.get_keys(wanted)
    assert keys[remote.name]
    queries = notary.received("POST", "/key/v2/query")
    assert {name for query in queries for name in query.body["server_keys"]} == set(wanted)
    assert len(queries) < len(wanted) / 3


def _far_servers(notary: RemoteServer, count: int) -> dict[str, dict[str, int]]:
    """What is wanted of servers whose keys the notary knows, and which are nowhere themselves."""
    worlds = [RemoteWorld(f"far{i}.example", generate_signing_key("a")) for i in range(count)]
    notary.world.notary_keys |= {world.name: world.key_document() for world in worlds}
    return {world.name: {"ed25519:a": 0} for world in worlds}


async def test_of_very_many_servers_the_notary_is_asked_first(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    wanted = _far_servers(notary, 250)
    # Who wants one of them meanwhile gets it from the same answers.
    keys, one = await asyncio.gather(
        house.keys.get_keys(wanted | {"nobody.example": {"ed25519:a": 0}}),
        house.keys.get_keys({"far3.example": wanted["far3.example"]}),
    )
    assert {name for name, known in keys.items() if known} == set(wanted)
    assert one["far3.example"] == keys["far3.example"]
    assert len(notary.received("POST", "/key/v2/query")) == 3
    # Only what it does not know is asked of the servers themselves.
    assert set(house.finder.found) <= {notary.name, "nobody.example", "far3.example"}


async def test_a_notary_that_is_down_is_left_alone_for_a_while(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    notary.script("POST", "/key/v2/query", hang_up())
    for number in range(3):
        await house.keys.get_keys({f"gone{number}.example": {"ed25519:a": 0}})
    assert house.finder.found.count(notary.name) == 1
    house.clock.advance(61)
    notary.behave()
    wanted = _far_servers(notary, 1)
    assert (await house.keys.get_keys(wanted))["far0.example"]


def _drop_notary_signature(answer: Any) -> Any:
    for document in answer["server_keys"]:
        document["signatures"] = {
            name: by_key for name, by_key in document["signatures"].items() if name == document["server_name"]
        }
    return answer


def _break_signature(answer: Any, of_notary: bool) -> Any:
    for document in answer["server_keys"]:
        for name, by_key in document["signatures"].items():
            if (name != document["server_name"]) == of_notary:
                by_key.update(dict.fromkeys(by_key, "A" * 86))
    return answer


@pytest.mark.parametrize(
    "lie",
    [
        _drop_notary_signature,
        lambda answer: _break_signature(answer, of_notary=True),
        lambda answer: _break_signature(answer, of_notary=False),
        lambda answer: {"server_keys": []},
        lambda answer: {"server_keys": [{}]},
        lambda answer: {"server_keys": [{"server_name": 5}]},
        lambda answer: {"server_keys": {}},
        lambda answer: [],
    ],
)
async def test_a_lying_notary_is_not_believed(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer, lie: Callable[[Any], Any]
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    notary.lie("POST", "/key/v2/query", lie)
    assert await get(house, remote) == {}


async def test_a_notary_cannot_replace_what_the_server_has_said(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    right = remote.world.key
    await get(house, remote)
    forged = generate_signing_key(right.version)
    remote.world.key = forged
    await _notary_for(house, make_remote, remote)
    house.clock.advance(8 * DAY_S)
    keys = await get(house, remote)
    assert keys[key_id_of(right)].verify_key == get_verify_key(right)
    assert not keys[key_id_of(right)].covers(house.clock.now_ms())


async def test_the_next_notary_is_asked_where_one_is_missing(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    house.notaries = ("gone.example", remote.name, notary.name)
    house.build()
    other = await make_remote()
    notary.world.notary_keys[other.name] = other.world.key_document()
    other.script("GET", "/key/v2/server", hang_up())
    assert set(await get(house, other)) == {key_id(other)}
    # Nobody vouches for a notary but itself.
    assert await get(house, remote) == {}


async def test_a_notary_may_have_several_answers_of_one_server(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    old = remote.world.key
    remote.world.key = generate_signing_key("fresh")
    fresh = notary.world.signed(remote.world.key_document())
    notary.lie("POST", "/key/v2/query", lambda answer: {"server_keys": [fresh, *answer["server_keys"]]})
    keys = await get(house, remote, key_id_of(old), "ed25519:fresh")
    assert set(keys) == {key_id_of(old), "ed25519:fresh"}


async def test_no_notary_is_asked_where_none_is_trusted(house: NetHouse) -> None:
    assert await house.keys.get_keys(house.wanted("gone.example", "ed25519:a")) == {"gone.example": {}}


async def test_what_is_no_server_name_has_no_keys(house: NetHouse) -> None:
    names = ["", "\x00", "a b", "x" * 500, "a.example/path", "\ud800"]
    assert await house.keys.get_keys({name: {"ed25519:a": 0} for name in names}) == {
        name: {} for name in names
    }
    assert house.finder.found == []


async def test_made_up_key_ids_are_not_passed_on_to_notaries_by_the_thousand(
    house: NetHouse, make_remote: MakeRemote, remote: RemoteServer
) -> None:
    notary = await _notary_for(house, make_remote, remote)
    await house.keys.get_keys(house.wanted(remote.name, *(f"ed25519:k{i}" for i in range(5000))))
    [query] = notary.received("POST", "/key/v2/query")
    assert len(query.body["server_keys"][remote.name]) == 20


async def test_closing_cuts_what_is_under_way(house: NetHouse, remote: RemoteServer) -> None:
    stall = remote.stall("GET", "/key/v2/server")
    waiting = asyncio.create_task(get(house, remote))
    await stall.reached()
    await house.keys.close()
    assert await waiting == {}
    stall.release()


def _text_of(key: Any) -> str:
    return str(encode_verify_key_base64(get_verify_key(key)))
