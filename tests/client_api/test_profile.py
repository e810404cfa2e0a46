"""Profiles."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from hs.storage.database import Database
from tests.account_server import AccountServer, accounts, town
from tests.people import Town, path


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
        ("avatar_url", {"avatar_url": ["mxc://a/b"]}, (400, "M_BAD_JSON")),
        ("avatar_url", {"avatar_url": "mxc://" + "x" * 2000}, (400, "M_PROFILE_TOO_LARGE")),
        ("m.tz", {"m.tz": 1}, (400, "M_BAD_JSON")),
        ("org.example.field", {"other": 1}, (400, "M_MISSING_PARAM")),
        ("org.example.field", [], (400, "M_BAD_JSON")),
        ("org.example.field", {"org.example.field": "x" * 65536}, (400, "M_PROFILE_TOO_LARGE")),
        ("Not A Field", {"Not A Field": "x"}, (400, "M_INVALID_PARAM")),
        (".field", {".field": "x"}, (400, "M_INVALID_PARAM")),
        ("a." + "x" * 254, {"a." + "x" * 254: 1}, (400, "M_KEY_TOO_LARGE")),
    ],
)
async def test_wrong_changes(town: Town, field: str, body: Any, error: tuple[int, str]) -> None:
    alice = await town.person("alice")
    assert (await alice.put("profile", alice.user_id, field, body=body)).error == error
    assert set((await town.visitor.get("profile", alice.user_id)).body) == {"displayname"}


@pytest.mark.parametrize("field", ["Not A Field", "a." + "x" * 254])
async def test_what_is_no_name_of_a_field_is_not_looked_up(town: Town, field: str) -> None:
    alice = await town.person("alice")
    error = (400, "M_KEY_TOO_LARGE" if len(field) > 255 else "M_INVALID_PARAM")
    assert (await town.visitor.get("profile", alice.user_id, field)).error == error
    assert (await alice.delete("profile", alice.user_id, field)).error == error


@pytest.mark.parametrize(
    "value",
    ["Europe/London", "", "\x00☃", None, True, 10**30, 1.5, [1, {"a": None}], {"deep": {"er": []}}],
)
async def test_other_fields_hold_any_json(accounts: AccountServer, town: Town, value: Any) -> None:
    alice = await town.person("alice")
    field = "org.example.some-field_1"
    assert (await town.visitor.get("profile", alice.user_id, field)).error == (404, "M_NOT_FOUND")
    assert (await alice.put("profile", alice.user_id, field, body={field: value})).body == {}
    assert (await town.visitor.get("profile", alice.user_id, field)).body == {field: value}
    assert (await town.visitor.get("profile", alice.user_id)).body[field] == value
    # Rooms have nothing to do with it.
    assert accounts.profile_changes == []
    assert set(await accounts.profiles.member_fields(alice.user_id)) == {"displayname"}
    assert (await alice.delete("profile", alice.user_id, field)).body == {}
    assert set((await town.visitor.get("profile", alice.user_id)).body) == {"displayname"}
    assert (await alice.delete("profile", alice.user_id, field)).body == {}


async def test_a_field_can_be_set_again_and_others_stay(town: Town) -> None:
    alice = await town.person("alice")
    for zone in ("Europe/London", "Asia/Tokyo"):
        assert (await alice.put("profile", alice.user_id, "m.tz", body={"m.tz": zone})).status == 200
    await alice.put("profile", alice.user_id, "a.b", body={"a.b": 1, "c.d": 2})
    profile = (await town.visitor.get("profile", alice.user_id)).body
    assert {key: profile[key] for key in profile if key != "displayname"} == {"m.tz": "Asia/Tokyo", "a.b": 1}


async def test_the_longest_name_of_a_field(town: Town) -> None:
    alice = await town.person("alice")
    field = "a." + "x" * 253
    assert (await alice.put("profile", alice.user_id, field, body={field: 1})).status == 200
    assert (await town.visitor.get("profile", alice.user_id, field)).body == {field: 1}


async def test_a_profile_stays_under_64_kib(town: Town) -> None:
    alice = await town.person("alice")
    url = path("profile", alice.user_id)
    for field in ("a.a", "a.b", "a.c"):
        answer = await alice.put("profile", alice.user_id, field, body={field: "x" * 20_000})
        assert answer.status == 200
    async with town.session.get(town.base_url + url) as response:
        room = 65_535 - len(await response.read()) - len(',"a.d":""')
    too_much = await alice.put("profile", alice.user_id, "a.d", body={"a.d": "x" * (room + 1)})
    assert too_much.error == (400, "M_PROFILE_TOO_LARGE")
    assert (await alice.put("profile", alice.user_id, "a.d", body={"a.d": "x" * room})).status == 200
    async with town.session.get(town.base_url + url) as response:
        assert len(await response.read()) == 65_535
    # A longer name does not fit now; what is replaced does not count.
    name = {"displayname": "y" * 100}
    assert (await alice.put("profile", alice.user_id, "displayname", body=name)).errcode == (
        "M_PROFILE_TOO_LARGE"
    )
    assert (await alice.put("profile", alice.user_id, "a.d", body={"a.d": "y" * room})).status == 200
    assert (await alice.delete("profile", alice.user_id, "a.d")).status == 200
    assert (await alice.put("profile", alice.user_id, "displayname", body=name)).status == 200


async def test_changes_at_the_same_time_do_not_exceed_the_limit_together(town: Town) -> None:
    alice = await town.person("alice")
    answers = await asyncio.gather(
        *(alice.put("profile", alice.user_id, f"a.n{n}", body={f"a.n{n}": "x" * 30_000}) for n in range(6))
    )
    assert sorted(answer.status for answer in answers) == [200] * 2 + [400] * 4


async def test_the_paths_of_the_proposal_are_served(town: Town) -> None:
    alice = await town.person("alice")
    url = f"/_matrix/client/unstable/uk.tcpip.msc4133/profile/{quote(alice.user_id, safe='')}"
    assert (await alice.raw("PUT", f"{url}/m.tz", b'{"m.tz": "Asia/Tokyo"}')).status == 200
    assert (await alice.raw("GET", f"{url}/m.tz")).body == {"m.tz": "Asia/Tokyo"}
    assert (await alice.raw("GET", url)).body["m.tz"] == "Asia/Tokyo"
    assert (await alice.raw("DELETE", f"{url}/m.tz")).status == 200
    assert (await alice.raw("GET", f"{url}/m.tz")).error == (404, "M_NOT_FOUND")


async def test_a_closed_account_has_no_fields(town: Town, database: Database) -> None:
    alice = await town.person("alice")
    await alice.put("profile", alice.user_id, "m.tz", body={"m.tz": "Asia/Tokyo"})
    name = alice.user_id[1:].partition(":")[0]
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": f"{name} has a secret",
    }
    assert (await alice.post("account", "deactivate", body={"auth": auth})).status == 200
    assert (await town.visitor.get("profile", alice.user_id, "m.tz")).error == (404, "M_NOT_FOUND")
    assert await database.fetchval("SELECT count(*) FROM profile_fields") == 0


async def test_only_ones_own_profile_can_be_changed(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    answer = await alice.put("profile", bob.user_id, "displayname", body={"displayname": "mine"})
    assert answer.error == (403, "M_FORBIDDEN")
    assert (await alice.delete("profile", bob.user_id, "displayname")).error == (403, "M_FORBIDDEN")
    answer = await alice.put("profile", bob.user_id, "m.tz", body={"m.tz": "Asia/Tokyo"})
    assert answer.error == (403, "M_FORBIDDEN")
    assert (await town.visitor.put("profile", bob.user_id, "m.tz", body={"m.tz": ""})).status == 401


async def test_unknown_people_have_no_profile(accounts: AccountServer, town: Town) -> None:
    for user_id in ("@nobody:test.example", "@alice:elsewhere.example"):
        assert (await town.visitor.get("profile", user_id)).error == (404, "M_NOT_FOUND")
        assert await accounts.profiles.member_fields(user_id) == {}
    assert (await town.visitor.get("profile", "nobody")).error == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize(
    "url", ["http://x.test/a", "mxc://", "mxc://x.test", "mxc://x.test/", "x", "mxc://a/b/c", "mxc:// /a"]
)
async def test_an_avatar_is_an_mxc_uri(town: Town, url: str) -> None:
    alice = await town.person("alice")
    answer = await alice.put("profile", alice.user_id, "avatar_url", body={"avatar_url": url})
    assert answer.error == (400, "M_INVALID_PARAM")
