"""Profiles."""

# ruff: noqa: F401, F811 (fixtures are imported)

from typing import Any

import pytest

from tests.account_server import AccountServer, accounts, town
from tests.people import Town


async def test_the_first_display_name_is_the_user_name(town: Town) -> None:
    alice = await town.person("alice")
    name = alice.user_id[1:].partition(":")[0]
    assert (await town.visitor.get("profile", alice.user_id)).body == {"displayname": name}
    assert (await town.visitor.get("profile", alice.user_id, "displayname")).body == {"displayname": name}
    assert (await town.visitor.get("profile", alice.user_id, "avatar_url")).error == (404, "M_NOT_FOUND")


async def test_changes_are_seen_by_all_and_told_to_rooms(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    url = "mxc://test.example/abc"
    assert (await alice.put("profile", alice.user_id, "avatar_url", body={"avatar_url": url})).status == 200
    assert (await alice.put("profile", alice.user_id, "displayname", body={"displayname": "☃"})).status == 200
    assert (await town.visitor.get("profile", alice.user_id)).body == {"displayname": "☃", "avatar_url": url}
    assert await accounts.profiles.member_fields(alice.user_id) == {"displayname": "☃", "avatar_url": url}
    assert accounts.profile_changes == [alice.user_id] * 2
    # Nothing new, nothing to tell.
    assert (await alice.put("profile", alice.user_id, "displayname", body={"displayname": "☃"})).status == 200
    assert len(accounts.profile_changes) == 2


async def test_fields_can_be_taken_away(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    assert (await alice.delete("profile", alice.user_id, "displayname")).status == 200
    assert (await alice.delete("profile", alice.user_id, "avatar_url")).status == 200
    assert (await town.visitor.get("profile", alice.user_id)).body == {}
    assert accounts.profile_changes == [alice.user_id]


@pytest.mark.parametrize(
    ("field", "body", "error"),
    [
        ("displayname", {}, (400, "M_MISSING_PARAM")),
        ("displayname", {"displayname": 5}, (400, "M_BAD_JSON")),
        ("displayname", {"displayname": "a\x00"}, (400, "M_INVALID_PARAM")),
        ("displayname", {"displayname": "x" * 2000}, (400, "M_PROFILE_TOO_LARGE")),
        ("m.tz", {"m.tz": "Europe/London"}, (403, "M_FORBIDDEN")),
        ("Not A Field", {"Not A Field": "x"}, (400, "M_INVALID_PARAM")),
        ("a." + "x" * 300, {}, (400, "M_KEY_TOO_LARGE")),
    ],
)
async def test_wrong_changes(town: Town, field: str, body: dict[str, Any], error: tuple[int, str]) -> None:
    alice = await town.person("alice")
    assert (await alice.put("profile", alice.user_id, field, body=body)).error == error


async def test_only_ones_own_profile_can_be_changed(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    answer = await alice.put("profile", bob.user_id, "displayname", body={"displayname": "mine"})
    assert answer.error == (403, "M_FORBIDDEN")
    assert (await alice.delete("profile", bob.user_id, "displayname")).error == (403, "M_FORBIDDEN")


async def test_unknown_people_have_no_profile(accounts: AccountServer, town: Town) -> None:
    for user_id in ("@nobody:test.example", "@alice:elsewhere.example"):
        assert (await town.visitor.get("profile", user_id)).error == (404, "M_NOT_FOUND")
        assert await accounts.profiles.member_fields(user_id) == {}
    assert (await town.visitor.get("profile", "nobody")).error == (400, "M_INVALID_PARAM")
