"""Persistent map key_ix -> event_nid. The contract is in state_tree_ref.py; comments here say how."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT, Py_XDECREF, Py_XINCREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, qsort, realloc
from libc.string cimport memcpy

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

cdef extern from *:
    """
    #if defined(_MSC_VER)
    #include <intrin.h>
    static int hs_lowest(unsigned long long bits) { unsigned long at; _BitScanForward64(&at, bits); return (int)at; }
    static int hs_popcount(unsigned long long bits) { return (int)__popcnt64(bits); }
    #else
    #define hs_lowest(bits) __builtin_ctzll(bits)
    #define hs_popcount(bits) __builtin_popcountll(bits)
    #endif
    """
    int lowest "hs_lowest" (uint64_t bits) nogil
    int popcount "hs_popcount" (uint64_t bits) nogil

cdef enum:
    BITS = 6
    WIDTH = 1 << BITS
    MASK = WIDTH - 1
    MAX_LEVEL = 5
    # Tag, count, bitmap and a slot value each at its longest.
    MAX_PACKED = 1 + 10 + 8 + 10 * WIDTH
    # Pinned nodes that one trim looks past before it gives up until the next one.
    MAX_PINNED = 64

cdef int64_t MAX_KEY_IX = (1 << 31) - 1
cdef uint64_t FULL = <uint64_t>-1 if WIDTH == 64 else (<uint64_t>1 << (WIDTH & 63)) - 1


class Missing(Exception):
    """Nodes are not in the store; `ids` (ascending) are all of them that the operation met."""

    def __init__(self, ids):
        self.ids = sorted(ids)
        super().__init__(f"{len(self.ids)} state nodes are not in memory")


cdef struct Ids:
    int64_t *data
    Py_ssize_t used
    Py_ssize_t room


cdef struct Change:
    int64_t key_ix
    int64_t nid
    Py_ssize_t order


cdef int _push(Ids *ids, int64_t id) except -1:
    cdef int64_t *grown
    if ids.used == ids.room:
        grown = <int64_t *>realloc(ids.data, (2 * ids.room + 16) * sizeof(int64_t))
        if grown == NULL:
            raise MemoryError
        ids.data = grown
        ids.room = 2 * ids.room + 16
    ids.data[ids.used] = id
    ids.used += 1
    return 0


cdef int _check(Ids *missing) except -1:
    """Raises Missing for what was noted, and frees the note in any case."""
    cdef Py_ssize_t i
    if missing.data == NULL:
        return 0
    try:
        found = {missing.data[i] for i in range(missing.used)}
    finally:
        free(missing.data)
        missing.data = NULL
    raise Missing(found)


# No node can be part of a reference cycle, so none of these classes needs the garbage collector.
@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class _Branch:
    """A node. Slots hold event_nids at level 0; above it ids of stored children, or pointers to new ones."""

    cdef int64_t id
    cdef uint64_t taken
    cdef uint64_t owned  # which slots hold a counted pointer
    cdef PyObject *older  # neighbours in the store's list and next in its bucket, all borrowed
    cdef PyObject *newer
    cdef PyObject *chained
    cdef int64_t count
    cdef int level
    cdef bint stored
    cdef int64_t slots[WIDTH]

    def __dealloc__(self):
        cdef uint64_t owned = self.owned
        while owned:
            Py_DECREF(<object><PyObject *>self.slots[lowest(owned)])
            owned &= owned - 1

    cdef _Branch copy(self):
        """A new node, not numbered, with the same slots."""
        cdef _Branch made = _Branch.__new__(_Branch)
        cdef uint64_t owned = self.owned
        memcpy(made.slots, self.slots, sizeof(self.slots))
        made.taken, made.owned, made.count, made.level = self.taken, owned, self.count, self.level
        while owned:
            Py_INCREF(<object><PyObject *>self.slots[lowest(owned)])
            owned &= owned - 1
        return made

    cdef void put_nid(self, int slot, int64_t nid) noexcept:
        cdef uint64_t bit = <uint64_t>1 << slot
        self.count += (nid != 0) - (self.slots[slot] != 0)
        self.slots[slot] = nid
        self.taken = self.taken | bit if nid else self.taken & ~bit

    cdef void put_child(self, int slot, _Branch child) noexcept:
        """Refer to the child, by id where it is stored; None empties the slot. Counts are the caller's."""
        cdef uint64_t bit = <uint64_t>1 << slot
        cdef PyObject *old = <PyObject *>self.slots[slot] if self.owned & bit else NULL
        self.taken |= bit
        self.owned &= ~bit
        if child is None:
            self.taken &= ~bit
            self.slots[slot] = 0
        elif child.stored:
            self.slots[slot] = child.id
        else:
            Py_INCREF(child)
            self.owned |= bit
            self.slots[slot] = <int64_t><PyObject *>child
        Py_XDECREF(old)

    cdef inline _Branch child(self, int slot, NodeStore store, Ids *missing):
        """The child in a slot; None where there is none or where it is not in memory (then noted)."""
        cdef uint64_t bit = <uint64_t>1 << slot
        if self.owned & bit:
            return <_Branch><PyObject *>self.slots[slot]
        if self.taken & bit:
            return _load(store, self.slots[slot], self.level - 1, missing)
        return None


cdef _Branch _load(NodeStore store, int64_t id, int level, Ids *missing):
    cdef _Branch found = store.find(id) if store is not None else None
    if found is None:
        _push(missing, id)
    elif level >= 0 and found.level != level:
        raise ValueError(f"state node {id} is corrupt: it sits at the wrong level")
    return found


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class _Home:
    """Where the stored nodes of a family of trees are found; none before the first commit."""

    cdef NodeStore store


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Node:
    """A tree: the handle of its root. Immutable; made by `set_many` and `NodeStore.get` only."""

    cdef _Home home
    cdef _Branch branch  # held while it is new
    cdef int64_t root_id  # otherwise

    def __init__(self):
        raise TypeError("trees come from NodeStore.get and set_many")

    @property
    def id(self):
        """The state_id: 0 for the empty tree and for one that `pack_new` has not numbered yet."""
        return self.root_id if self.branch is None else self.branch.id

    @property
    def stored(self):
        """Whether the whole tree is in the database."""
        return True if self.branch is None else self.branch.stored

    cdef inline NodeStore store(self):
        return None if self.home is None else self.home.store

    cdef inline _Branch load(self, Ids *missing):
        """The root node; None where the tree is empty or the node is not in memory (then noted)."""
        if self.branch is not None:
            return self.branch
        return _load(self.store(), self.root_id, -1, missing) if self.root_id else None


cdef Node _make_tree(_Home home, _Branch branch, int64_t root_id):
    cdef Node made = Node.__new__(Node)
    made.home, made.branch, made.root_id = home, branch, root_id
    return made


EMPTY = _make_tree(None, None, 0)


@cython.final
@cython.no_gc
cdef class NodeStore:
    """Nodes of all rooms in memory by id, at most `max_bytes` of them: the least recently used go first."""

    # The store owns one reference to each of its nodes. They hang in hash buckets and in a list by last
    # use, both through fields of the nodes. Nodes that somebody else holds too are not pushed out, so
    # that a node in memory can always be found.
    cdef readonly int64_t max_bytes
    cdef PyObject **buckets
    cdef Py_ssize_t mask
    cdef Py_ssize_t used
    cdef PyObject *oldest
    cdef PyObject *newest

    def __cinit__(self):
        self.buckets = <PyObject **>calloc(64, sizeof(PyObject *))
        if self.buckets == NULL:
            raise MemoryError
        self.mask = 63

    def __init__(self, int64_t max_bytes):
        if max_bytes < 0:
            raise ValueError("max_bytes must not be negative")
        self.max_bytes = max_bytes

    def __dealloc__(self):
        cdef PyObject *next
        while self.oldest != NULL:
            next = (<_Branch>self.oldest).newer
            Py_DECREF(<object>self.oldest)
            self.oldest = next
        free(self.buckets)

    def __len__(self):
        """Number of nodes kept."""
        return self.used

    @property
    def nbytes(self):
        """Bytes of the nodes kept. One `add` or `mark_stored` may exceed max_bytes by what it brings."""
        return self.used * NODE_BYTES

    def get(self, int64_t state_id):
        """The tree with this root id, which need not be in memory yet; EMPTY for 0."""
        cdef _Home home
        if state_id < 0:
            raise ValueError("a state_id is not negative")
        if state_id == 0:
            return EMPTY
        home = _Home.__new__(_Home)
        home.store = self
        return _make_tree(home, None, state_id)

    def add(self, blobs):
        """Unpack (node_id, blob) pairs from the database; nodes already there stay. See the twin."""
        branches = [_unpack(node_id, blob) for node_id, blob in blobs]
        held = [self.keep(branch) for branch in branches]
        self.trim(len(held))
        return held

    def mark_stored(self, roots):
        """Take over the new nodes of these trees after the COMMIT that wrote them. See the twin."""
        cdef _Branch branch
        cdef Node root
        cdef uint64_t owned
        cdef int slot
        trees = list(roots)
        new = _list_new(trees)
        for branch in new:
            if branch.id == 0:
                raise ValueError("pack_new comes before mark_stored")
        for branch in new:
            branch.stored = True
            owned = branch.owned
            while owned:
                slot = lowest(owned)
                branch.put_child(slot, <_Branch><PyObject *>branch.slots[slot])  # children come first
                owned &= owned - 1
            self.keep(branch)
        for root in trees:
            if root.branch is not None:
                root.home.store = self
                root.root_id = root.branch.id
                root.branch = None
        batch = len(new)
        branch = None
        new = None  # lets go of the nodes, which would count as pinned
        self.trim(batch)

    cdef _Branch find(self, int64_t id):
        cdef PyObject *at = self.buckets[_hash(id) & self.mask]
        while at != NULL and (<_Branch>at).id != id:
            at = (<_Branch>at).chained
        if at == NULL:
            return None
        if at != self.newest:
            self.unlink(at)
            self.link(at)
        return <_Branch>at

    cdef _Branch keep(self, _Branch branch):
        cdef _Branch known = self.find(branch.id)
        cdef PyObject **bucket
        if known is not None:
            return known
        if self.used > self.mask:
            self.grow()
        bucket = &self.buckets[_hash(branch.id) & self.mask]
        Py_INCREF(branch)
        branch.chained = bucket[0]
        bucket[0] = <PyObject *>branch
        self.link(<PyObject *>branch)
        self.used += 1
        return branch

    cdef int grow(self) except -1:
        cdef Py_ssize_t mask = 2 * self.mask + 1
        cdef PyObject **buckets = <PyObject **>calloc(mask + 1, sizeof(PyObject *))
        cdef PyObject *at = self.oldest
        cdef PyObject **bucket
        if buckets == NULL:
            raise MemoryError
        while at != NULL:
            bucket = &buckets[_hash((<_Branch>at).id) & mask]
            (<_Branch>at).chained = bucket[0]
            bucket[0] = at
            at = (<_Branch>at).newer
        free(self.buckets)
        self.buckets, self.mask = buckets, mask
        return 0

    cdef void trim(self, Py_ssize_t batch) noexcept:
        """Push out the oldest nodes while there are too many, but none of the `batch` newest."""
        cdef PyObject *at
        cdef PyObject **bucket
        cdef int pinned = 0
        while self.used * NODE_BYTES > self.max_bytes and self.used > batch + pinned and pinned < MAX_PINNED:
            at = self.oldest
            self.unlink(at)
            if Py_REFCNT(<object>at) > 1:
                self.link(at)
                pinned += 1
                continue
            bucket = &self.buckets[_hash((<_Branch>at).id) & self.mask]
            while bucket[0] != at:
                bucket = &(<_Branch>bucket[0]).chained
            bucket[0] = (<_Branch>at).chained
            self.used -= 1
            Py_DECREF(<object>at)

    cdef void link(self, PyObject *at) noexcept:
        (<_Branch>at).older = self.newest
        (<_Branch>at).newer = NULL
        if self.newest == NULL:
            self.oldest = at
        else:
            (<_Branch>self.newest).newer = at
        self.newest = at

    cdef void unlink(self, PyObject *at) noexcept:
        cdef PyObject *older = (<_Branch>at).older
        cdef PyObject *newer = (<_Branch>at).newer
        if older == NULL:
            self.oldest = newer
        else:
            (<_Branch>older).newer = newer
        if newer == NULL:
            self.newest = older
        else:
            (<_Branch>newer).older = older


cdef Py_ssize_t NODE_BYTES = _Branch.__basicsize__ + 16  # what malloc adds, and a bucket


cdef inline Py_ssize_t _hash(int64_t id) noexcept:
    # Ids are consecutive where it matters: the low bits alone spread well.
    return <Py_ssize_t>(id ^ (id >> 20))


def get(Node root not None, int64_t key_ix):
    """The event_nid at a key; 0 if there is none. Raises Missing with one id."""
    cdef Ids missing = Ids(NULL, 0, 0)
    cdef int64_t nid = _get(root, key_ix, &missing)
    _check(&missing)
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
    _check(&missing)
    return found


cdef int64_t _get(Node root, int64_t key_ix, Ids *missing) except? -1:
    cdef NodeStore store = root.store()
    cdef _Branch node
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
    cdef _Branch base, start, made
    cdef _Home home
    cdef int level
    try:
        used = _read_changes(changes, &wanted)
        base = root.load(&missing)
        _check(&missing)
        level = 0 if base is None else base.level
        # A new top above the old one makes room for larger keys; removing a key never needs room.
        level = _level_for(wanted, used, level)
        while used and wanted[used - 1].key_ix >> BITS * (level + 1):
            used -= 1
        start = _lift(base, level)
        made = _apply(start, level, wanted, used, store, &missing)
        _check(&missing)
    finally:
        free(wanted)
        free(missing.data)
    if made is start:
        return root
    if made is None:
        return EMPTY
    home = root.home
    if home is None:
        home = _Home.__new__(_Home)
    # The shape depends on the keys only: no top with nothing but slot 0.
    while made.level and made.taken == 1:
        if not made.owned:
            return _make_tree(home, None, made.slots[0])
        made = <_Branch><PyObject *>made.slots[0]
    if made.stored:
        return _make_tree(home, None, made.id)
    return _make_tree(home, made, 0)


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


cdef _Branch _apply(_Branch node, int level, Change *wanted, Py_ssize_t used, NodeStore store, Ids *missing):
    """The changed node, None if nothing is left, or `node` itself if nothing changes."""
    cdef _Branch made = None, child, grown
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


cdef _Branch _new(int level):
    cdef _Branch made = _Branch.__new__(_Branch)
    made.level = level
    return made


cdef _Branch _lift(_Branch node, int level):
    """The node as seen from a higher level."""
    cdef _Branch top
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
        _check(&missing)
    finally:
        free(missing.data)
    return rows


cdef int _collect(_Branch node, int64_t first_ix, NodeStore store, Ids *missing, list rows) except -1:
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
    cdef _Branch node = root.load(&missing)
    _check(&missing)
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
    cdef _Branch node
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
        _check(&missing)
        for i in range(width):
            node = _lift(tops[i], level)
            tops[i] = node
            if node is not None:
                sides[i] = Side(<PyObject *>node, node.id)
        if not _is_same(sides, width):
            _compare(sides, width, level, 0, roots, is_flat, &missing, rows)
        _check(&missing)
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
    cdef _Branch node
    cdef int slot
    for i in range(width):
        if sides[i].node != NULL:
            taken |= (<_Branch>sides[i].node).taken
    while taken:
        slot = lowest(taken)
        bit = taken & (~taken + 1)
        taken ^= bit
        for i in range(width):
            below[i] = Side(NULL, 0)
            if sides[i].node != NULL and (<_Branch>sides[i].node).taken & bit:
                below[i].id = (<_Branch>sides[i].node).slots[slot]
                if (<_Branch>sides[i].node).owned & bit:
                    below[i] = Side(<PyObject *>below[i].id, (<_Branch><PyObject *>below[i].id).id)
        if _is_same(below, width):
            continue
        if level == 0:
            _append(rows, first_ix + slot, below, width, is_flat)
            continue
        for i in range(width):
            if below[i].node == NULL and below[i].id:
                node = _load((<Node>roots[i]).store(), below[i].id, level - 1, missing)
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
    cdef _Branch branch
    cdef Py_ssize_t found = 0
    for branch in _list_new(roots):
        found += branch.id == 0
    return found


def pack_new(roots, ids):
    """(node_id, blob) of every node of these trees that is not stored yet, children before parents."""
    cdef _Branch branch
    cdef int64_t id
    cdef list new = _list_new(roots)
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
    return [(branch.id, _pack(branch)) for branch in new]


cdef list _list_new(object roots):
    cdef list found = []
    cdef set seen = set()
    cdef Node root
    for root in roots:
        _visit_new(root.branch, found, seen)
    return found


cdef int _visit_new(_Branch node, list found, set seen) except -1:
    cdef uint64_t owned
    if node is None or node.stored or <size_t><PyObject *>node in seen:
        return 0
    seen.add(<size_t><PyObject *>node)
    owned = node.owned
    while owned:
        _visit_new(<_Branch><PyObject *>node.slots[lowest(owned)], found, seen)
        owned &= owned - 1
    found.append(node)
    return 0


cdef int64_t _check_key(int64_t key_ix) except -1:
    if not 0 <= key_ix <= MAX_KEY_IX:
        raise ValueError(f"key_ix {key_ix} is not in 0..{MAX_KEY_IX}")
    return key_ix


cdef bytes _pack(_Branch node):
    cdef uint8_t packed[MAX_PACKED]
    cdef uint8_t *at = packed
    cdef uint64_t taken = node.taken
    cdef int64_t last = 0, value, delta
    cdef int slot
    at[0] = 0x10 | node.level | (0x08 if taken == FULL else 0)
    at += 1
    if node.level:
        at = _put_varint(at, node.count)
    if taken != FULL:
        for slot in range(WIDTH // 8):
            at[slot] = (taken >> 8 * slot) & 0xFF
        at += WIDTH // 8
    while taken:
        slot = lowest(taken)
        value = node.slots[slot]
        if node.owned >> slot & 1:
            value = (<_Branch><PyObject *>value).id
        delta = <int64_t>(<uint64_t>value - <uint64_t>last)
        at = _put_varint(at, (<uint64_t>delta << 1) ^ <uint64_t>(delta >> 63))
        last = value
        taken &= taken - 1
    return PyBytes_FromStringAndSize(<char *>packed, at - packed)


cdef uint8_t *_put_varint(uint8_t *at, uint64_t value) noexcept nogil:
    while value > 0x7F:
        at[0] = (value & 0x7F) | 0x80
        at += 1
        value >>= 7
    at[0] = value
    return at + 1


cdef _Branch _unpack(int64_t id, bytes blob):
    cdef _Branch made = _Branch.__new__(_Branch)
    if id <= 0:
        raise ValueError("node ids are positive")
    if blob is None or not _read(made, <const uint8_t *>PyBytes_AS_STRING(blob), PyBytes_GET_SIZE(blob)):
        raise ValueError(f"state node {id} is corrupt")
    made.id = id
    made.stored = True
    return made


cdef bint _read(_Branch made, const uint8_t *at, Py_ssize_t size) noexcept:
    """Fills the node; False if the bytes are not exactly one sound node."""
    cdef const uint8_t *end = at + size
    cdef uint64_t taken, raw = 0, value = 0
    cdef int slot, level
    if size == 0 or at[0] & 0xF0 != 0x10 or at[0] & 0x07 > MAX_LEVEL:
        return False
    level = at[0] & 0x07
    taken = FULL if at[0] & 0x08 else 0
    at += 1
    made.level = level
    if level:
        at = _get_varint(at, end, &raw)
        if at == NULL or raw > <uint64_t>MAX_KEY_IX + 1:
            return False
        made.count = raw
    if not taken:
        if end - at < WIDTH // 8:
            return False
        for slot in range(WIDTH // 8):
            taken |= <uint64_t>at[slot] << 8 * slot
        at += WIDTH // 8
    if taken == 0 or (level and made.count < popcount(taken)):
        return False
    if level == 0:
        made.count = popcount(taken)
    made.taken = taken
    while taken:
        at = _get_varint(at, end, &raw)
        if at == NULL:
            return False
        value += (raw >> 1) ^ (0 - (raw & 1))
        if value == 0 or (level and <int64_t>value < 0):
            return False
        made.slots[lowest(taken)] = <int64_t>value
        taken &= taken - 1
    return at == end


cdef const uint8_t *_get_varint(const uint8_t *at, const uint8_t *end, uint64_t *value) noexcept nogil:
    """Behind the number read; NULL where it does not end, or not within 64 bits."""
    cdef int shift = 0
    value[0] = 0
    while at < end:
        if shift == 63 and at[0] > 1:
            return NULL
        value[0] |= <uint64_t>(at[0] & 0x7F) << shift
        if at[0] < 0x80:
            return at + 1
        at += 1
        shift += 7
    return NULL
