"""Strange questions of another server are answered with an error of the specification's shape, never with a 5xx."""

from typing import Any

import pytest

from tests.federation_api.asking import Asker
from tests.people import Town
from tests.remote_server import RemoteServer

STRANGE = (
    "",
    "x",
    "$x",
    "!",
    "$" + "a" * 5000,
    "\u2603",
    "$a\u0000b",
    "../..",
    "%00",
    "$a:b:c",
    "'\"\\",
    "@:",
    "#a",
)
NUMBERS = ("", "x", "-1", "0", "1.5", "1e9", "99999999999999999999999", "9223372036854775807", "NaN")


@pytest.fixture
async def shared(federated_town: Town, remote: RemoteServer) -> str:
    """A room that the remote is in."""
    alice = await federated_town.person("alice")
    room_id = await alice.create_room(preset="public_chat", room_version="11")
    await remote.join(federated_town.server_name, room_id, remote.user("bob"))
    return room_id


async def test_strange_ids(asker: Asker, shared: str) -> None:
    for text in STRANGE:
        answers = [
            await asker.get("event", text),
            await asker.get("state", text, event_id=text),
            await asker.get("state", shared, event_id=text),
            await asker.get("state_ids", shared, event_id=text),
            await asker.get("event_auth", shared, text),
            await asker.get("event_auth", text, text),
            await asker.get("hierarchy", text),
            await asker.get("query", "profile", user_id=text),
            await asker.get("query", "profile", user_id=f"@a:{asker.server_name}", field=text),
            await asker.get("query", "directory", room_alias=text),
            await asker.get("query", "directory", room_alias=f"#{text}:{asker.server_name}"),
            await asker.get("backfill", text, v=text, limit="5"),
            await asker.get("timestamp_to_event", text, ts="5", dir="f"),
        ]
        assert {answer.status for answer in answers} <= {400, 404}, (text, answers)
        answer = await asker.get("backfill", shared, v=[text, text], limit="5")
        assert answer.status == 400 or answer.body["pdus"] == [], (text, answer)
        assert (await asker.get("openid", "userinfo", access_token=text)).status in (400, 401)
        assert (await asker.get("publicRooms", since=text)).status in (200, 400)


async def test_strange_numbers(asker: Asker, shared: str) -> None:
    for text in NUMBERS:
        for direction in ("f", "b", "x"):
            answer = await asker.get("timestamp_to_event", shared, ts=text, dir=direction)
            assert answer.status in (200, 400, 404), (text, answer)
        assert (await asker.get("backfill", shared, v="$x", limit=text)).status in (200, 400)
        assert (await asker.get("publicRooms", limit=text)).status in (200, 400)


@pytest.mark.parametrize(
    "change",
    [
        {"latest_events": 5},
        {"latest_events": None},
        {"latest_events": [5]},
        {"latest_events": ["$x\u0000", "\u2603", ""] * 100},
        {"earliest_events": {"a": 1}},
        {"earliest_events": ["$x"] * 20_000},
        {"limit": -1},
        {"limit": "5"},
        {"limit": 2**80},
        {"min_depth": -(2**80)},
        {"min_depth": 2**80},
        {"min_depth": 1.5},
    ],
    ids=str,
)
async def test_strange_gaps(asker: Asker, shared: str, change: dict[str, Any]) -> None:
    body: dict[str, Any] = {"latest_events": ["$x"], "earliest_events": ["$y"], "limit": 5, "min_depth": 0}
    answer = await asker.post("get_missing_events", shared, body=body | change)
    assert answer.status == 400 or answer.body == {"events": []}, answer
