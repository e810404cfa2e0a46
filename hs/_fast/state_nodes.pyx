"""Nodes of the state tree: branches, the bounded store and the packed form. See state_tree_ref.py."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT, Py_XDECREF, PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

cdef extern from *:
    """
    #define hs_popcount(bits) __builtin_popcountll(bits)
    """
    int popcount "hs_popcount" (uint64_t bits) noexcept nogil

cdef enum:
    # Tag, count, bitmap and the slots' values, each at its longest.
    MAX_PACKED = 1 + 10 + 8 + 10 * WIDTH
    # Pinned nodes that one trim looks past before it gives up until the next one.
    MAX_PINNED = 64

cdef uint64_t MAX_COUNT = <uint64_t>1 << 31
cdef uint64_t FULL = <uint64_t>-1


class Missing(Exception):
    """Nodes are not in the store; `ids` (ascending) are all of them that the operation met."""

    def __init__(self, ids):
        self.ids = sorted(ids)
        super().__init__(f"{len(self.ids)} state nodes are not in memory")


cdef int push_id(Ids *ids, int64_t id) except -1:
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


cdef int check_missing(Ids *missing) except -1:
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
cdef class Branch:
    """A node. Slots hold event_nids at level 0; above it ids of stored children, or pointers to new ones."""

    def __dealloc__(self):
        cdef uint64_t owned = self.owned
        while owned:
            Py_DECREF(<object><PyObject *>self.slots[lowest(owned)])
            owned &= owned - 1

    cdef Branch copy(self):
        """A new node, not numbered, with the same slots."""
        cdef Branch made = Branch.__new__(Branch)
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

    cdef void put_child(self, int slot, Branch child) noexcept:
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

    cdef Branch child(self, int slot, NodeStore store, Ids *missing):
        """The child in a slot; None where there is none or where it is not in memory (then noted)."""
        cdef uint64_t bit = <uint64_t>1 << slot
        if self.owned & bit:
            return <Branch><PyObject *>self.slots[slot]
        if self.taken & bit:
            return load_node(store, self.slots[slot], self.level - 1, missing)
        return None


cdef Branch load_node(NodeStore store, int64_t id, int level, Ids *missing):
    cdef Branch found = store.find(id) if store is not None else None
    if found is None:
        push_id(missing, id)
    elif level >= 0 and found.level != level:
        raise ValueError(f"state node {id} is corrupt: it sits at the wrong level")
    return found


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Home:
    """Where the stored nodes of a family of trees are found; none before the first commit."""


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Node:
    """A tree: the handle of its root. Immutable; made by `set_many` and `NodeStore.get` only."""

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

    cdef NodeStore store(self):
        return None if self.home is None else self.home.store

    cdef Branch load(self, Ids *missing):
        """The root node; None where the tree is empty or the node is not in memory (then noted)."""
        if self.branch is not None:
            return self.branch
        return load_node(self.store(), self.root_id, -1, missing) if self.root_id else None


cdef Node make_tree(Home home, Branch branch, int64_t root_id):
    cdef Node made = Node.__new__(Node)
    made.home, made.branch, made.root_id = home, branch, root_id
    return made


EMPTY = make_tree(None, None, 0)


@cython.final
@cython.no_gc
cdef class NodeStore:
    """Nodes of all rooms in memory by id, at most `max_bytes` of them: the least recently used go first."""

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
            next = (<Branch>self.oldest).newer
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
        cdef Home home
        if state_id < 0:
            raise ValueError("a state_id is not negative")
        if state_id == 0:
            return EMPTY
        home = Home.__new__(Home)
        home.store = self
        return make_tree(home, None, state_id)

    def add(self, blobs):
        """Unpack (node_id, blob) pairs from the database; nodes already there stay. See the twin."""
        branches = [_unpack(node_id, blob) for node_id, blob in blobs]
        held = [self.keep(branch) for branch in branches]
        self.trim(len(held))
        return held

    def mark_stored(self, roots):
        """Take over the new nodes of these trees after the COMMIT that wrote them. See the twin."""
        cdef Branch branch
        cdef Node root
        cdef uint64_t owned
        cdef int slot
        trees = list(roots)
        new = list_new(trees)
        for branch in new:
            if branch.id == 0:
                raise ValueError("pack_new comes before mark_stored")
        for branch in new:
            branch.stored = True
            owned = branch.owned
            while owned:
                slot = lowest(owned)
                branch.put_child(slot, <Branch><PyObject *>branch.slots[slot])  # children come first
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

    cdef Branch find(self, int64_t id):
        cdef PyObject *at = self.buckets[_hash(id) & self.mask]
        while at != NULL and (<Branch>at).id != id:
            at = (<Branch>at).chained
        if at == NULL:
            return None
        if at != self.newest:
            self.unlink(at)
            self.link(at)
        return <Branch>at

    cdef Branch keep(self, Branch branch):
        cdef Branch known = self.find(branch.id)
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
            bucket = &buckets[_hash((<Branch>at).id) & mask]
            (<Branch>at).chained = bucket[0]
            bucket[0] = at
            at = (<Branch>at).newer
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
            bucket = &self.buckets[_hash((<Branch>at).id) & self.mask]
            while bucket[0] != at:
                bucket = &(<Branch>bucket[0]).chained
            bucket[0] = (<Branch>at).chained
            self.used -= 1
            Py_DECREF(<object>at)

    cdef void link(self, PyObject *at) noexcept:
        (<Branch>at).older = self.newest
        (<Branch>at).newer = NULL
        if self.newest == NULL:
            self.oldest = at
        else:
            (<Branch>self.newest).newer = at
        self.newest = at

    cdef void unlink(self, PyObject *at) noexcept:
        cdef PyObject *older = (<Branch>at).older
        cdef PyObject *newer = (<Branch>at).newer
        if older == NULL:
            self.oldest = newer
        else:
            (<Branch>older).newer = newer
        if newer == NULL:
            self.newest = older
        else:
            (<Branch>newer).older = older


cdef Py_ssize_t NODE_BYTES = Branch.__basicsize__ + 16  # what malloc adds, and a bucket


cdef Py_ssize_t _hash(int64_t id) noexcept:
    # Ids are consecutive where it matters: the low bits alone spread well.
    return <Py_ssize_t>(id ^ (id >> 20))


cdef list list_new(object roots):
    cdef list found = []
    cdef set seen = set()
    cdef Node root
    for root in roots:
        _visit_new(root.branch, found, seen)
    return found


cdef int _visit_new(Branch node, list found, set seen) except -1:
    cdef uint64_t owned
    if node is None or node.stored or <size_t><PyObject *>node in seen:
        return 0
    seen.add(<size_t><PyObject *>node)
    owned = node.owned
    while owned:
        _visit_new(<Branch><PyObject *>node.slots[lowest(owned)], found, seen)
        owned &= owned - 1
    found.append(node)
    return 0


cdef bytes pack_node(Branch node):
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
            value = (<Branch><PyObject *>value).id
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


cdef Branch _unpack(int64_t id, bytes blob):
    cdef Branch made = Branch.__new__(Branch)
    if id <= 0:
        raise ValueError("node ids are positive")
    if blob is None or not _read(made, <const uint8_t *>PyBytes_AS_STRING(blob), PyBytes_GET_SIZE(blob)):
        raise ValueError(f"state node {id} is corrupt")
    made.id = id
    made.stored = True
    return made


cdef bint _read(Branch made, const uint8_t *at, Py_ssize_t size) noexcept:
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
        if at == NULL or raw > MAX_COUNT:
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
