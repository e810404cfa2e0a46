"""POST /register and GET /register/available."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
from typing import Any

import pytest

from hs.storage.database import Database
from tests.account_server import AccountServer, accounts, town
from tests.people import Answer, Person, Town

DUMMY = {"type": "m.login.dummy"}


async def register(town: Town, **body: Any) -> Answer:
    return await town.visitor.post("register", body={"auth": DUMMY, "password": "a secret", **body})


async def test_the_flow_is_shown_then_taken(town: Town) -> None:
    body: dict[str, Any] = {"username": "alice", "password": "a secret"}
    asked = await town.visitor.post("register", body=body)
    assert asked.status == 401
    assert asked.body["flows"] == [{"stages": ["m.login.dummy"]}]
    assert asked.body["params"] == {}
    assert "errcode" not in asked.body
    assert "completed" not in asked.body
    body["auth"] = {**DUMMY, "session": asked.body["session"]}
    made = await town.visitor.post("register", body=body)
    assert made.status == 200, made
    assert made.body["user_id"] == "@alice:test.example"
    assert made.body["home_server"] == "test.example"
    headers = {"Authorization": f"Bearer {made.body['access_token']}"}
    who = await town.visitor.raw("GET", "/_matrix/client/r0/account/whoami", headers=headers)
    assert who.body["device_id"] == made.body["device_id"]


async def test_a_session_is_good_once_and_not_forever(accounts: AccountServer, town: Town) -> None:
    session = (await town.visitor.post("register")).body["session"]
    auth = {**DUMMY, "session": session}
    assert (await register(town, username="a", auth=auth)).status == 200
    assert (await register(town, username="b", auth=auth)).error == (400, "M_UNKNOWN")
    session = (await town.visitor.post("register")).body["session"]
    accounts.clock.advance(3600)
    assert (await register(town, username="b", auth={**DUMMY, "session": session})).error == (
        400,
        "M_UNKNOWN",
    )


async def test_a_session_remembers_what_it_was_opened_for(town: Town) -> None:
    wanted = {"username": "Alice", "password": "a secret", "device_id": "PHONE"}
    session = (await town.visitor.post("register", body=wanted)).body["session"]
    made = await town.visitor.post("register", body={"auth": {**DUMMY, "session": session}})
    assert (made.body["user_id"], made.body["device_id"]) == ("@alice:test.example", "PHONE")
    login = {"type": "m.login.password", "user": "alice", "password": "a secret"}
    assert (await town.visitor.post("login", body=login)).status == 200


async def test_a_repeated_registration_is_the_same_account(town: Town) -> None:
    for name in ({}, {"username": "alice"}):
        session = (await town.visitor.post("register", body={"password": "a secret"})).body["session"]
        auth = {**DUMMY, "session": session}
        answers = await asyncio.gather(*(register(town, auth=auth, **name) for _ in range(3)))
        assert [answer.status for answer in answers] == [200] * 3
        [user_id] = {answer.body["user_id"] for answer in answers}
        assert len({answer.body["access_token"] for answer in answers}) == 3
    assert user_id == "@alice:test.example"


async def test_a_closed_account_does_not_come_back_with_its_session(town: Town) -> None:
    session = (await town.visitor.post("register")).body["session"]
    auth = {**DUMMY, "session": session}
    alice = Person(town.session, town.base_url, (await register(town, auth=auth)).body)
    proof = {"type": "m.login.password", "user": alice.user_id, "password": "a secret"}
    assert (await alice.post("account", "deactivate", body={"auth": proof})).status == 200
    assert (await register(town, auth=auth)).error == (403, "M_USER_DEACTIVATED")


async def test_a_stage_that_is_not_offered_fails_with_the_flows(town: Town) -> None:
    answer = await register(town, username="a", auth={"type": "m.login.recaptcha"})
    assert answer.error == (401, "M_UNKNOWN")
    assert answer.body["flows"] == [{"stages": ["m.login.dummy"]}]
    assert answer.body["session"]


@pytest.mark.parametrize(
    ("name", "errcode"),
    [
        ("alice", "M_USER_IN_USE"),
        ("Alice", "M_USER_IN_USE"),
        # The Kelvin sign, whose lower case is a plain k.
        ("\u212aelvin", "M_INVALID_USERNAME"),
        ("", "M_INVALID_USERNAME"),
        ("@alice:test.example", "M_INVALID_USERNAME"),
        ("ünï", "M_INVALID_USERNAME"),
        ("a b", "M_INVALID_USERNAME"),
        ("nul\x00", "M_INVALID_USERNAME"),
        ("x" * 243, "M_INVALID_USERNAME"),
    ],
)
async def test_names_that_cannot_be_had(town: Town, name: str, errcode: str) -> None:
    assert (await register(town, username="alice")).status == 200
    # Before the interactive authentication, so that nobody solves a captcha in vain.
    assert (await register(town, username=name, auth=None)).error == (400, errcode)
    assert (await register(town, username=name)).error == (400, errcode)
    assert (await town.visitor.get("register", "available", username=name)).error in (
        (400, errcode),
        (400, "M_INVALID_PARAM"),  # a NUL in the query
    )


async def test_the_longest_name_fits(town: Town) -> None:
    assert (await register(town, username="x" * 241)).status == 200


async def test_capitals_become_small(town: Town) -> None:
    made = await register(town, username="Queen-OF-Hearts")
    assert made.status == 200, made
    assert made.body["user_id"] == "@queen-of-hearts:test.example"


async def test_available_names_are(town: Town) -> None:
    assert (await town.visitor.get("register", "available", username="free")).body == {"available": True}
    assert (await town.visitor.get("register", "available")).error == (400, "M_MISSING_PARAM")


async def test_who_brings_no_name_gets_one(town: Town) -> None:
    first, second = await register(town), await register(town)
    assert first.status == second.status == 200
    assert first.body["user_id"] != second.body["user_id"]


async def test_no_login_on_request(town: Town, database: Database) -> None:
    answer = await register(town, username="alice", inhibit_login=True)
    assert answer.body == {"user_id": "@alice:test.example"}
    assert await database.fetchval("SELECT count(*) FROM access_tokens") == 0


async def test_the_first_device_is_as_asked_for(town: Town, database: Database) -> None:
    answer = await register(town, device_id="PHONE", initial_device_display_name="My phone")
    assert answer.body["device_id"] == "PHONE"
    assert await database.fetchval("SELECT display_name FROM devices") == "My phone"


async def test_neither_passwords_nor_tokens_are_stored(town: Town, database: Database) -> None:
    answer = await register(town, username="alice", password="very secret indeed")
    dump = str(await database.fetch("SELECT * FROM users")) + str(
        await database.fetch("SELECT * FROM access_tokens")
    )
    assert "$argon2id$" in dump
    assert "very secret indeed" not in dump
    assert answer.body["access_token"] not in dump


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"password": None}, (400, "M_MISSING_PARAM")),
        ({"password": "x" * 5000}, (400, "M_INVALID_PARAM")),
        ({"password": 5}, (400, "M_BAD_JSON")),
        ({"username": 5}, (400, "M_BAD_JSON")),
        ({"auth": "dummy"}, (400, "M_BAD_JSON")),
        ({"type": "m.login.application_service"}, (400, "M_APPSERVICE_LOGIN_UNSUPPORTED")),
    ],
)
async def test_wrong_requests(town: Town, body: dict[str, Any], error: tuple[int, str]) -> None:
    assert (await register(town, **body)).error == error


async def test_there_are_no_guests(town: Town) -> None:
    answer = await town.visitor.raw("POST", "/_matrix/client/v3/register?kind=guest", b"{}")
    assert answer.error == (403, "M_GUEST_ACCESS_FORBIDDEN")
    answer = await town.visitor.raw("POST", "/_matrix/client/v3/register?kind=king", b"{}")
    assert answer.error == (400, "M_UNKNOWN")


async def test_closed_registration(accounts: AccountServer) -> None:
    accounts.is_registration_enabled = False
    async with accounts.serve() as town:
        assert (await register(town, username="alice")).error == (403, "M_FORBIDDEN")
        assert (await town.visitor.get("register", "available", username="a")).error == (403, "M_FORBIDDEN")


async def test_an_odd_device_leaves_no_account_behind(town: Town) -> None:
    assert (await register(town, username="alice", device_id="")).error == (400, "M_INVALID_PARAM")
    long_name = "x" * 256
    refused = await register(town, username="alice", initial_device_display_name=long_name)
    assert refused.error == (400, "M_INVALID_PARAM")
    assert (await register(town, username="alice", device_id="PHONE")).body["device_id"] == "PHONE"


async def test_registration_by_token(accounts: AccountServer) -> None:
    accounts.registration_tokens = ("a-token", "☃")
    async with accounts.serve() as town:
        body: dict[str, Any] = {"username": "alice", "password": "a secret"}
        asked = await town.visitor.post("register", body=body)
        assert asked.body["flows"] == [{"stages": ["m.login.registration_token"]}]
        stage = {"type": "m.login.registration_token", "session": asked.body["session"]}
        for wrong in ({"token": "wrong"}, {"token": ""}, {}):
            refused = await town.visitor.post("register", body={**body, "auth": {**stage, **wrong}})
            assert refused.error == (401, "M_FORBIDDEN")
        assert (await register(town, username="alice")).error == (401, "M_UNKNOWN")
        made = await town.visitor.post("register", body={**body, "auth": {**stage, "token": "☃"}})
        assert made.body["user_id"] == "@alice:test.example"


@pytest.mark.parametrize(("token", "is_valid"), [("a-token", True), ("a-toke", False), ("", False)])
async def test_registration_tokens_can_be_checked(
    accounts: AccountServer, token: str, is_valid: bool
) -> None:
    accounts.registration_tokens = ("a-token",)
    path = f"/_matrix/client/v1/register/m.login.registration_token/validity?token={token}"
    async with accounts.serve() as town:
        assert (await town.visitor.raw("GET", path)).body == {"valid": is_valid}
        without = await town.visitor.raw("GET", path.partition("?")[0])
        assert without.error == (400, "M_MISSING_PARAM")


async def test_no_token_is_good_where_nobody_may_register(accounts: AccountServer) -> None:
    accounts.registration_tokens = ("a-token",)
    accounts.is_registration_enabled = False
    path = "/_matrix/client/v1/register/m.login.registration_token/validity?token=a-token"
    async with accounts.serve() as town:
        assert (await town.visitor.raw("GET", path)).error == (403, "M_FORBIDDEN")
