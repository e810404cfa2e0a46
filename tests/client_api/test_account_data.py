"""Account data."""

# ruff: noqa: F401, F811 (fixtures are imported)

from typing import Any
from urllib.parse import quote

import pytest

from tests.account_server import AccountServer, accounts, town
from tests.people import CLIENT, Town

ROOM = "!room:test.example"


async def test_what_is_stored_comes_back(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    assert (await alice.get("user", alice.user_id, "account_data", "a.b")).error == (404, "M_NOT_FOUND")
    content = {"n": 1.5, "big": 10**30, "text": "☃\x00", "list": [None, {}]}
    assert (await alice.put("user", alice.user_id, "account_data", "a.b", body=content)).status == 200
    assert (await alice.get("user", alice.user_id, "account_data", "a.b")).body == content
    # The room's data of the same type is something else.
    room = ("user", alice.user_id, "rooms", ROOM, "account_data", "a.b")
    assert (await alice.get(*room)).error == (404, "M_NOT_FOUND")
    assert (await alice.put(*room, body={"room": True})).status == 200
    assert (await alice.get(*room)).body == {"room": True}
    assert (await alice.get("user", alice.user_id, "account_data", "a.b")).body == content
    assert accounts.account_data_news == [(alice.user_id, 1), (alice.user_id, 2)]


async def test_changes_since_a_position(accounts: AccountServer, town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    for person in (alice, bob, alice):
        for type in ("a", "b"):
            await person.put("user", person.user_id, "account_data", type, body={"of": person.user_id})
    changes = await accounts.account_data.list_changes(alice.user_id, 5, 6)
    assert [(change.room_id, change.type) for change in changes] == [("", "b")]
    assert await accounts.account_data.list_changes(alice.user_id, 2, 4) == []
    everything = await accounts.account_data.list_changes(alice.user_id, None, 6)
    assert sorted(change.type for change in everything) == ["a", "b", "m.push_rules"]


@pytest.mark.parametrize("type", ["m.fully_read", "m.push_rules"])
async def test_types_with_endpoints_of_their_own_are_refused(town: Town, type: str) -> None:
    alice = await town.person("alice")
    answer = await alice.put("user", alice.user_id, "account_data", type, body={})
    assert answer.error == (405, "M_BAD_JSON")
    answer = await alice.put("user", alice.user_id, "rooms", ROOM, "account_data", type, body={})
    assert answer.error == (405, "M_BAD_JSON")


async def test_push_rules_can_be_read_as_account_data(town: Town) -> None:
    alice = await town.person("alice")
    answer = await alice.get("user", alice.user_id, "account_data", "m.push_rules")
    assert answer.body == (await alice.get("pushrules", "")).body


async def test_nobody_reads_or_writes_for_others(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    for place in (("account_data", "a"), ("rooms", ROOM, "account_data", "a")):
        assert (await alice.put("user", bob.user_id, *place)).error == (403, "M_FORBIDDEN")
        assert (await alice.get("user", bob.user_id, *place)).error == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"[]", (400, "M_BAD_JSON")),
        (b'"x"', (400, "M_BAD_JSON")),
        (b"{", (400, "M_NOT_JSON")),
        (b'{"a": "\xff"}', (400, "M_NOT_JSON")),
        (b'{"a": "\\ud800"}', (400, "M_NOT_JSON")),
        (b'{"a": NaN}', (400, "M_NOT_JSON")),
        (b'{"a": "' + b"x" * 300_000 + b'"}', (413, "M_TOO_LARGE")),
    ],
)
async def test_only_objects_are_stored(town: Town, data: bytes, error: tuple[int, str]) -> None:
    alice = await town.person("alice")
    url = f"{CLIENT}/user/{quote(alice.user_id)}/account_data/a"
    assert (await alice.raw("PUT", url, data)).error == error


async def test_odd_rooms_and_types_are_refused(town: Town) -> None:
    alice = await town.person("alice")
    answer = await alice.put("user", alice.user_id, "rooms", "no room", "account_data", "a")
    assert answer.error == (400, "M_INVALID_PARAM")
    answer = await alice.put("user", alice.user_id, "account_data", "x" * 256)
    assert answer.error == (400, "M_INVALID_PARAM")


async def test_all_account_data_of_a_user_has_a_limit(town: Town) -> None:
    anna = await town.person("anna")
    big = {"text": "x" * 250_000}
    for number in range(80):
        answer = await anna.put("user", anna.user_id, "account_data", f"org.example.{number}", body=big)
        if answer.status != 200:
            break
    assert answer.error == (413, "M_TOO_LARGE")
    assert number > 60
    # What is there can still become smaller, and nothing of the refused is kept.
    assert (await anna.get("user", anna.user_id, "account_data", f"org.example.{number}")).status == 404
    for kept in range(2):
        path = ("user", anna.user_id, "account_data", f"org.example.{kept}")
        assert (await anna.put(*path, body={})).status == 200
    assert (await anna.put("user", anna.user_id, "account_data", "org.example.new", body=big)).status == 200
