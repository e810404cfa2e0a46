"""/_synapse/admin/v1/register, as scripts use it."""

# ruff: noqa: F401, F811 (fixtures are imported)

import hashlib
import hmac
import json
from typing import Any

import pytest

from hs.accounts.overrides import Limit
from hs.storage.database import Database
from tests.account_server import SHARED_SECRET, AccountServer, accounts, town
from tests.people import Answer, Town

PATH = "/_synapse/admin/v1/register"


def sign(*parts: str, secret: str = SHARED_SECRET) -> str:
    return hmac.new(secret.encode(), b"\x00".join(part.encode() for part in parts), hashlib.sha1).hexdigest()


async def fetch_nonce(town: Town) -> str:
    nonce: str = (await town.visitor.raw("GET", PATH)).body["nonce"]
    return nonce


async def send(town: Town, body: dict[str, Any]) -> Answer:
    return await town.visitor.raw("POST", PATH, json.dumps(body).encode())


async def register(town: Town, name: str, admin: bool = False, **more: Any) -> Answer:
    nonce = await fetch_nonce(town)
    parts = [nonce, name, "a secret", "admin" if admin else "notadmin"]
    if "user_type" in more:
        parts.append(more["user_type"])
    body = {"nonce": nonce, "username": name, "password": "a secret", "admin": admin, "mac": sign(*parts)}
    return await send(town, body | more)


async def test_an_account_with_a_session(town: Town, database: Database) -> None:
    answer = await register(town, "Ops", admin=True, displayname="Operator")
    assert answer.status == 200, answer
    assert set(answer.body) == {"user_id", "access_token", "device_id", "home_server"}
    assert answer.body["user_id"] == "@ops:test.example"
    headers = {"Authorization": f"Bearer {answer.body['access_token']}"}
    who = await town.visitor.raw("GET", "/_matrix/client/v3/account/whoami", headers=headers)
    assert who.body["user_id"] == "@ops:test.example"
    assert await database.fetchval("SELECT is_admin FROM users") is True
    assert (await town.visitor.get("profile", "@ops:test.example")).body == {"displayname": "Operator"}


async def test_ordinary_users_and_bots(town: Town, database: Database) -> None:
    assert (await register(town, "alice")).status == 200
    assert (await register(town, "bot", user_type="bot")).status == 200
    assert (await register(town, "odd", user_type="emperor")).error == (400, "M_INVALID_PARAM")
    assert await database.fetchval("SELECT count(*) FROM users WHERE is_admin") == 0
    assert (await register(town, "alice")).error == (400, "M_USER_IN_USE")


async def test_works_where_registration_is_closed(accounts: AccountServer) -> None:
    accounts.is_registration_enabled = False
    async with accounts.serve() as town:
        assert (await register(town, "alice")).status == 200


async def test_a_wrong_mac_makes_nobody(town: Town, database: Database) -> None:
    for mac in ("", "00", "ü", sign("x", secret="guessed")):
        assert (await register(town, "alice", mac=mac)).error == (403, "M_FORBIDDEN")
    nonce = await fetch_nonce(town)
    # A MAC for an ordinary user does not make an administrator.
    mac = sign(nonce, "alice", "a secret", "notadmin")
    body = {"nonce": nonce, "username": "alice", "password": "a secret", "admin": True, "mac": mac}
    assert (await send(town, body)).error == (403, "M_FORBIDDEN")
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_a_nonce_is_good_once_and_for_a_minute(accounts: AccountServer, town: Town) -> None:
    nonce = await fetch_nonce(town)
    body = {
        "nonce": nonce,
        "username": "alice",
        "password": "p",
        "mac": sign(nonce, "alice", "p", "notadmin"),
    }
    assert (await send(town, body)).status == 200
    assert (await send(town, body)).error == (400, "M_UNKNOWN")
    nonce = await fetch_nonce(town)
    body = {"nonce": nonce, "username": "bob", "password": "p", "mac": sign(nonce, "bob", "p", "notadmin")}
    accounts.clock.advance(61)
    assert (await send(town, body)).error == (400, "M_UNKNOWN")


async def test_strangers_that_ask_for_nonces_push_nobody_out(town: Town) -> None:
    [nonce, *others] = [await fetch_nonce(town) for _ in range(50)]
    assert len({nonce, *others}) == 50
    body = {"username": "alice", "password": "p"}
    for made_up in ("", "x", "-", "1-2-3", nonce[:-1], nonce + "0", "f" + nonce, "ü-" + nonce):
        mac = sign(made_up, "alice", "p", "notadmin")
        assert (await send(town, body | {"nonce": made_up, "mac": mac})).error == (400, "M_UNKNOWN"), made_up
    # Who guesses uses up no nonce of somebody else, either.
    assert (await send(town, body | {"nonce": nonce, "mac": "guess"})).error == (403, "M_FORBIDDEN")
    mac = sign(nonce, "alice", "p", "notadmin")
    assert (await send(town, body | {"nonce": nonce, "mac": mac})).status == 200


async def test_nuls_cannot_move_the_border_between_name_and_password(town: Town) -> None:
    nonce = await fetch_nonce(town)
    mac = sign(nonce, "a", "b", "c", "notadmin")
    for name, password in (("a\x00b", "c"), ("a", "b\x00c")):
        nonce = await fetch_nonce(town)
        mac = sign(nonce, "a", "b", "c", "notadmin")
        body = {"nonce": nonce, "username": name, "password": password, "mac": mac}
        assert (await send(town, body)).error == (400, "M_INVALID_PARAM")


async def test_without_a_secret_it_is_off(accounts: AccountServer) -> None:
    accounts.shared_secret = ""
    async with accounts.serve() as town:
        assert (await town.visitor.raw("GET", PATH)).error == (400, "M_UNKNOWN")
        body = {
            "nonce": "x",
            "username": "a",
            "password": "p",
            "mac": sign("x", "a", "p", "notadmin", secret=""),
        }
        assert (await send(town, body)).error == (400, "M_UNKNOWN")


async def test_guesses_are_limited_and_the_right_ones_are_not(accounts: AccountServer) -> None:
    accounts.limit = Limit(1, 2)
    async with accounts.serve() as town:
        answers = [await register(town, "alice", mac="guess") for _ in range(3)]
        assert [answer.status for answer in answers] == [403, 403, 429]
        assert (await register(town, "alice")).status == 200


@pytest.mark.parametrize(
    "body", [{}, {"nonce": 1}, {"nonce": "x", "username": "a", "password": "b", "mac": 1}]
)
async def test_wrong_shapes(town: Town, body: dict[str, Any]) -> None:
    assert (await send(town, body)).error == (400, "M_BAD_JSON")
