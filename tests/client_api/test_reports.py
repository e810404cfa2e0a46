"""Reports of users, rooms and events, and proofs for other services."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from hs.accounts.openid import LIFETIME_S, OpenIdTokens
from hs.client_api.reports import MAX_REASON_LENGTH
from hs.storage.database import Database
from hs.storage.openid_tokens import OpenIdTokenStore
from hs.storage.reports import Report, ReportStore
from tests.account_server import TestClock
from tests.people import Town

MakeTown = Callable[..., Awaitable[Town]]


async def list_reports(database: Database) -> list[tuple[Any, ...]]:
    rows = await database.fetch(
        "SELECT reporter, room_id, event_id, user_id, reason FROM reports ORDER BY report_id"
    )
    return [tuple(row.values()) for row in rows]


async def test_reports_are_kept_for_the_administrators(make_local_town: MakeTown, database: Database) -> None:
    alice, bob = await (await make_local_town()).people("alice", "bob")
    room = await alice.create_room(preset="public_chat")
    event = await alice.say(room, "something bad")
    answers = [
        await bob.post("users", alice.user_id, "report", body={"reason": "spam"}),
        await bob.post("users", "@mallory:elsewhere.example", "report", body={"reason": ""}),
        await bob.post("rooms", room, "report", body={"reason": "☃"}),
    ]
    await bob.join(room)
    answers += [
        await bob.post("rooms", room, "report", event, body={"reason": "rude"}),
        await alice.post("rooms", room, "report", event, body={}),
        # Old clients give a score.
        await bob.post("rooms", room, "report", event, body={"reason": "very rude", "score": -100}),
    ]
    assert [(answer.status, answer.body) for answer in answers] == [(200, {})] * 6
    assert await list_reports(database) == [
        (bob.user_id, "", "", alice.user_id, "spam"),
        (bob.user_id, "", "", "@mallory:elsewhere.example", ""),
        (bob.user_id, room, "", "", "☃"),
        (bob.user_id, room, event, "", "very rude"),
        (alice.user_id, room, event, "", None),
    ]


async def test_what_cannot_be_reported(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    room = await alice.create_room(preset="public_chat")
    event = await alice.say(room, "hello")
    reason = {"reason": "x"}
    too_long = {"reason": "x" * (MAX_REASON_LENGTH + 1)}
    for parts, body, error in [
        (("users", "@nobody:test.example", "report"), reason, (404, "M_NOT_FOUND")),
        (("users", "nobody", "report"), reason, (400, "M_INVALID_PARAM")),
        (("users", alice.user_id, "report"), {}, (400, "M_BAD_JSON")),
        (("users", alice.user_id, "report"), {"reason": 1}, (400, "M_BAD_JSON")),
        (("users", alice.user_id, "report"), too_long, (400, "M_INVALID_PARAM")),
        (("users", alice.user_id, "report"), {"reason": "a\x00b"}, (400, "M_INVALID_PARAM")),
        (("rooms", "!nothing:test.example", "report"), reason, (404, "M_NOT_FOUND")),
        (("rooms", "nothing", "report"), reason, (400, "M_INVALID_PARAM")),
        (("rooms", room, "report"), {}, (400, "M_BAD_JSON")),
        # Not in the room.
        (("rooms", room, "report", event), reason, (404, "M_NOT_FOUND")),
        (("rooms", "!nothing:test.example", "report", event), reason, (404, "M_NOT_FOUND")),
        (("rooms", room, "report", "event"), reason, (400, "M_INVALID_PARAM")),
    ]:
        assert (await bob.post(*parts, body=body)).error == error, parts
    await bob.join(room)
    other = await alice.say(await alice.create_room(), "elsewhere")
    for event_id in ("$" + "x" * 43, other):
        assert (await bob.post("rooms", room, "report", event_id, body=reason)).error == (404, "M_NOT_FOUND")
    assert (await town.visitor.post("rooms", room, "report", body=reason)).status == 401


async def test_one_user_fills_no_table(database: Database) -> None:
    store = ReportStore(database)
    for n in range(5):
        await store.insert_report(Report("@a:x", user_id=f"@{n}:x"), n, 3)
    await store.insert_report(Report("@b:x", user_id="@0:x"), 0, 3)
    assert [row[3] for row in await list_reports(database) if row[0] == "@a:x"] == ["@2:x", "@3:x", "@4:x"]
    assert len(await list_reports(database)) == 4


async def test_a_proof_for_another_service(
    make_local_town: MakeTown, database: Database, database_url: str
) -> None:
    town = await make_local_town()
    alice, bob = await town.people("alice", "bob")
    answer = await alice.post("user", alice.user_id, "openid", "request_token")
    assert answer.status == 200
    token = answer.body.pop("access_token")
    assert answer.body == {
        "token_type": "Bearer",
        "matrix_server_name": "local.example",
        "expires_in": LIFETIME_S,
    }
    connection = await asyncpg.connect(database_url)
    [expires_ts] = await connection.fetchrow("SELECT expires_ts FROM openid_tokens")
    await connection.close()
    clock = TestClock(expires_ts - 1)
    tokens = OpenIdTokens(OpenIdTokenStore(database), clock)
    assert await tokens.find_user(token) == alice.user_id
    assert await tokens.find_user("hso_other") is None
    clock.ms += 1
    assert await tokens.find_user(token) is None
    # It is good for nothing else, and nobody has one made for others.
    headers = {"Authorization": f"Bearer {token}"}
    assert (await town.visitor.raw("GET", "/_matrix/client/v3/sync", headers=headers)).status == 401
    refused = await bob.post("user", alice.user_id, "openid", "request_token")
    assert refused.error == (403, "M_FORBIDDEN")


async def test_proofs_of_one_user_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hs.accounts.openid.MAX_OF_USER", 3)
    async with database.write() as writer:
        await writer.execute("INSERT INTO users (user_id, created_ts) VALUES ('@a:x', 0), ('@b:x', 0)")
    clock = TestClock()
    tokens = OpenIdTokens(OpenIdTokenStore(database), clock)
    first = []
    for _ in range(4):
        first.append(await tokens.issue("@a:x"))
        clock.advance(1)
    other = await tokens.issue("@b:x")
    assert [await tokens.find_user(token) for token in first] == [None, "@a:x", "@a:x", "@a:x"]
    clock.advance(LIFETIME_S)
    await tokens.issue("@a:x")
    assert await database.fetchval("SELECT count(*) FROM openid_tokens WHERE user_id = '@a:x'") == 1
    assert await tokens.find_user(other) is None
