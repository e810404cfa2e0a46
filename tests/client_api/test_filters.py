"""Filters."""

# ruff: noqa: F401, F811 (fixtures are imported)

from typing import Any

import pytest

from hs.accounts import filters as filters_module
from tests.account_server import AccountServer, accounts, town
from tests.people import Town

FILTER = {"room": {"timeline": {"limit": 5}, "org.example.future": 1}, "event_fields": ["type"]}


async def test_a_filter_comes_back_as_it_was_uploaded(town: Town) -> None:
    alice = await town.person("alice")
    made = await alice.post("user", alice.user_id, "filter", body=FILTER)
    filter_id = made.body["filter_id"]
    assert not filter_id.startswith("{")
    assert (await alice.get("user", alice.user_id, "filter", filter_id)).body == FILTER


async def test_the_same_filter_has_the_same_id(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    answers = [await alice.post("user", alice.user_id, "filter", body=FILTER) for _ in range(3)]
    assert len({answer.body["filter_id"] for answer in answers}) == 1
    other = await alice.post("user", alice.user_id, "filter", body={})
    assert other.body != answers[0].body
    # Ids are of one user.
    filter_id = other.body["filter_id"]
    assert (await bob.get("user", bob.user_id, "filter", filter_id)).error == (404, "M_NOT_FOUND")


async def test_only_ones_own_filters(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    assert (await alice.post("user", bob.user_id, "filter")).error == (403, "M_FORBIDDEN")
    assert (await alice.get("user", bob.user_id, "filter", "0")).error == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("filter_id", "error"),
    [
        ("0", (404, "M_NOT_FOUND")),
        ("9" * 100, (404, "M_NOT_FOUND")),
        ("x", (400, "M_INVALID_PARAM")),
        ("-1", (400, "M_INVALID_PARAM")),
        ("²", (400, "M_INVALID_PARAM")),
        ("", (400, "M_INVALID_PARAM")),
    ],
)
async def test_ids_of_no_filter(town: Town, filter_id: str, error: tuple[int, str]) -> None:
    alice = await town.person("alice")
    assert (await alice.get("user", alice.user_id, "filter", filter_id)).error == error


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"room": []}, (400, "M_BAD_JSON")),
        ({"event_format": "xml"}, (400, "M_BAD_JSON")),
        ({"room": {"timeline": {"limit": "many"}}}, (400, "M_BAD_JSON")),
        ({"room": {"rooms": ["!" + "x" * 200] * 400}}, (413, "M_TOO_LARGE")),
    ],
)
async def test_what_is_no_filter(town: Town, body: dict[str, Any], error: tuple[int, str]) -> None:
    alice = await town.person("alice")
    assert (await alice.post("user", alice.user_id, "filter", body=body)).error == error


async def test_there_is_a_last_filter(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters_module, "MAX_FILTERS", 2)
    alice = await town.person("alice")
    answers = [
        await alice.post("user", alice.user_id, "filter", body={"room": {"timeline": {"limit": limit}}})
        for limit in (1, 2, 3)
    ]
    assert [answer.error for answer in answers] == [(200, None), (200, None), (400, "M_UNKNOWN")]
