"""Persistent map key_ix -> event_nid. The contract is in state_tree_ref.py; comments here say how."""

from cpython.ref cimport Py_XDECREF, Py_XINCREF, PyObject
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, qsort, realloc

from hs._fast.state_nodes cimport (
    BITS,
    MASK,
    MAX_LEVEL,
    Branch,
    Home,
    Ids,
    Node,
    NodeStore,
    check_missing,
    list_new,
    load_node,
    lowest,
    make_tree,
    pack_node,
)

from hs._fast import state_nodes as _nodes

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

EMPTY = _nodes.EMPTY
Missing = _nodes.Missing
# Assignments to these names would clash with the types cimported above.
globals().update(Node=_nodes.Node, NodeStore=_nodes.NodeStore)

cdef int64_t MAX_KEY_IX = (1 << 31) - 1

cdef struct Change:
    int64_t key_ix
    int64_t nid
    Py_ssize_t order


def get(Node root not None, int64_t key_ix):
    """The event_nid at a key; 0 if there is none. Raises Missing with one id."""
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef int64_t nid = _get(root, key_ix, &missing)
    check_missing(&missing)
    return nid


def get_many(Node root not None, key_ixs):
    """The event_nid (0 if there is none) at each key, in the given order."""
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef int64_t key_ix
    try:
        found = []
        for key_ix in key_ixs:
            found.append(_get(root, key_ix, &missing))
    except:
        free(missing.data)
        raise
    check_missing(&missing)
    return found


cdef int64_t _get(Node root, int64_t key_ix, Ids *missing) except? -1:
    cdef NodeStore store = root.store()
    cdef Branch node
    _check_key(key_ix)
    node = root.load(missing)
    if node is None or key_ix >> BITS * (node.level + 1):
        return 0
    while node.level:
        node = node.child((key_ix >> BITS * node.level) & MASK, store, missing)
        if node is None:
            return 0
    return node.slots[key_ix & MASK]


def set_many(Node root not None, changes):
    """The tree with each (key_ix, event_nid) set, or removed where event_nid is 0. See the twin."""
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef Change *wanted = NULL
    cdef NodeStore store = root.store()
    cdef Py_ssize_t used
    cdef Branch base, start, made
    cdef Home home
    cdef int level
    try:
        used = _read_changes(changes, &wanted)
        base = root.load(&missing)
        check_missing(&missing)
        level = 0 if base is None else base.level
        # A new top above the old one makes room for larger keys; removing a key never needs room.
        level = _level_for(wanted, used, level)
        while used and wanted[used - 1].key_ix >> BITS * (level + 1):
            used -= 1
        start = _lift(base, level)
        made = _apply(start, level, wanted, used, store, &missing)
        check_missing(&missing)
    finally:
        free(wanted)
        free(missing.data)
    if made is start:
        return root
    if made is None:
        return EMPTY
    home = root.home
    if home is None:
        home = Home.__new__(Home)
    # The shape depends on the keys only: no top with nothing but slot 0.
    while made.level and made.taken == 1:
        if not made.owned:
            return make_tree(home, None, made.slots[0])
        made = <Branch><PyObject *>made.slots[0]
    if made.stored:
        return make_tree(home, None, made.id)
    return make_tree(home, made, 0)


cdef Py_ssize_t _read_changes(object changes, Change **wanted) except -1:
    """The changes with keys ascending, of equal keys the last one; the caller frees them."""
    cdef Py_ssize_t used = 0, room = 0, i, kept
    cdef bint ascending = True
    cdef Change *grown
    for key_ix, nid in changes:
        if used == room:
            room = 2 * room + 4
            grown = <Change *>realloc(wanted[0], room * sizeof(Change))
            if grown == NULL:
                raise MemoryError
            wanted[0] = grown
        wanted[0][used] = Change(_check_key(key_ix), nid, used)
        ascending = ascending and (used == 0 or wanted[0][used - 1].key_ix < wanted[0][used].key_ix)
        used += 1
    if ascending:
        return used
    qsort(wanted[0], used, sizeof(Change), &_by_key)
    kept = 0
    for i in range(used):
        if i + 1 == used or wanted[0][i].key_ix != wanted[0][i + 1].key_ix:
            wanted[0][kept] = wanted[0][i]
            kept += 1
    return kept


cdef int _by_key(const void *left, const void *right) noexcept nogil:
    cdef const Change *a = <const Change *>left
    cdef const Change *b = <const Change *>right
    if a.key_ix != b.key_ix:
        return -1 if a.key_ix < b.key_ix else 1
    return -1 if a.order < b.order else 1


cdef int _level_for(Change *wanted, Py_ssize_t used, int level) noexcept:
    while used and wanted[used - 1].nid == 0:
        used -= 1
    while used and wanted[used - 1].key_ix >> BITS * (level + 1):
        level += 1
    return level


cdef Branch _apply(Branch node, int level, Change *wanted, Py_ssize_t used, NodeStore store, Ids *missing):
    """The changed node, None if nothing is left, or `node` itself if nothing changes."""
    cdef Branch made = None, child, grown
    cdef Py_ssize_t at = 0, end, noted
    cdef int slot, shift = BITS * level
    while at < used:
        slot = (wanted[at].key_ix >> shift) & MASK
        end = at + 1
        if level == 0:
            if wanted[at].nid != (0 if node is None else node.slots[slot]):
                if made is None:
                    made = _new(0) if node is None else node.copy()
                made.put_nid(slot, wanted[at].nid)
        else:
            while end < used and (wanted[end].key_ix >> shift) & MASK == slot:
                end += 1
            noted = missing.used
            child = None if node is None else node.child(slot, store, missing)
            if missing.used == noted:
                grown = _apply(child, level - 1, wanted + at, end - at, store, missing)
                if grown is not child:
                    if made is None:
                        made = _new(level) if node is None else node.copy()
                    made.put_child(slot, grown)
                    made.count += (0 if grown is None else grown.count) - (0 if child is None else child.count)
        at = end
    if made is None:
        return node
    return made if made.taken else None


cdef Branch _new(int level):
    cdef Branch made = Branch.__new__(Branch)
    made.level = level
    return made


cdef Branch _lift(Branch node, int level):
    """The node as seen from a higher level."""
    cdef Branch top
    while node is not None and node.level < level:
        top = _new(node.level + 1)
        top.put_child(0, node)
        top.count = node.count
        node = top
    return node


def items(Node root not None):
    """All (key_ix, event_nid), keys ascending. Raises Missing once per level of a cold tree."""
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef list rows = []
    try:
        _collect(root.load(&missing), 0, root.store(), &missing, rows)
        check_missing(&missing)
    finally:
        free(missing.data)
    return rows


cdef int _collect(Branch node, int64_t first_ix, NodeStore store, Ids *missing, list rows) except -1:
    cdef uint64_t taken = 0 if node is None else node.taken
    cdef int slot
    while taken:
        slot = lowest(taken)
        taken &= taken - 1
        if node.level:
            _collect(
                node.child(slot, store, missing), first_ix + (<int64_t>slot << BITS * node.level), store, missing, rows
            )
        else:
            rows.append((first_ix + slot, node.slots[slot]))
    return 0


def count(Node root not None):
    """Number of keys. Looks at the root node only."""
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef Branch node = root.load(&missing)
    check_missing(&missing)
    return 0 if node is None else node.count


def diff(Node a not None, Node b not None):
    """(key_ix, nid in a or 0, nid in b or 0) of each key that differs, ascending; costs what differs."""
    return _find_conflicts((a, b), True)


def conflicted(roots):
    """(key_ix, event_nid or 0 in each tree) of each key on which the trees disagree, ascending."""
    return _find_conflicts(tuple(roots), False)


# What a slot refers to, side by side for all trees: a node in memory (counted), or the id of a stored one.
cdef struct Side:
    PyObject *node
    int64_t id


cdef list _find_conflicts(tuple roots, bint is_flat):
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef Py_ssize_t width = len(roots), i
    cdef list rows = [], tops = []
    cdef Side *sides
    cdef Node root
    cdef Branch node
    cdef int level = 0
    for root in roots:
        if root is None:
            raise TypeError("a tree is expected, not None")
    # One row of sides per level, and one more for the level below the last.
    sides = <Side *>calloc((MAX_LEVEL + 2) * (width + 1), sizeof(Side))
    if sides == NULL:
        raise MemoryError
    try:
        for root in roots:
            node = root.load(&missing)
            tops.append(node)
            if node is not None and node.level > level:
                level = node.level
        check_missing(&missing)
        for i in range(width):
            node = _lift(tops[i], level)
            tops[i] = node
            if node is not None:
                sides[i] = Side(<PyObject *>node, node.id)
        if not _is_same(sides, width):
            _compare(sides, width, level, 0, roots, is_flat, &missing, rows)
        check_missing(&missing)
    finally:
        free(sides)
        free(missing.data)
    return rows


cdef bint _is_same(Side *sides, Py_ssize_t width) noexcept:
    cdef Py_ssize_t i
    for i in range(1, width):
        if sides[i].node == sides[0].node and sides[i].id == sides[0].id:
            continue
        if sides[i].id != sides[0].id or sides[i].id == 0:
            return False
    return True


cdef int _compare(
    Side *sides, Py_ssize_t width, int level, int64_t first_ix, tuple roots, bint is_flat, Ids *missing, list rows
) except -1:
    """Appends what differs below; all nodes of `sides` that are in memory are loaded and held by the caller."""
    cdef uint64_t taken = 0, bit
    cdef Side *below = sides + width
    cdef Py_ssize_t i
    cdef Branch node
    cdef int slot
    for i in range(width):
        if sides[i].node != NULL:
            taken |= (<Branch>sides[i].node).taken
    while taken:
        slot = lowest(taken)
        bit = taken & (~taken + 1)
        taken ^= bit
        for i in range(width):
            below[i] = Side(NULL, 0)
            if sides[i].node != NULL and (<Branch>sides[i].node).taken & bit:
                below[i].id = (<Branch>sides[i].node).slots[slot]
                if (<Branch>sides[i].node).owned & bit:
                    below[i] = Side(<PyObject *>below[i].id, (<Branch><PyObject *>below[i].id).id)
        if _is_same(below, width):
            continue
        if level == 0:
            _append(rows, first_ix + slot, below, width, is_flat)
            continue
        for i in range(width):
            if below[i].node == NULL and below[i].id:
                node = load_node((<Node>roots[i]).store(), below[i].id, level - 1, missing)
                if node is not None:
                    below[i].node = <PyObject *>node
            Py_XINCREF(below[i].node)
        try:
            _compare(
                below, width, level - 1, first_ix + (<int64_t>slot << BITS * level), roots, is_flat, missing, rows
            )
        finally:
            for i in range(width):
                Py_XDECREF(below[i].node)
    return 0


cdef int _append(list rows, int64_t key_ix, Side *sides, Py_ssize_t width, bint is_flat) except -1:
    if is_flat:
        rows.append((key_ix, sides[0].id, sides[1].id))
    else:
        rows.append((key_ix, tuple([sides[i].id for i in range(width)])))
    return 0


def count_new(roots):
    """How many nodes of these trees have no number yet: what `pack_new` will take from `ids`."""
    cdef Branch branch
    cdef Py_ssize_t found = 0
    for branch in list_new(roots):
        found += branch.id == 0
    return found


def pack_new(roots, ids):
    """(node_id, blob) of every node of these trees that is not stored yet, children before parents."""
    cdef Branch branch
    cdef int64_t id
    cdef list new = list_new(roots)
    cdef list nameless = [branch for branch in new if branch.id == 0]
    cdef list taken = []
    for branch, id in zip(nameless, ids):
        if id <= 0:
            raise ValueError("node ids are positive")
        taken.append(id)
    if len(taken) < len(nameless):
        raise ValueError(f"{len(nameless)} new nodes, {len(taken)} ids")
    for branch, id in zip(nameless, taken):
        branch.id = id
    return [(branch.id, pack_node(branch)) for branch in new]


cdef int64_t _check_key(int64_t key_ix) except -1:
    if not 0 <= key_ix <= MAX_KEY_IX:
        raise ValueError(f"key_ix {key_ix} is not in 0..{MAX_KEY_IX}")
    return key_ix
