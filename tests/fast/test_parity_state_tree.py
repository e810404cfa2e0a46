"""The compiled state tree and its twin agree: on trees, ids, blobs, what is missing and what is refused."""

from collections.abc import Callable
from itertools import count, pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hs._fast.state_tree as compiled
import hs._fast.state_tree_ref as twin

ROOMY = 1 << 30

key_ixs = st.one_of(
    st.integers(0, 140), st.integers(0, 9000), st.sampled_from([63, 64, 4095, 4096, (1 << 31) - 1])
)
nids = st.one_of(
    st.integers(0, 3), st.integers(1, 10**7), st.integers(-(1 << 63), (1 << 63) - 1), st.just((1 << 63) - 1)
)
changes = st.lists(st.tuples(key_ixs, nids), max_size=12)
# Change the tree made `back` steps ago; whether to pack it, and whether the commit succeeds.
steps = st.lists(st.tuples(st.integers(0, 3), changes, st.booleans(), st.booleans()), min_size=1, max_size=12)


class History:
    """A run of steps on one implementation; `rows` is its database."""

    def __init__(self, kernel: ModuleType) -> None:
        self.kernel = kernel
        self.store = kernel.NodeStore(ROOMY)
        self.trees = [kernel.EMPTY]
        self.rows: dict[int, bytes] = {}
        self.ids = count(1)

    def step(self, back: int, wanted: list[tuple[int, int]], is_packed: bool, is_committed: bool) -> object:
        base = self.trees[max(0, len(self.trees) - 1 - back)]
        tree = self.kernel.set_many(base, wanted)
        self.trees.append(tree)
        packed = []
        fresh = self.kernel.count_new([base, tree])
        if is_packed:
            packed = self.kernel.pack_new([base, tree], self.ids)
            self.rows |= dict(packed)
            if is_committed:
                self.store.mark_stored([base, tree])
        return tree is base, fresh, packed, tree.id, tree.stored, self.kernel.count(tree)

    def compare(self) -> object:
        pairs = pairwise(self.trees)
        return (
            [self.kernel.items(tree) for tree in self.trees],
            [self.kernel.diff(a, b) for a, b in pairs],
            self.kernel.conflicted(self.trees),
            self.kernel.conflicted(self.trees[-3:]),
        )


@settings(max_examples=150, deadline=None)
@given(steps)
def test_any_history_of_changes_and_commits(history: list[Any]) -> None:
    fast, slow = History(compiled), History(twin)
    model: list[dict[int, int]] = [{}]
    for back, wanted, is_packed, is_committed in history:
        assert fast.step(back, wanted, is_packed, is_committed) == slow.step(
            back, wanted, is_packed, is_committed
        )
        state = dict(model[max(0, len(model) - 1 - back)]) | dict(wanted)
        model.append({key_ix: nid for key_ix, nid in state.items() if nid})
    assert fast.rows == slow.rows
    assert fast.compare() == slow.compare()
    assert [compiled.items(tree) for tree in fast.trees] == [sorted(state.items()) for state in model]


def cold(
    kernel: ModuleType, rows: dict[int, bytes], operation: Callable[..., Any], ids: list[int], *rest: Any
) -> object:
    """The operation's answer on trees of an empty store, and what was missing on the way."""
    store = kernel.NodeStore(ROOMY)
    trees = [store.get(state_id) for state_id in ids]
    asked = []
    for _ in range(8):
        try:
            answer = operation(kernel, trees, *rest)
        except kernel.Missing as missing:
            asked.append(missing.ids)
            store.add([(node_id, rows[node_id]) for node_id in missing.ids])
        else:
            return answer, asked, len(store)
    raise AssertionError("more rounds than levels")


def tree_items(kernel: ModuleType, tree: Any) -> object:
    # A changed tree may miss further nodes, which the outer loop loads.
    return kernel.items(tree), kernel.count(tree)


OPERATIONS = {
    "get": lambda k, trees, wanted: [k.get(trees[0], key_ix) for key_ix, _ in wanted],
    "get_many": lambda k, trees, wanted: k.get_many(trees[0], [key_ix for key_ix, _ in wanted]),
    "set_many": lambda k, trees, wanted: tree_items(k, k.set_many(trees[0], wanted)),
    "items": lambda k, trees, wanted: k.items(trees[-1]),
    "count": lambda k, trees, wanted: k.count(trees[-1]),
    "diff": lambda k, trees, wanted: k.diff(trees[0], trees[-1]),
    "conflicted": lambda k, trees, wanted: k.conflicted(trees),
}


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(st.lists(changes, min_size=1, max_size=4), changes)
def test_a_cold_tree_misses_the_same_nodes(
    name: str, batches: list[Any], wanted: list[tuple[int, int]]
) -> None:
    history = History(twin)
    for batch in batches:
        history.step(0, [*batch, (64, 5)], True, True)
    ids = [tree.id for tree in history.trees]
    fast = cold(compiled, history.rows, OPERATIONS[name], ids, wanted)
    assert fast == cold(twin, history.rows, OPERATIONS[name], ids, wanted)


sound = st.lists(st.tuples(st.integers(0, 200), nids), min_size=1, max_size=70).map(
    lambda wanted: [blob for _, blob in twin.pack_new([twin.set_many(twin.EMPTY, wanted)], count(1))] or [b""]
)


@st.composite
def blobs(draw: st.DrawFn) -> bytes:
    """Sound blobs with bytes changed, cut or added, and plain noise."""
    blob = bytearray(draw(st.one_of(sound.flatmap(st.sampled_from), st.binary(max_size=40))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=3)):
        if at < len(blob):
            blob[at] = value
    return bytes(blob[: draw(st.integers(0, len(blob)))] if draw(st.booleans()) else blob) + draw(
        st.sampled_from([b"", b"\x00", b"\xff" * 10])
    )


def unpack(kernel: ModuleType, blob: bytes) -> object:
    store = kernel.NodeStore(ROOMY)
    try:
        store.add([(7, blob)])
    except ValueError as error:
        return str(error), len(store)
    tree = store.get(7)
    try:
        return kernel.count(tree), kernel.items(tree)
    except kernel.Missing as missing:
        return kernel.count(tree), missing.ids


@settings(max_examples=400, deadline=None)
@given(blobs())
def test_a_damaged_blob_is_refused_or_read_alike(blob: bytes) -> None:
    assert unpack(compiled, blob) == unpack(twin, blob)


@pytest.mark.parametrize(
    "call",
    [
        lambda k: k.set_many(k.EMPTY, [(-1, 5)]),
        lambda k: k.set_many(k.EMPTY, [(1 << 31, 5)]),
        lambda k: k.set_many(k.EMPTY, [(1, 1 << 63)]),
        lambda k: k.set_many(k.EMPTY, [(1, 5, 6)]),
        lambda k: k.get(k.EMPTY, -1),
        lambda k: k.get_many(k.EMPTY, [3, 1 << 31]),
        lambda k: k.pack_new([k.set_many(k.EMPTY, [(1, 5)])], []),
        lambda k: k.pack_new([k.set_many(k.EMPTY, [(1, 5)])], [0]),
        lambda k: k.NodeStore(-1),
        lambda k: k.NodeStore(9).get(-4),
        lambda k: k.NodeStore(9).add([(0, b"")]),
        lambda k: k.NodeStore(9).mark_stored([k.set_many(k.EMPTY, [(1, 5)])]),
    ],
)
def test_the_same_calls_are_refused_alike(call: Callable[[ModuleType], object]) -> None:
    with pytest.raises((ValueError, OverflowError)) as fast:
        call(compiled)
    with pytest.raises((ValueError, OverflowError)) as slow:
        call(twin)
    assert fast.type is slow.type


def test_a_tree_at_the_wrong_level_is_corrupt() -> None:
    history = History(twin)
    history.step(0, [(key_ix, key_ix + 1) for key_ix in range(0, 300, 7)], True, True)
    root = history.trees[-1].id
    rows = history.rows | {min(history.rows): history.rows[root]}
    for kernel in (compiled, twin):
        with pytest.raises(ValueError, match="wrong level"):
            cold(kernel, rows, OPERATIONS["items"], [root], [])


def test_both_offer_the_same_names() -> None:
    assert compiled.__all__ == twin.__all__
    for name in ("Node", "NodeStore", "Missing"):
        public = {entry for entry in vars(getattr(twin, name)) if not entry.startswith("_")}
        assert public <= {*dir(getattr(compiled, name)), "ids", "max_bytes"}
