"""Keys and failing servers come out of the database as they went in."""

from dataclasses import replace

from signedjson.key import get_verify_key

from hs.matrix.destinations import Failing
from hs.matrix.keys import ServerKey, signing_key_from_seed
from hs.matrix.server_keys import KeyAnswer, KnownKey
from hs.storage.database import Database
from hs.storage.destinations import DestinationStore
from hs.storage.server_keys import ServerKeyStore

KEY = get_verify_key(signing_key_from_seed("a_1", b"\x01" * 32))
OTHER = get_verify_key(signing_key_from_seed("b_1", b"\x02" * 32))
A = KnownKey("a.example", ServerKey("ed25519:a_1", KEY, 50), False, True, 7)
B = KnownKey("b.example", ServerKey("ed25519:b_1", OTHER, 60), True, False, 8)


async def test_keys_are_replaced_one_by_one(database: Database) -> None:
    store = ServerKeyStore(database)
    await store.set_keys([B, A], [])
    assert await store.list_keys(["a.example", "unknown.example"]) == [A]
    changed = replace(A, key=ServerKey("ed25519:a_1", OTHER, 99), is_old=True, is_direct=False, fetched_ts=9)
    await store.set_keys([changed], [])
    found = await store.list_keys(["a.example", "b.example"])
    assert sorted(found, key=lambda known: known.server_name) == [changed, B]
    assert found[0].key.verify_key.version in ("a_1", "b_1")


async def test_the_servers_own_answer_stays_whatever_a_notary_says(database: Database) -> None:
    store = ServerKeyStore(database)
    hearsay = KeyAnswer("a.example", {}, 50, 7, False, b'{"from":"notary"}')
    own = KeyAnswer("a.example", {}, 40, 6, True, b'{"from":"server"}')
    for given, kept in ((hearsay, hearsay), (own, own), (hearsay, own), (replace(own, fetched_ts=9), None)):
        await store.set_keys([], [given])
        assert await store.list_answers(["a.example", "b.example"]) == {"a.example": kept or given}


async def test_failing_servers_are_kept_until_they_answer(database: Database) -> None:
    store = DestinationStore(database)
    first, second = Failing("a.example", 1, 10, 15, 20), Failing("b.example", 2, 10, 15, 30)
    await store.set_failing(first)
    await store.set_failing(replace(second, failures=1))
    await store.set_failing(second)
    assert await store.list_failing(5) == [second, first]
    assert await store.list_failing(1) == [second]
    await store.delete_forgotten(21)
    assert await store.list_failing(5) == [second]
    await store.delete_failing("b.example")
    assert await store.list_failing(5) == []
