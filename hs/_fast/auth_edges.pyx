"""The arrays of an auth graph: events by index, their edges both ways, nids by hash. See auth_graph_ref.py."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc


class Missing(Exception):
    """Events are not in the graph; `ids` (ascending) are all of them that the operation met."""

    def __init__(self, ids):
        self.ids = sorted(ids)
        super().__init__(f"{len(self.ids)} events are not in the auth graph")


cdef int push(Vector *vector, int32_t value) except -1 nogil:
    cdef int32_t *grown
    cdef int32_t room
    if vector.used == vector.room:
        if vector.room > 1_400_000_000:
            raise OverflowError("the graph is full")
        room = vector.room + (vector.room >> 1) + 16
        grown = <int32_t *>realloc(vector.data, room * sizeof(int32_t))
        if grown == NULL:
            raise MemoryError
        vector.data, vector.room = grown, room
    vector.data[vector.used] = value
    vector.used += 1
    return 0


cdef class AuthEdges:
    """Events in the order they were added: an auth event's index is always smaller."""

    def __cinit__(self):
        self.table_bits = 4
        self.table = <int32_t *>calloc(1 << self.table_bits, sizeof(int32_t))
        if self.table == NULL:
            raise MemoryError
        push(&self.first, 0)

    def __dealloc__(self):
        free(self.nids)
        free(self.first.data)
        free(self.newest.data)
        free(self.targets.data)
        free(self.owners.data)
        free(self.earlier.data)
        free(self.table)

    def __len__(self):
        """Number of events."""
        return self.used

    def __contains__(self, int64_t nid):
        return self.find(nid) >= 0

    @property
    def nbytes(self):
        """Bytes held by the arrays, spare room included."""
        cdef int64_t small = self.first.room + self.newest.room + (<int64_t>1 << self.table_bits)
        cdef int64_t edges = <int64_t>self.targets.room + self.owners.room + self.earlier.room
        return 8 * <int64_t>self.room + 4 * (small + edges)

    def list_unknown(self, nids):
        """Those of the nids that are not in the graph, ascending, each once."""
        cdef int64_t nid
        unknown = set()
        for nid in nids:
            if self.find(nid) < 0:
                unknown.add(nid)
        return sorted(unknown)

    def list_auth(self, int64_t nid):
        """The auth events of an event in the order they were given. Raises Missing."""
        cdef int32_t at = self.find(nid), edge
        if at < 0:
            raise Missing([nid])
        return [self.nids[self.targets.data[edge]] for edge in range(self.first.data[at], self.first.data[at + 1])]

    def add(self, int64_t nid, auth_nids):
        """Add an event whose auth events are all there; an event already there stays as it is."""
        self.add_many(((nid, auth_nids),))

    def add_many(self, events):
        """Add (nid, auth_nids) pairs in any order: auth events may come later in the same call."""
        cdef int32_t kept = self.used
        if self.walks:
            raise RuntimeError("events cannot be added to an auth graph during a walk")
        try:
            self.add_all(events)
        except:
            self.cut(kept)
            raise

    cdef int add_all(self, object events) except -1:
        # What waits for an auth event that may still come: {nid: auth_nids}, how many it waits for, and
        # for each auth event who waits.
        cdef dict waiting = {}, wanted = {}, waiters = {}
        cdef int64_t nid
        cdef Py_ssize_t lacking
        cdef list ready
        for nid, auth_nids in events:
            if nid == 0:
                raise ValueError("0 is not an event_nid")
            if self.find(nid) >= 0 or nid in waiting:
                continue
            auth_nids = tuple(auth_nids)
            lacking = 0
            for auth in auth_nids:
                if self.find(auth) < 0:
                    waiters.setdefault(auth, []).append(nid)
                    lacking += 1
            if lacking:
                waiting[nid] = auth_nids
                wanted[nid] = lacking
                continue
            self.append(nid, auth_nids)
            if not waiters:
                continue
            ready = [nid]
            while ready:
                for waiter in waiters.pop(ready.pop(), ()):
                    wanted[waiter] -= 1
                    if not wanted[waiter]:
                        self.append(waiter, waiting.pop(waiter))
                        ready.append(waiter)
        if waiting:
            unknown = waiters.keys() - waiting.keys()
            if unknown:
                raise Missing(unknown)
            raise ValueError("auth events form a cycle")
        return 0

    cdef int append(self, int64_t nid, tuple auth_nids) except -1:
        """Add an event whose auth events are there. The caller cuts off what a failure leaves."""
        cdef int64_t *grown
        cdef int32_t target, at = self.used, edge
        if self.used == self.room:
            grown = <int64_t *>realloc(self.nids, (self.room + (self.room >> 1) + 16) * sizeof(int64_t))
            if grown == NULL:
                raise MemoryError
            self.nids, self.room = grown, self.room + (self.room >> 1) + 16
        if <int64_t>at * 10 >= (<int64_t>7 << self.table_bits):
            self.rehash(self.table_bits + 1)
        for auth in auth_nids:
            target = self.find(auth)
            edge = self.targets.used
            push(&self.targets, target)
            push(&self.owners, at)
            push(&self.earlier, self.newest.data[target])
            self.newest.data[target] = edge
        push(&self.first, self.targets.used)
        push(&self.newest, -1)
        self.nids[at] = nid
        self.used += 1
        self.enter(at)
        return 0

    cdef int cut(self, int32_t kept) except -1:
        """Forget all events from an index on."""
        cdef int32_t edge
        for edge in range(self.targets.used - 1, self.first.data[kept] - 1, -1):
            # The last array of an edge may not have got its entry.
            if edge < self.earlier.used and self.newest.data[self.targets.data[edge]] == edge:
                self.newest.data[self.targets.data[edge]] = self.earlier.data[edge]
        self.targets.used = self.owners.used = self.earlier.used = self.first.data[kept]
        self.first.used = kept + 1
        self.newest.used = kept
        if self.used != kept:
            self.used = kept
            self.rehash(self.table_bits)
        return 0

    cdef int rehash(self, int bits) except -1:
        cdef int32_t *table = <int32_t *>calloc(<size_t>1 << bits, sizeof(int32_t))
        cdef int32_t at
        if table == NULL:
            raise MemoryError
        free(self.table)
        self.table, self.table_bits = table, bits
        for at in range(self.used):
            self.enter(at)
        return 0

    cdef void enter(self, int32_t at) noexcept nogil:
        cdef int64_t slot = self.slot(self.nids[at])
        while self.table[slot]:
            slot = (slot + 1) & ((<int64_t>1 << self.table_bits) - 1)
        self.table[slot] = at + 1

    cdef int64_t slot(self, int64_t nid) noexcept nogil:
        # Fibonacci hashing: the high bits of the product depend on all bits of the nid.
        return <int64_t>((<uint64_t>nid * <uint64_t>0x9E3779B97F4A7C15) >> (64 - self.table_bits))

    cdef int32_t find(self, int64_t nid) noexcept nogil:
        """The event's index, -1 if it is not there."""
        cdef int64_t slot = self.slot(nid)
        cdef int32_t at
        while True:
            at = self.table[slot] - 1
            if at < 0 or self.nids[at] == nid:
                return at
            slot = (slot + 1) & ((<int64_t>1 << self.table_bits) - 1)

    cdef Vector find_all(self, object nids):
        """The indexes of the events, for the caller to free. Raises Missing."""
        cdef Vector found = Vector(NULL, 0, 0)
        cdef int32_t at
        cdef int64_t nid
        unknown = []
        try:
            for nid in nids:
                at = self.find(nid)
                if at < 0:
                    unknown.append(nid)
                else:
                    push(&found, at)
            if unknown:
                raise Missing(set(unknown))
        except:
            free(found.data)
            raise
        return found

    cdef list to_nids(self, Vector *indexes):
        cdef int64_t *nids = <int64_t *>malloc((indexes.used + 1) * sizeof(int64_t))
        cdef int32_t i
        if nids == NULL:
            raise MemoryError
        try:
            for i in range(indexes.used):
                nids[i] = self.nids[indexes.data[i]]
            qsort(nids, indexes.used, sizeof(int64_t), &_ascending)
            return [nids[i] for i in range(indexes.used)]
        finally:
            free(nids)


cdef int _ascending(const void *left, const void *right) noexcept nogil:
    cdef int64_t a = (<const int64_t *>left)[0], b = (<const int64_t *>right)[0]
    return (a > b) - (a < b)
