"""What the state tree promises, told on the compiled kernel and on its twin."""

from itertools import count
from types import ModuleType
from typing import Any

import pytest

import hs._fast.state_tree as compiled
import hs._fast.state_tree_ref as twin

BIG = 50_000


@pytest.fixture(params=[compiled, twin], ids=["compiled", "twin"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


class Disk:
    """The state_nodes table: what commits wrote, read back in one query per call."""

    def __init__(self, kernel: ModuleType) -> None:
        self.kernel = kernel
        self.rows: dict[int, bytes] = {}
        self.ids = count(1001)
        self.queries: list[list[int]] = []

    def commit(self, store: Any, *trees: Any) -> list[tuple[int, bytes]]:
        rows = self.kernel.pack_new(trees, self.ids)
        self.rows |= dict(rows)
        store.mark_stored(trees)
        return rows

    def walk(self, store: Any, operation: Any, *args: Any) -> Any:
        held = []
        while True:
            try:
                return operation(*args)
            except self.kernel.Missing as missing:
                self.queries.append(missing.ids)
                held += store.add([(node_id, self.rows[node_id]) for node_id in missing.ids])


@pytest.fixture
def disk(kernel: ModuleType) -> Disk:
    return Disk(kernel)


def big_state(kernel: ModuleType) -> Any:
    return kernel.set_many(kernel.EMPTY, ((key_ix, 10_000 + 3 * key_ix) for key_ix in range(BIG)))


def test_a_change_leaves_the_old_state_as_it_was(kernel: ModuleType) -> None:
    old = kernel.set_many(kernel.EMPTY, [(0, 11), (1, 12), (500, 13)])
    new = kernel.set_many(old, [(1, 99), (500, 0), (7, 14)])
    assert kernel.items(old) == [(0, 11), (1, 12), (500, 13)]
    assert kernel.items(new) == [(0, 11), (1, 99), (7, 14)]
    assert (kernel.count(old), kernel.count(new)) == (3, 3)
    assert kernel.get_many(new, [500, 1, 2]) == [0, 99, 0]
    assert kernel.diff(old, new) == [(1, 12, 99), (7, 0, 14), (500, 13, 0)]


def test_a_change_to_what_is_there_gives_the_same_tree(kernel: ModuleType) -> None:
    tree = kernel.set_many(kernel.EMPTY, [(0, 11), (700, 12)])
    assert kernel.set_many(tree, [(700, 12)]) is tree
    assert kernel.set_many(tree, [(5, 0), (1 << 30, 0)]) is tree
    assert kernel.set_many(tree, [(0, 5), (0, 11)]) is tree
    assert kernel.set_many(tree, []) is tree
    assert kernel.set_many(tree, [(0, 0), (700, 0)]) is kernel.EMPTY


def test_the_empty_state_has_id_0_and_nothing_to_store(kernel: ModuleType) -> None:
    store = kernel.NodeStore(1 << 20)
    assert store.get(0) is kernel.EMPTY
    assert (kernel.EMPTY.id, kernel.EMPTY.stored) == (0, True)
    assert kernel.pack_new([kernel.EMPTY], []) == []
    assert (kernel.count(kernel.EMPTY), kernel.items(kernel.EMPTY), kernel.get(kernel.EMPTY, 3)) == (0, [], 0)
    assert kernel.conflicted([kernel.EMPTY]) == kernel.conflicted([]) == []


def test_conflicted_keys_come_with_the_value_of_each_state(kernel: ModuleType) -> None:
    base = kernel.set_many(kernel.EMPTY, [(key_ix, key_ix + 1) for key_ix in range(300)])
    ban = kernel.set_many(base, [(7, 1001)])
    topic = kernel.set_many(base, [(7, 1002), (290, 0)])
    assert kernel.conflicted([base, ban, topic]) == [(7, (8, 1001, 1002)), (290, (291, 291, 0))]
    assert kernel.conflicted([base, base, base]) == []
    assert kernel.conflicted([kernel.EMPTY, topic])[:2] == [(0, (0, 1)), (1, (0, 2))]


def test_one_change_in_a_big_room_writes_less_than_a_kilobyte(kernel: ModuleType, disk: Disk) -> None:
    store = kernel.NodeStore(1 << 30)
    tree = big_state(kernel)
    disk.commit(store, tree)
    for key_ix in (0, 63, 64, 31_000, BIG - 1, BIG):
        tree = kernel.set_many(tree, [(key_ix, (1 << 45) + key_ix)])
        rows = disk.commit(store, tree)
        assert len(rows) == 3
        assert sum(len(blob) for _, blob in rows) < 1000
        assert rows[-1][0] == tree.id


def test_a_point_look_up_loads_one_node_per_level(kernel: ModuleType, disk: Disk) -> None:
    tree = big_state(kernel)
    disk.commit(kernel.NodeStore(1 << 30), tree)
    store = kernel.NodeStore(1 << 30)
    cold = store.get(tree.id)
    assert disk.walk(store, kernel.get, cold, 33_333) == 10_000 + 3 * 33_333
    assert [len(ids) for ids in disk.queries] == [1, 1, 1]
    assert len(store) == 3


def test_a_cold_tree_is_read_in_one_query_per_level(kernel: ModuleType, disk: Disk) -> None:
    tree = big_state(kernel)
    disk.commit(kernel.NodeStore(1 << 30), tree)
    store = kernel.NodeStore(1 << 30)
    assert len(disk.walk(store, kernel.items, store.get(tree.id))) == BIG
    assert [len(ids) for ids in disk.queries] == [1, 13, 782]


def test_a_difference_loads_only_what_differs(kernel: ModuleType, disk: Disk) -> None:
    tree = big_state(kernel)
    other = kernel.set_many(tree, [(44_444, 7)])
    disk.commit(kernel.NodeStore(1 << 30), tree, other)
    store = kernel.NodeStore(1 << 30)
    old, new = store.get(tree.id), store.get(other.id)
    assert disk.walk(store, kernel.diff, old, new) == [(44_444, 10_000 + 3 * 44_444, 7)]
    assert [len(ids) for ids in disk.queries] == [2, 2, 2]


def test_a_failed_commit_packs_the_same_nodes_again(kernel: ModuleType) -> None:
    store = kernel.NodeStore(1 << 30)
    first = kernel.set_many(kernel.EMPTY, [(1, 5), (100, 6)])
    second = kernel.set_many(first, [(1, 7)])
    ids = iter(range(50, 100))
    assert kernel.count_new([first]) == 3
    rows = kernel.pack_new([first], ids)
    assert (first.id, first.stored) == (52, False)
    assert kernel.count_new([first, second]) == 2
    again = kernel.pack_new([first, second], ids)
    assert again[:3] == rows
    assert [node_id for node_id, _ in again] == [50, 51, 52, 53, 54]
    assert next(ids) == 55
    store.mark_stored([first, second])
    assert (first.stored, second.stored, second.id) == (True, True, 54)
    assert kernel.pack_new([first, second], []) == []


def test_trees_that_were_not_marked_still_find_what_they_share(kernel: ModuleType, disk: Disk) -> None:
    store = kernel.NodeStore(1 << 30)
    first = kernel.set_many(kernel.EMPTY, [(1, 5), (100, 6)])
    second = kernel.set_many(first, [(1, 7)])
    third = kernel.set_many(second, [(200, 8)])
    disk.commit(store, second)
    assert kernel.items(third) == [(1, 7), (100, 6), (200, 8)]
    assert kernel.items(first) == [(1, 5), (100, 6)]
    assert kernel.diff(first, third) == [(1, 5, 7), (200, 0, 8)]
    # Shared nodes are stored already: only the path to the change is new.
    assert kernel.count_new([third]) == 2


def test_the_store_keeps_to_its_bytes_and_a_held_node_stays(kernel: ModuleType, disk: Disk) -> None:
    tree = big_state(kernel)
    disk.commit(kernel.NodeStore(1 << 30), tree)
    store = kernel.NodeStore(10_000)
    # One level alone has more bytes than the store may keep, and still the walk ends.
    assert len(disk.walk(store, kernel.items, store.get(tree.id))) == BIG
    leaf = [(node_id, disk.rows[node_id]) for node_id in list(disk.rows)[:1]]
    store.add(leaf)
    store.add(leaf)
    assert len(store) > 0
    for node_id in list(disk.rows)[:200]:
        store.add([(node_id, disk.rows[node_id])])
    assert store.nbytes <= 10_000
    with pytest.raises(kernel.Missing) as missing:
        kernel.items(store.get(tree.id))
    assert missing.value.ids == [tree.id]


def test_the_least_recently_used_node_goes_first(kernel: ModuleType, disk: Disk) -> None:
    leaves = [kernel.set_many(kernel.EMPTY, [(0, nid)]) for nid in (5, 6, 7)]
    room = kernel.NodeStore(1 << 30)
    disk.commit(room, *leaves)
    ids = [leaf.id for leaf in leaves]
    store = kernel.NodeStore(2 * room.nbytes // 3)
    for node_id in ids[:2]:
        store.add([(node_id, disk.rows[node_id])])
    assert kernel.get(store.get(ids[0]), 0) == 5
    store.add([(ids[2], disk.rows[ids[2]])])
    assert [kernel.get(store.get(node_id), 0) for node_id in (ids[0], ids[2])] == [5, 7]
    with pytest.raises(kernel.Missing):
        kernel.get(store.get(ids[1]), 0)


def test_a_corrupt_blob_adds_nothing(kernel: ModuleType, disk: Disk) -> None:
    tree = kernel.set_many(kernel.EMPTY, [(1, 5), (2, 6)])
    disk.commit(kernel.NodeStore(1 << 30), tree)
    blob = disk.rows[tree.id]
    store = kernel.NodeStore(1 << 30)
    for bad in (
        b"",
        blob[:-1],
        blob + b"\0",
        b"\x20" + blob[1:],
        b"\x10" + bytes(8),
        b"\x1f" + b"\xff" * 700,
    ):
        with pytest.raises(ValueError, match="state node 9 is corrupt"):
            store.add([(tree.id, blob), (9, bad)])
    assert len(store) == 0


def test_trees_can_only_be_made_by_the_kernel() -> None:
    with pytest.raises(TypeError):
        compiled.Node()
