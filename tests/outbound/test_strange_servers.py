"""Servers that answer anything: they get what is theirs once they behave, and nobody else waits for them."""

import socket
from collections import Counter

import pytest
from aiohttp import web

from hs.engine import Engine
from hs.matrix.destinations import MAX_WISH_MS
from tests.outbound.outhouse import OutHouse, Sent, Strange, idle
from tests.rooms.making import make_room

pytestmark = pytest.mark.timeout(120)

THERE, ELSEWHERE = "there.example", "elsewhere.example"


def plain(body: bytes, status: int = 200, **headers: str) -> Strange:
    """Always this answer."""

    async def answer(_: web.BaseRequest, __: Sent) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def cut(request: web.BaseRequest, _: Sent) -> web.StreamResponse:
    """The beginning of an answer, and the end of the connection."""
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b'{"pdus": {')
    assert request.transport is not None
    request.transport.abort()
    return response


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(plain(b"<html>"), id="200 with a page"),
        pytest.param(plain(b""), id="200 with nothing"),
        pytest.param(plain(b"[]"), id="200 with a list"),
        pytest.param(plain(b'{"pdus":{"$a":{"error":7}}}'), id="200 of the wrong types"),
        pytest.param(plain(b"[" * 100_000), id="200 that is nested"),
        pytest.param(plain(b" " * 3_000_000), id="200 that is too long"),
        pytest.param(plain(b"", 302, Location="http://127.0.0.1/"), id="302"),
        pytest.param(plain(b"{}", 401), id="401"),
        pytest.param(plain(b"too large", 413), id="413"),
        pytest.param(plain(b'{"errcode":"M_LIMIT_EXCEEDED"}', 429, **{"Retry-After": "30"}), id="429"),
        pytest.param(plain(b"<html>", 502), id="502"),
        pytest.param(cut, id="cut"),
    ],
)
async def test_who_answers_strangely_is_left_alone_and_loses_nothing(
    house: OutHouse, engine: Engine, strange: Strange
) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE, ELSEWHERE)
    house.receivers.strange[THERE] = strange
    said = [f"{number}" for number in range(5)]
    for text in said:
        await house.say(room, text)
        await idle(house.deliveries)
    assert house.receivers.texts(ELSEWHERE) == said
    assert house.receivers.attempts == len(said) + 1
    house.receivers.strange.clear()
    house.clock.time_ms += 120_000
    house.deliveries.look()
    await house.receivers.wait_until(lambda: "4" in house.receivers.texts(THERE))
    await idle(house.deliveries)
    # Who refuses is to ask for what lies before the newest; what did not come through is kept for a while.
    assert house.receivers.texts(THERE) in (said, ["4"])
    await house.progress.save()
    assert await house.behind() == {}
    assert house.deliveries.counts == (0, 0, 0)


async def test_what_is_too_large_is_sent_in_smaller_pieces(house: OutHouse, engine: Engine) -> None:
    rooms = [await make_room(engine) for _ in range(12)]
    for room in rooms:
        await house.add_members(room, THERE)

    async def refuse_many(_: web.BaseRequest, sent: Sent) -> web.StreamResponse | None:
        return web.Response(status=413) if len(sent.body["pdus"]) > 3 else None

    house.receivers.strange[THERE] = refuse_many
    house.receivers.down.add(THERE)
    for number, room in enumerate(rooms):
        await house.say(room, f"{number}")
    await idle(house.deliveries)
    await house.fail_until_given_up()
    house.receivers.down.clear()
    for _ in range(6):
        house.clock.time_ms += 6 * 3_600_000
        house.deliveries.look()
        await idle(house.deliveries)
    # Newest first, still.
    assert house.receivers.texts(THERE) == [f"{number}" for number in reversed(range(12))]
    assert house.deliveries.counts == (0, 0, 0)


async def test_who_says_that_it_is_busy_is_believed_for_an_hour_at_most(
    house: OutHouse, engine: Engine
) -> None:
    room = await make_room(engine)
    await house.add_members(room, THERE)
    house.receivers.strange[THERE] = plain(b"{}", 429, **{"Retry-After": "999999999999999999"})
    await house.say(room, "hello")
    await idle(house.deliveries)
    assert house.backoff.retry_ts(THERE) == house.clock.time_ms + MAX_WISH_MS
    house.receivers.strange.clear()
    house.clock.time_ms += MAX_WISH_MS - 1
    # That it sends us something does not mean that it is not busy.
    house.backoff.woken(THERE)
    house.deliveries.look()
    assert (house.receivers.attempts, house.deliveries.counts[2]) == (1, 0)
    house.clock.time_ms += 1
    house.deliveries.look()
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE) == ["hello"])


async def test_a_hundred_that_never_answer_do_not_hold_up_four_hundred(
    house: OutHouse, engine: Engine
) -> None:
    room = await make_room(engine)
    good = [f"good{number}.example" for number in range(400)]
    stalled = [f"stalled{number}.example" for number in range(50)]
    # The system takes their connections, and nobody ever reads what is sent.
    deaf = [f"deaf{number}.example" for number in range(50)]
    with socket.create_server(("127.0.0.1", 0), backlog=128) as nobody:
        house.requests.elsewhere = dict.fromkeys(deaf, nobody.getsockname()[1])
        house.receivers.stalled |= set(stalled)
        await house.add_members(room, *good, *stalled, *deaf)
        for number in range(3):
            await house.say(room, f"{number}")
        await house.receivers.wait_until(
            lambda: all(house.receivers.texts(name)[-1:] == ["2"] for name in good)
        )
        assert all(house.receivers.texts(name) == ["0", "1", "2"] for name in good)
        # Of each that does not answer one transaction is under way.
        assert house.deliveries.counts[2] >= 100
        await house.receivers.release(*stalled)
        await house.receivers.wait_until(
            lambda: all(house.receivers.texts(name)[-1:] == ["2"] for name in stalled)
        )
        # Nobody was sent more than it takes.
        assert (
            max(Counter(sent.txn_id for name in good for sent in house.receivers.taken[name]).values()) == 1
        )


async def test_ten_thousand_idle_servers_cost_nothing(house: OutHouse, engine: Engine) -> None:
    room, quiet = await make_room(engine), await make_room(engine)
    await house.add_members(quiet, *(f"idle{number}.example" for number in range(10_000)))
    await house.add_members(room, THERE)
    await house.say(room, "hello")
    await house.receivers.wait_until(lambda: house.receivers.texts(THERE))
    await idle(house.deliveries)
    assert house.deliveries.counts == (0, 0, 0)
    assert not house.deliveries._planned
    assert not house.deliveries._plans
    assert not house.deliveries._cursors
    assert not house.progress.behind
    assert sum(map(len, house.room_servers._known.values())) == 1
