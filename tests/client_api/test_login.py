"""Logging in and out."""

# ruff: noqa: F401, F811 (fixtures are imported)

import json
from typing import Any

import pytest

from tests.account_server import AccountServer, accounts, town
from tests.people import Answer, Town

PASSWORD = "correct horse battery staple"


async def log_in(town: Town, who: str = "alice", **more: Any) -> Answer:
    body = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": who},
        "password": PASSWORD,
        **more,
    }
    return await town.visitor.post("login", body=body)


async def whoami(town: Town, token: str) -> Answer:
    headers = {"Authorization": f"Bearer {token}"}
    return await town.visitor.raw("GET", "/_matrix/client/v3/account/whoami", headers=headers)


@pytest.fixture
async def alice(accounts: AccountServer) -> str:
    """A registered user id."""
    return await accounts.registration.register("alice", PASSWORD)


async def test_the_ways_in(town: Town) -> None:
    flows = (await town.visitor.get("login")).body["flows"]
    assert flows == [
        {"type": "m.login.password"},
        {"type": "m.login.token", "get_login_token": True},
    ]


@pytest.mark.parametrize("user", ["alice", "@alice:test.example", "Alice", "@ALICE:test.example"])
async def test_a_user_logs_in_by_name_or_id(town: Town, alice: str, user: str) -> None:
    answer = await log_in(town, user)
    assert answer.status == 200, answer
    assert answer.body["user_id"] == alice
    assert answer.body["home_server"] == "test.example"
    who = await whoami(town, answer.body["access_token"])
    assert who.body == {"user_id": alice, "device_id": answer.body["device_id"], "is_guest": False}


async def test_the_deprecated_form_is_understood(town: Town, alice: str) -> None:
    answer = await log_in(town, identifier=None, user="alice")
    assert answer.body["user_id"] == alice


async def test_wrong_password_and_unknown_user_look_the_same(town: Town, alice: str) -> None:
    wrong = await log_in(town, password="wrong")
    unknown = [await log_in(town, user) for user in ("bob", "@alice:else.where", "", "a\x00b", "@", "@a:b:c")]
    assert wrong.error == (403, "M_FORBIDDEN")
    assert [answer.body for answer in unknown] == [wrong.body] * len(unknown)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"type": "m.login.sso"}, (400, "M_UNKNOWN")),
        ({"type": "m.login.application_service"}, (400, "M_APPSERVICE_LOGIN_UNSUPPORTED")),
        ({}, (400, "M_BAD_JSON")),
        ({"type": "m.login.password"}, (400, "M_MISSING_PARAM")),
        ({"type": "m.login.token"}, (400, "M_MISSING_PARAM")),
        ({"type": "m.login.token", "token": "hsl_nobody"}, (403, "M_FORBIDDEN")),
        ({"type": "m.login.password", "user": "a"}, (400, "M_MISSING_PARAM")),
        ({"type": "m.login.password", "user": 1, "password": "b"}, (400, "M_BAD_JSON")),
        (
            {
                "type": "m.login.password",
                "identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "a@b.example"},
                "password": "b",
            },
            (400, "M_UNKNOWN"),
        ),
    ],
)
async def test_other_requests_are_told_what_is_wrong(
    town: Town,
    body: dict[str, Any],
    error: tuple[int, str],
) -> None:
    assert (await town.visitor.post("login", body=body)).error == error


async def test_a_device_that_logs_in_again_has_one_token(town: Town, alice: str) -> None:
    first = (await log_in(town, device_id="PHONE", initial_device_display_name="Phone")).body
    assert (await whoami(town, first["access_token"])).status == 200
    second = (await log_in(town, device_id="PHONE", initial_device_display_name="Other name")).body
    assert second["device_id"] == "PHONE"
    ended = await whoami(town, first["access_token"])
    assert ended.error == (401, "M_UNKNOWN_TOKEN")
    assert ended.body["soft_logout"] is False
    assert (await whoami(town, second["access_token"])).status == 200


@pytest.mark.parametrize("device_id", ["", "x" * 256, "a\x00b"])
async def test_odd_device_ids_are_refused(town: Town, alice: str, device_id: str) -> None:
    assert (await log_in(town, device_id=device_id)).error == (400, "M_INVALID_PARAM")


async def test_logout_ends_one_session(town: Town, alice: str) -> None:
    first, second = (await log_in(town)).body, (await log_in(town)).body
    headers = {"Authorization": f"Bearer {first['access_token']}"}
    answer = await town.visitor.raw("POST", "/_matrix/client/v3/logout", headers=headers)
    assert (answer.status, answer.body) == (200, {})
    assert (await whoami(town, first["access_token"])).error == (401, "M_UNKNOWN_TOKEN")
    assert (await whoami(town, second["access_token"])).status == 200


async def test_logout_everywhere_ends_all_sessions(town: Town, alice: str) -> None:
    tokens = [(await log_in(town)).body["access_token"] for _ in range(3)]
    headers = {"Authorization": f"Bearer {tokens[0]}"}
    assert (await town.visitor.raw("POST", "/_matrix/client/r0/logout/all", headers=headers)).status == 200
    for token in tokens:
        assert (await whoami(town, token)).error == (401, "M_UNKNOWN_TOKEN")


async def test_a_locked_user_can_do_nothing_but_log_out(
    accounts: AccountServer,
    town: Town,
    alice: str,
) -> None:
    token = (await log_in(town)).body["access_token"]
    assert (await whoami(town, token)).status == 200
    async with accounts.database.write() as writer:
        await writer.execute("UPDATE users SET is_locked = true")
    accounts.tokens.forget_user(alice)
    locked = await whoami(town, token)
    assert locked.error == (401, "M_USER_LOCKED")
    assert locked.body["soft_logout"] is True
    headers = {"Authorization": f"Bearer {token}"}
    assert (await town.visitor.raw("POST", "/_matrix/client/v3/logout", headers=headers)).status == 200
    assert (await whoami(town, token)).error == (401, "M_UNKNOWN_TOKEN")


async def get_login_token(town: Town, access_token: str, **body: Any) -> Answer:
    headers = {"Authorization": f"Bearer {access_token}"}
    path = "/_matrix/client/v1/login/get_token"
    return await town.visitor.raw("POST", path, json.dumps(body).encode(), headers=headers)


async def test_one_device_lets_another_in(accounts: AccountServer, town: Town, alice: str) -> None:
    token = (await log_in(town)).body["access_token"]
    asked = await get_login_token(town, token)
    assert asked.status == 401
    assert asked.body["flows"] == [{"stages": ["m.login.password"]}]
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice},
        "password": PASSWORD,
        "session": asked.body["session"],
    }
    answer = await get_login_token(town, token, auth=auth)
    assert answer.body["expires_in_ms"] == 120_000
    login = {"type": "m.login.token", "token": answer.body["login_token"], "device_id": "SECOND"}
    made = await town.visitor.post("login", body=login)
    assert (made.body["user_id"], made.body["device_id"]) == (alice, "SECOND")
    assert (await whoami(town, made.body["access_token"])).status == 200
    # It is good once, and what was proven is good for one token.
    assert (await town.visitor.post("login", body=login)).error == (403, "M_FORBIDDEN")
    assert (await get_login_token(town, token, auth=auth)).error == (400, "M_UNKNOWN")


async def test_a_login_token_does_not_last(accounts: AccountServer, town: Town, alice: str) -> None:
    auth = {"type": "m.login.password", "password": PASSWORD}
    access_token = (await log_in(town)).body["access_token"]
    token = (await get_login_token(town, access_token, auth=auth)).body["login_token"]
    accounts.clock.advance(121)
    late = await town.visitor.post("login", body={"type": "m.login.token", "token": token})
    assert late.error == (403, "M_FORBIDDEN")
    token = (await get_login_token(town, access_token, auth=auth)).body["login_token"]
    await accounts.tokens.deactivate(alice)
    closed = await town.visitor.post("login", body={"type": "m.login.token", "token": token})
    assert closed.error == (403, "M_USER_DEACTIVATED")
