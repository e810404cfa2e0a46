"""Persistent map key_ix -> event_nid: one immutable radix tree shared by all states of a room.

A tree is a `Node`, the handle of its root. Keys are small dense integers, therefore a node has 64 slots
and a room of 50,000 keys three levels; small rooms have one. Changing a key copies one node per level
and shares the rest. Nodes get their numbers only when they are packed, so that a change stays cheap.

    root = store.get(state_id)                              # or EMPTY
    root = set_many(root, [(key_ix, event_nid), (other_ix, 0)])
    rows = pack_new([root], ids)                            # ids: count_new([root]) unused numbers
    ...                                                     # INSERT the rows, COMMIT
    store.mark_stored([root])                               # root.id is the state_id

Nodes from the database refer to their children by number and find them in the `NodeStore`. An operation
that meets nodes the store does not have raises `Missing` with the ids of ALL of them at that frontier;
load their blobs in one query, `add` them and call again, holding what `add` returned until then.

Packed node: one byte (0x10 | level, | 0x08 if all slots are taken), for level > 0 a varint count of all
keys below, eight bytes little-endian bitmap of the taken slots (unless all are), then per taken slot the
zigzag varint of the difference from the slot before (modulo 2^64): event_nids at level 0, node ids above.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Union
from weakref import WeakValueDictionary

__all__ = [
    "EMPTY",
    "Missing",
    "Node",
    "NodeStore",
    "conflicted",
    "count",
    "count_new",
    "diff",
    "get",
    "get_many",
    "items",
    "pack_new",
    "set_many",
]

BITS = 6
WIDTH = 1 << BITS
MAX_KEY_IX = (1 << 31) - 1
MAX_LEVEL = 5
NODE_BYTES = 576  # what the compiled twin needs for a node
FULL = (1 << WIDTH) - 1

# What a slot or a handle refers to: a branch in memory, the id of a stored one, or 0 for nothing.
_Ref = Union["_Branch", int]


class Missing(Exception):
    """Nodes are not in the store; `ids` (ascending) are all of them that the operation met."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids: list[int] = sorted(ids)
        super().__init__(f"{len(self.ids)} state nodes are not in memory")


class _Branch:
    """A node: slot -> event_nid at level 0, slot -> child above. Only new children are held as objects."""

    __slots__ = ("__weakref__", "count", "id", "level", "slots", "stored")

    def __init__(self, level: int, slots: dict[int, _Ref], count: int, id: int = 0) -> None:
        self.level = level
        self.slots = slots
        self.count = count
        self.id = id
        self.stored = id != 0


class _Home:
    """Where the stored nodes of a family of trees are found; none before the first commit."""

    __slots__ = ("store",)

    def __init__(self, store: Union["NodeStore", None] = None) -> None:
        self.store = store

    def load(self, ref: _Ref, level: int, missing: set[int]) -> _Branch | None:
        """The branch, or None for nothing and for what is not in memory (then its id is in `missing`)."""
        if isinstance(ref, _Branch):
            return ref
        found = self.store._find(ref) if ref and self.store else None
        if found is None and ref:
            missing.add(ref)
        if found is not None and level >= 0 and found.level != level:
            raise ValueError(f"state node {ref} is corrupt: it sits at the wrong level")
        return found


class Node:
    """A tree: the handle of its root. Immutable; made by `set_many` and `NodeStore.get` only."""

    __slots__ = ("_home", "_ref")

    def __init__(self, home: _Home, ref: _Ref) -> None:
        self._home = home
        self._ref = ref

    @property
    def id(self) -> int:
        """The state_id: 0 for the empty tree and for one that `pack_new` has not numbered yet."""
        return self._ref.id if isinstance(self._ref, _Branch) else self._ref

    @property
    def stored(self) -> bool:
        """Whether the whole tree is in the database."""
        return self._ref.stored if isinstance(self._ref, _Branch) else True


EMPTY = Node(_Home(), 0)


class NodeStore:
    """Nodes of all rooms in memory by id, at most `max_bytes` of them: the least recently used go first."""

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError("max_bytes must not be negative")
        self.max_bytes = max_bytes
        self._home = _Home(self)
        self._alive: WeakValueDictionary[int, _Branch] = WeakValueDictionary()
        self._recent: OrderedDict[int, _Branch] = OrderedDict()

    def __len__(self) -> int:
        """Number of nodes kept."""
        return len(self._recent)

    @property
    def nbytes(self) -> int:
        """Bytes of the nodes kept. One `add` or `mark_stored` may exceed max_bytes by what it brings."""
        return len(self._recent) * NODE_BYTES

    def get(self, state_id: int) -> Node:
        """The tree with this root id, which need not be in memory yet; EMPTY for 0."""
        if state_id < 0:
            raise ValueError("a state_id is not negative")
        return Node(self._home, state_id) if state_id else EMPTY

    def add(self, blobs: Iterable[tuple[int, bytes]]) -> list[object]:
        """Unpack (node_id, blob) pairs from the database; nodes already there stay.

        Hold the answer until the operation that wanted the nodes has succeeded: it keeps them findable
        even when other loads push them out. Raises ValueError, with nothing added, if a blob is corrupt.
        """
        branches = [_unpack(node_id, blob) for node_id, blob in blobs]
        return [self._keep(branch, len(branches)) for branch in branches]

    def mark_stored(self, roots: Iterable[Node]) -> None:
        """Take over the new nodes of these trees after the COMMIT that wrote them.

        Raises ValueError if one of them was not packed.
        """
        roots = list(roots)
        new = _list_new(roots)
        if not all(branch.id for branch in new):
            raise ValueError("pack_new comes before mark_stored")
        for branch in new:
            branch.stored = True
            if branch.level:
                branch.slots = {slot: _id(child) for slot, child in branch.slots.items()}
            self._keep(branch, len(new))
        for root in roots:
            if isinstance(root._ref, _Branch):
                root._home.store = self
                root._ref = root._ref.id

    def _find(self, node_id: int) -> _Branch | None:
        branch = self._alive.get(node_id)
        if node_id in self._recent:
            self._recent.move_to_end(node_id)
        return branch

    def _keep(self, branch: _Branch, batch: int) -> _Branch:
        branch = self._alive.setdefault(branch.id, branch)
        self._recent[branch.id] = branch
        self._recent.move_to_end(branch.id)
        while self.nbytes > self.max_bytes and len(self._recent) > batch:
            self._recent.popitem(last=False)
        return branch


def get(root: Node, key_ix: int) -> int:
    """The event_nid at a key; 0 if there is none. Raises Missing with one id."""
    return get_many(root, [key_ix])[0]


def get_many(root: Node, key_ixs: Iterable[int]) -> list[int]:
    """The event_nid (0 if there is none) at each key, in the given order."""
    missing: set[int] = set()
    found = [_find_value(root, key_ix, missing) for key_ix in key_ixs]
    _check(missing)
    return found


def _find_value(root: Node, key_ix: int, missing: set[int]) -> int:
    _check_key(key_ix)
    node = root._home.load(root._ref, -1, missing)
    if node is None or key_ix >> BITS * (node.level + 1):
        return 0
    while node.level:
        slot = key_ix >> BITS * node.level & WIDTH - 1
        node = root._home.load(node.slots.get(slot, 0), node.level - 1, missing)
        if node is None:
            return 0
    return _id(node.slots.get(key_ix & WIDTH - 1, 0))


def set_many(root: Node, changes: Iterable[tuple[int, int]]) -> Node:
    """The tree with each (key_ix, event_nid) set, or removed where event_nid is 0.

    Of several changes of a key the last one counts. The SAME object comes back if nothing changes.
    Raises Missing, ValueError for a key_ix outside 0..2^31-1, OverflowError for nids beyond 64 bits.
    """
    wanted = {_check_key(key_ix): _check_nid(nid) for key_ix, nid in changes}
    missing: set[int] = set()
    base = root._home.load(root._ref, -1, missing)
    _check(missing)
    # A new top above the old one makes room for larger keys; removing a key never needs room.
    level = base.level if base else 0
    while max((key_ix for key_ix, nid in wanted.items() if nid), default=0) >> BITS * (level + 1):
        level += 1
    inside = sorted(change for change in wanted.items() if not change[0] >> BITS * (level + 1))
    start = _lift(base, level)
    ref, _ = _set(start, level, inside, root._home, missing)
    _check(missing)
    if ref is start:
        return root
    # The shape depends on the keys only: no top with nothing but slot 0.
    while isinstance(ref, _Branch) and ref.level and list(ref.slots) == [0]:
        ref = ref.slots[0]
    if not ref:
        return EMPTY
    return Node(root._home if root._ref else _Home(), ref)


def _set(
    ref: _Ref, level: int, changes: Sequence[tuple[int, int]], home: _Home, missing: set[int]
) -> tuple[_Ref, int]:
    """The changed node, or `ref` itself if nothing changes; and by how much its count grew."""
    node = home.load(ref, level, missing)
    slots = dict(node.slots) if node else {}
    grown = 0
    changed = False
    for slot, part in groupby(changes, lambda change: change[0] >> BITS * level & WIDTH - 1):
        old = slots.get(slot, 0)
        if level:
            new, more = _set(old, level - 1, list(part), home, missing)
        else:
            new = next(part)[1]
            more = bool(new) - bool(old)
        if new != old:
            changed = True
            grown += more
            slots[slot] = new
    slots = {slot: child for slot, child in slots.items() if child}
    if not changed:
        return ref, 0
    return (_Branch(level, slots, (node.count if node else 0) + grown) if slots else 0), grown


def items(root: Node) -> list[tuple[int, int]]:
    """All (key_ix, event_nid), keys ascending. Raises Missing once per level of a cold tree."""
    return [(key_ix, nid) for key_ix, (nid, _) in conflicted([root, EMPTY])]


def count(root: Node) -> int:
    """Number of keys. Looks at the root node only."""
    missing: set[int] = set()
    node = root._home.load(root._ref, -1, missing)
    _check(missing)
    return node.count if node else 0


def diff(a: Node, b: Node) -> list[tuple[int, int, int]]:
    """(key_ix, nid in a or 0, nid in b or 0) of each key that differs, ascending; costs what differs."""
    return [(key_ix, *values) for key_ix, values in conflicted([a, b])]  # type: ignore[misc]


def conflicted(roots: Sequence[Node]) -> list[tuple[int, tuple[int, ...]]]:
    """(key_ix, event_nid or 0 in each tree) of each key on which the trees disagree, ascending.

    The rest, any of the trees without these keys, is what all agree on. Equal subtrees are skipped.
    """
    missing: set[int] = set()
    nodes = [root._home.load(root._ref, -1, missing) for root in roots]
    _check(missing)
    level = max((node.level for node in nodes if node), default=0)
    rows: list[tuple[int, tuple[int, ...]]] = []
    _compare([_lift(node, level) for node in nodes], level, 0, [root._home for root in roots], missing, rows)
    _check(missing)
    return rows


def _compare(
    refs: Sequence[_Ref],
    level: int,
    first_ix: int,
    homes: Sequence[_Home],
    missing: set[int],
    rows: list[tuple[int, tuple[int, ...]]],
) -> None:
    if all(ref == refs[0] or _id(ref) == _id(refs[0]) != 0 for ref in refs):
        return
    nodes = [home.load(ref, level, missing) for home, ref in zip(homes, refs)]
    for slot in sorted(set().union(*(node.slots for node in nodes if node))):
        values = [node.slots.get(slot, 0) if node else 0 for node in nodes]
        key_ix = first_ix + (slot << BITS * level)
        if level:
            _compare(values, level - 1, key_ix, homes, missing, rows)
        elif any(value != values[0] for value in values):
            rows.append((key_ix, tuple(map(_id, values))))


def count_new(roots: Iterable[Node]) -> int:
    """How many nodes of these trees have no number yet: what `pack_new` will take from `ids`."""
    return sum(not branch.id for branch in _list_new(roots))


def pack_new(roots: Iterable[Node], ids: Iterable[int]) -> list[tuple[int, bytes]]:
    """(node_id, blob) of every node of these trees that is not stored yet, children before parents.

    Nodes without a number get the next of `ids`; ValueError if these run out. A node numbered earlier
    (by a transaction that failed, or whose outcome is not known) comes again with the same id and blob.
    """
    new = _list_new(roots)
    nameless = [branch for branch in new if not branch.id]
    taken = [node_id for _, node_id in zip(nameless, ids)]
    if len(taken) < len(nameless):
        raise ValueError(f"{len(nameless)} new nodes, {len(taken)} ids")
    if any(not 0 < node_id < 1 << 63 for node_id in taken):
        raise ValueError("node ids are positive")
    for branch, node_id in zip(nameless, taken):
        branch.id = node_id
    return [(branch.id, _pack(branch)) for branch in new]


def _list_new(roots: Iterable[Node]) -> list[_Branch]:
    found: dict[_Branch, None] = {}

    def visit(ref: _Ref) -> None:
        if isinstance(ref, _Branch) and not ref.stored and ref not in found:
            for slot in sorted(ref.slots) if ref.level else ():
                visit(ref.slots[slot])
            found[ref] = None

    for root in roots:
        visit(root._ref)
    return list(found)


def _id(ref: _Ref) -> int:
    return ref.id if isinstance(ref, _Branch) else ref


def _lift(node: _Branch | None, level: int) -> _Ref:
    """The node as seen from a higher level."""
    if node is None:
        return 0
    while node.level < level:
        node = _Branch(node.level + 1, {0: _id(node) if node.stored else node}, node.count)
    return node


def _check(missing: set[int]) -> None:
    if missing:
        raise Missing(missing)


def _check_key(key_ix: int) -> int:
    if not 0 <= key_ix <= MAX_KEY_IX:
        raise ValueError(f"key_ix {key_ix} is not in 0..{MAX_KEY_IX}")
    return key_ix


def _check_nid(nid: int) -> int:
    if not -1 << 63 <= nid < 1 << 63:
        raise OverflowError("an event_nid has at most 64 bits")
    return nid


def _pack(branch: _Branch) -> bytes:
    bitmap = sum(1 << slot for slot in branch.slots)
    out = bytearray([0x10 | branch.level | (0x08 if bitmap == FULL else 0)])
    if branch.level:
        _put_varint(out, branch.count)
    if bitmap != FULL:
        out += bitmap.to_bytes(WIDTH // 8, "little")
    last = 0
    for slot in sorted(branch.slots):
        value = _id(branch.slots[slot])
        delta = (value - last + (1 << 63)) % (1 << 64) - (1 << 63)
        _put_varint(out, (delta << 1 ^ delta >> 63) % (1 << 64))
        last = value
    return bytes(out)


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _unpack(node_id: int, blob: bytes) -> _Branch:
    if not 0 < node_id < 1 << 63:
        raise ValueError("node ids are positive")
    try:
        return _read(node_id, blob)
    except (IndexError, ValueError):
        raise ValueError(f"state node {node_id} is corrupt") from None


def _read(node_id: int, blob: bytes) -> _Branch:
    level, full = blob[0] & 0x07, blob[0] & 0x08
    if blob[0] & 0xF0 != 0x10 or level > MAX_LEVEL:
        raise ValueError
    at = 1
    total = 0
    if level:
        total, at = _get_varint(blob, at)
    bitmap = FULL
    if not full:
        bitmap = int.from_bytes(blob[at : at + WIDTH // 8], "little")
        at += WIDTH // 8
    slots: dict[int, _Ref] = {}
    value = 0
    for slot in range(WIDTH):
        if bitmap >> slot & 1:
            raw, at = _get_varint(blob, at)
            value = (value + (raw >> 1 ^ -(raw & 1)) + (1 << 63)) % (1 << 64) - (1 << 63)
            if value == 0 or (level and value < 0):
                raise ValueError
            slots[slot] = value
    if at != len(blob) or not slots or (level and not len(slots) <= total <= MAX_KEY_IX + 1):
        raise ValueError
    return _Branch(level, slots, total if level else len(slots), node_id)


def _get_varint(blob: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = blob[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise ValueError
