"""The event cache: budget, one load per miss, no stale entries, cancellation."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs._fast import event_record
from hs.storage.event_cache import ENTRY_OVERHEAD, EventCache


def pack(event_nid: int, depth: int = 0, padding: int = 0) -> bytes:
    return event_record.pack(
        event_nid=event_nid,
        room_nid=1,
        stream_ordering=event_nid,
        depth=depth,
        origin_server_ts=0,
        flags=0,
        state_id=0,
        event_id=f"${event_nid}",
        room_id="!room:hs",
        type="m.room.message",
        sender="@a:hs",
        content_json=b'{"body":"%s"}' % (b"x" * padding),
        prev_event_ids=[],
        auth_event_ids=[],
    )


class Table:
    """A loader whose answers a test lets through one by one."""

    def __init__(self, event_nids: Sequence[int] = ()) -> None:
        self.rows = {nid: pack(nid) for nid in event_nids}
        self.calls: list[list[int]] = []
        self.gates: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self.is_open = True

    async def load(self, event_nids: Sequence[int]) -> Mapping[int, bytes]:
        self.calls.append(list(event_nids))
        # Like a database: the answer is what was there when the query ran.
        rows = {nid: self.rows[nid] for nid in event_nids if nid in self.rows}
        if not self.is_open:
            gate = asyncio.get_running_loop().create_future()
            self.gates.put_nowait(gate)
            await gate
        return rows


async def test_a_miss_is_loaded_once_and_then_served_from_memory() -> None:
    table = Table([1, 2])
    cache = EventCache(table.load, 10_000)
    assert [r.event_id for r in (await cache.get_many([1, 2])).values()] == ["$1", "$2"]
    assert [r.event_id for r in (await cache.get_many([2, 1])).values()] == ["$2", "$1"]
    assert table.calls == [[1, 2]]
    assert (cache.hits, cache.misses, cache.hit_ratio) == (2, 2, 0.5)
    assert len(cache) == 2


async def test_absent_events_are_left_out_and_not_remembered() -> None:
    table = Table([1])
    cache = EventCache(table.load, 10_000)
    assert list(await cache.get_many([5, 1])) == [1]
    table.rows[5] = pack(5)
    assert list(await cache.get_many([5, 1])) == [5, 1]
    assert table.calls == [[5, 1], [5]]


async def test_asking_for_nothing_loads_nothing() -> None:
    table = Table()
    assert await EventCache(table.load, 10_000).get_many([]) == {}
    assert table.calls == []


async def test_repeated_numbers_are_loaded_once() -> None:
    table = Table([1])
    assert list(await EventCache(table.load, 10_000).get_many([1, 1, 1])) == [1]
    assert table.calls == [[1]]


async def test_overlapping_callers_join_the_load_in_flight() -> None:
    table = Table([1, 2, 3])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    first = asyncio.create_task(cache.get_many([1, 2]))
    second = asyncio.create_task(cache.get_many([2, 3]))
    third = asyncio.create_task(cache.get_many([1, 3]))
    gates = [await table.gates.get() for _ in range(2)]
    assert table.calls == [[1, 2], [3]]
    for gate in gates:
        gate.set_result(None)
    assert [list(await task) for task in (first, second, third)] == [[1, 2], [2, 3], [1, 3]]
    assert table.calls == [[1, 2], [3]]


async def test_a_failing_load_fails_all_who_joined_and_is_tried_again() -> None:
    table = Table([1, 2])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    callers = [asyncio.create_task(cache.get_many(nids)) for nids in ([1], [1, 2], [2])]
    first, second = [await table.gates.get() for _ in range(2)]
    first.set_exception(ConnectionError("gone"))
    second.set_result(None)
    with pytest.raises(ConnectionError):
        await callers[0]
    with pytest.raises(ConnectionError):
        await callers[1]
    assert list(await callers[2]) == [2]
    assert len(cache) == 1
    table.is_open = True
    assert list(await cache.get_many([1])) == [1]


async def test_a_cancelled_caller_does_not_cancel_those_who_joined() -> None:
    table = Table([1])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    first = asyncio.create_task(cache.get_many([1]))
    second = asyncio.create_task(cache.get_many([1]))
    gate = await table.gates.get()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.set_result(None)
    assert list(await second) == [1]
    assert table.calls == [[1]]


async def test_a_load_whose_callers_all_gave_up_may_fail_quietly() -> None:
    table = Table([1])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    caller = asyncio.create_task(cache.get_many([1]))
    gate = await table.gates.get()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set_exception(ConnectionError("gone"))
    table.is_open = True
    await asyncio.wait(cache._loads)
    assert list(await cache.get_many([1])) == [1]
    assert reports == []


async def test_a_load_that_was_overtaken_by_an_invalidation_is_not_kept() -> None:
    table = Table([1, 2])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    before = asyncio.create_task(cache.get_many([1, 2]))
    gate = await table.gates.get()
    table.rows[1] = pack(1, depth=9)
    cache.invalidate([1])
    after = asyncio.create_task(cache.get_many([1]))
    fresh_gate = await table.gates.get()
    gate.set_result(None)
    fresh_gate.set_result(None)
    assert (await before)[1].depth == 0
    assert (await after)[1].depth == 9
    found = cache.find(1)
    assert found is not None
    assert found.depth == 9
    assert cache.find(2) is not None


async def test_the_load_that_was_overtaken_may_end_last() -> None:
    table = Table([1])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    before = asyncio.create_task(cache.get_many([1]))
    gate = await table.gates.get()
    table.rows[1] = pack(1, depth=9)
    cache.invalidate([1])
    after = asyncio.create_task(cache.get_many([1]))
    fresh_gate = await table.gates.get()
    fresh_gate.set_result(None)
    assert (await after)[1].depth == 9
    gate.set_result(None)
    assert (await before)[1].depth == 0
    assert (await cache.get_many([1]))[1].depth == 9
    assert len(table.calls) == 2


async def test_what_was_put_wins_over_a_load_in_flight() -> None:
    table = Table([1])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    caller = asyncio.create_task(cache.get_many([1]))
    gate = await table.gates.get()
    assert cache.put(1, pack(1, depth=5)).depth == 5
    gate.set_result(None)
    await caller
    assert (await cache.get_many([1]))[1].depth == 5


async def test_closing_cancels_the_loads() -> None:
    table = Table([1])
    table.is_open = False
    cache = EventCache(table.load, 10_000)
    caller = asyncio.create_task(cache.get_many([1]))
    await table.gates.get()
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_the_least_recently_used_go_first() -> None:
    size = len(pack(1)) + ENTRY_OVERHEAD
    table = Table([1, 2, 3])
    cache = EventCache(table.load, 2 * size)
    await cache.get_many([1, 2])
    await cache.get_many([1])
    await cache.get_many([3])
    assert cache.find(2) is None
    assert cache.find(1) is not None
    assert cache.find(3) is not None
    assert (cache.nbytes, cache.evictions) == (2 * size, 1)


async def test_an_event_larger_than_the_budget_is_served_but_not_kept() -> None:
    table = Table()
    table.rows[1] = pack(1, padding=5_000)
    cache = EventCache(table.load, 4_000)
    assert list(await cache.get_many([1])) == [1]
    assert (len(cache), cache.nbytes) == (0, 0)


OPERATION = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 6), st.integers(0, 300)),
    st.tuples(st.just("invalidate"), st.integers(1, 6), st.just(0)),
    st.tuples(st.just("find"), st.integers(1, 6), st.just(0)),
)


@given(st.lists(OPERATION, max_size=40), st.integers(200, 2_000))
def test_it_behaves_like_a_dict_with_a_budget(operations: list[tuple[str, int, int]], budget: int) -> None:
    cache = EventCache(Table().load, budget)
    model: OrderedDict[int, bytes] = OrderedDict()

    def used() -> int:
        return sum(len(data) + ENTRY_OVERHEAD for data in model.values())

    for name, nid, padding in operations:
        if name == "put":
            data = pack(nid, padding=padding)
            cache.put(nid, data)
            model.pop(nid, None)
            if len(data) + ENTRY_OVERHEAD <= budget:
                model[nid] = data
            while used() > budget:
                model.popitem(last=False)
        elif name == "invalidate":
            cache.invalidate([nid])
            model.pop(nid, None)
        else:
            found = cache.find(nid)
            assert (found and found.data) == model.get(nid)
            if nid in model:
                model.move_to_end(nid)
        assert cache.nbytes == used() <= budget
        assert len(cache) == len(model)
