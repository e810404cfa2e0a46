"""Each kind of write counts against its own bucket."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.people import Person, Town

MakeTown = Callable[..., Awaitable[Town]]

# One at once, and the next in about three hours: no test is that slow.
ONCE = {"per_second": 0.0001, "burst": 1}


async def exhaust(ask: Callable[[], Awaitable[Any]]) -> None:
    first, second = await ask(), await ask()
    assert first.status == 200, first
    assert second.error == (429, "M_LIMIT_EXCEEDED")
    assert second.body["retry_after_ms"] > 0
    assert int(second.headers["Retry-After"]) > 0


@pytest.mark.parametrize("bucket", ["message", "state", "room_creation", "join", "invite"])
async def test_a_full_bucket_stops_one_person_and_nobody_else(make_local_town: MakeTown, bucket: str) -> None:
    limits = {"enabled": True, bucket: ONCE}
    if bucket != "room_creation":
        limits["room_creation"] = {"per_second": 100, "burst": 100}
    town = await make_local_town(rate_limits=limits)
    alice = await town.person("alice")
    room_id = "" if bucket == "room_creation" else await alice.create_room(preset="public_chat")
    numbers = iter(range(100))

    def ask(person: Person) -> Awaitable[Any]:
        number = next(numbers)
        requests: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
            "message": ("PUT", ("rooms", room_id, "send", "org.example.type", f"{number}"), {}),
            "state": ("PUT", ("rooms", room_id, "state", "org.example.type", ""), {"number": number}),
            "room_creation": ("POST", ("createRoom",), {}),
            "join": ("POST", ("join", room_id), {}),
            "invite": ("POST", ("rooms", room_id, "invite"), {"user_id": f"@guest{number}:local.example"}),
        }
        method, parts, body = requests[bucket]
        return person.ask(method, *parts, body=body)

    await exhaust(lambda: ask(alice))
    bob = await town.person("bob")
    assert (await ask(bob)).status != 429
    # Other buckets are still full.
    assert (await alice.get("joined_rooms")).status == 200
