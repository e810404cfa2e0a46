"""A room's auth events as integer arrays. The contract is in auth_graph_ref.py; comments here say how.

An auth event's index is always smaller than that of an event that has it. An ancestor walk is one scan of
a bitset from the top down: when the scan reaches an index, everything that can refer to it has been seen.
The way up goes through linked lists of edges, newest first.

The loops need no Python, but the GIL is kept: they take microseconds, and nothing can be added meanwhile.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from hs._fast.auth_edges cimport AuthEdges, Vector, push

from hs._fast.auth_edges import Missing

__all__ = ["AuthGraph", "Missing"]

cdef extern from *:
    """
    #define hs_highest(bits) (63 - __builtin_clzll(bits))
    """
    int highest "hs_highest" (uint64_t bits) noexcept nogil

cdef enum:
    MAX_SETS = 1000
    # Events of the first question to find_common; each later one is twice as long.
    FIRST_QUESTION = 16


cdef inline bint _has(const uint64_t *bits, int32_t at) noexcept nogil:
    return (bits[at >> 6] >> (at & 63)) & 1


cdef inline void _mark(uint64_t *bits, int32_t at) noexcept nogil:
    bits[at >> 6] |= <uint64_t>1 << (at & 63)


@cython.final
cdef class AuthGraph(AuthEdges):
    """The auth_events edges of one room, complete downwards: it never holds an event without its auth."""

    def auth_chain(self, nids):
        """All ancestors of the events; an event itself only if it is an ancestor of another one."""
        cdef Vector starts = self.find_all(nids)
        cdef uint64_t *bits = NULL
        cdef Vector found = Vector(NULL, 0, 0)
        cdef int32_t i, edge, top = 0
        try:
            bits = self.new_bits(1)
            for i in range(starts.used):
                top = max(top, starts.data[i])
                for edge in range(self.first.data[starts.data[i]], self.first.data[starts.data[i] + 1]):
                    _mark(bits, self.targets.data[edge])
            self.walk_down(bits, top, 0, &found)
            return self.to_nids(&found)
        finally:
            free(starts.data)
            free(found.data)
            free(bits)

    def conflicted_subgraph(self, nids):
        """The events themselves and all events on auth_events paths between any two of them."""
        cdef Vector starts = self.find_all(nids)
        cdef uint64_t *below = NULL  # the events and their ancestors
        cdef uint64_t *above = NULL  # the events and those of `below` that descend from one
        cdef Vector found = Vector(NULL, 0, 0), walked = Vector(NULL, 0, 0)
        cdef int32_t i, at, edge, top = 0, floor
        try:
            below = self.new_bits(1)
            above = self.new_bits(1)
            floor = self.used
            for i in range(starts.used):
                at = starts.data[i]
                top, floor = max(top, at), min(floor, at)
                _mark(below, at)
                _mark(above, at)
            self.walk_down(below, top, floor, &walked)
            # The walk went down; back up, each event comes after its auth events.
            for i in range(walked.used - 1, -1, -1):
                at = walked.data[i]
                for edge in range(self.first.data[at], self.first.data[at + 1]):
                    if _has(above, self.targets.data[edge]):
                        _mark(above, at)
                        break
                if _has(above, at):
                    push(&found, at)
            return self.to_nids(&found)
        finally:
            free(starts.data)
            free(found.data)
            free(walked.data)
            free(below)
            free(above)

    def difference(self, sets, find_common):
        """The auth difference of states S_i: events in some full auth chain but not in all of them."""
        cdef Vector ends = Vector(NULL, 0, 0), starts = Vector(NULL, 0, 0), candidates = Vector(NULL, 0, 0)
        cdef uint64_t *bits = NULL
        cdef _Search search
        if len(sets) > MAX_SETS:
            raise ValueError("too many states")
        everything = []
        try:
            for nids in sets:
                everything.extend(nids)
                push(&ends, len(everything))
            starts = self.find_all(everything)
            if ends.used < 2 or starts.used == 0:
                return []
            bits = self.new_bits(ends.used)
            self.walk_sets(bits, &starts, &ends, &candidates)
            search = _Search(self)
            search.run(&candidates, &starts, find_common)
            return self.to_nids(&candidates)
        finally:
            free(ends.data)
            free(starts.data)
            free(candidates.data)
            free(bits)

    cdef int walk_sets(self, uint64_t *bits, Vector *starts, Vector *ends, Vector *candidates) except -1 nogil:
        """Finds the events in some of the sets' chains but not in all, from the newest to the oldest.

        `bits` has one bitset per set. The scan stops when all that is left to visit is in all chains: then
        so is everything further down.
        """
        cdef int64_t words = (self.used >> 6) + 1
        cdef int32_t sets = ends.used, k = 0, i, at, edge, target, word, top = 0, had
        cdef int32_t partial = 0  # marked, not visited yet, and not in all sets
        cdef uint64_t left, some
        for i in range(starts.used):
            while i >= ends.data[k]:
                k += 1
            at = starts.data[i]
            top = max(top, at)
            if _has(bits + k * words, at):
                continue
            had = self.count_sets(bits, words, sets, at)
            partial += (had == 0) - (had == sets - 1)
            _mark(bits + k * words, at)
        for word in range(top >> 6, -1, -1):
            left = <uint64_t>-1
            while partial:
                some = 0
                for k in range(sets):
                    some |= bits[k * words + word]
                some &= left
                if some == 0:
                    break
                at = (word << 6) + highest(some)
                left = (<uint64_t>1 << (at & 63)) - 1
                if self.count_sets(bits, words, sets, at) < sets:
                    push(candidates, at)
                    partial -= 1
                for edge in range(self.first.data[at], self.first.data[at + 1]):
                    target = self.targets.data[edge]
                    had = self.count_sets(bits, words, sets, target)
                    if had == sets:
                        continue
                    for k in range(sets):
                        if _has(bits + k * words, at):
                            _mark(bits + k * words, target)
                    partial += (had == 0) - (self.count_sets(bits, words, sets, target) == sets)
        return 0

    cdef inline int32_t count_sets(self, uint64_t *bits, int64_t words, int32_t sets, int32_t at) noexcept nogil:
        cdef int32_t k, found = 0
        for k in range(sets):
            found += _has(bits + k * words, at)
        return found

    cdef int walk_down(self, uint64_t *bits, int32_t top, int32_t floor, Vector *walked) except -1 nogil:
        """Marks and lists, newest first, the marked events and their ancestors between two indexes."""
        cdef int32_t word, at, edge
        cdef uint64_t left
        for word in range(top >> 6, (floor >> 6) - 1, -1):
            left = <uint64_t>-1
            while bits[word] & left:
                at = (word << 6) + highest(bits[word] & left)
                left = (<uint64_t>1 << (at & 63)) - 1
                if at < floor:
                    return 0
                push(walked, at)
                for edge in range(self.first.data[at], self.first.data[at + 1]):
                    _mark(bits, self.targets.data[edge])
        return 0

    cdef uint64_t *new_bits(self, int32_t sets) except NULL:
        cdef uint64_t *bits = <uint64_t *>calloc(<size_t>sets * ((self.used >> 6) + 1), sizeof(uint64_t))
        if bits == NULL:
            raise MemoryError
        return bits


@cython.final
@cython.no_gc
cdef class _Search:
    """Takes those candidates out of a list that are in the full auth chain of the common state.

    Settled are events known to be in that chain: an event of the common state and its ancestors. Asked are
    events that find_common has been asked about, or need not be. Questions double in length, so that there
    are few, and that an answer near the start is not paid with a long question.
    """

    cdef AuthGraph graph
    cdef uint64_t *settled
    cdef uint64_t *asked
    cdef uint64_t *sought
    cdef Vector question
    cdef Vector stack
    # A ring of edges to follow upwards, one per event whose descendants are being visited.
    cdef int32_t *ring
    cdef int64_t head, tail, mask
    cdef int32_t open, floor

    def __cinit__(self, AuthGraph graph not None):
        self.graph = graph
        self.settled = graph.new_bits(3)
        self.asked = self.settled + (graph.used >> 6) + 1
        self.sought = self.asked + (graph.used >> 6) + 1
        self.mask = 63
        self.ring = <int32_t *>malloc(64 * sizeof(int32_t))
        if self.ring == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.settled)
        free(self.question.data)
        free(self.stack.data)
        free(self.ring)

    cdef int run(self, Vector *candidates, Vector *starts, object find_common) except -1:
        self.graph.walks += 1
        try:
            self.search(candidates, starts, find_common)
        finally:
            self.graph.walks -= 1
        return 0

    cdef int search(self, Vector *candidates, Vector *starts, object find_common) except -1:
        cdef int32_t i, at, kept = 0, length = FIRST_QUESTION
        if candidates.used == 0:
            return 0
        self.open = candidates.used
        self.floor = candidates.data[candidates.used - 1]
        for i in range(candidates.used):
            _mark(self.sought, candidates.data[i])
        for i in range(starts.used):
            _mark(self.asked, starts.data[i])  # they are what is not common
        # First the candidates themselves, newest first: one in the common state settles its history.
        for i in range(candidates.used):
            at = candidates.data[i]
            if not _has(self.asked, at) and not _has(self.settled, at):
                _mark(self.asked, at)
                push(&self.question, at)
                if self.question.used >= length:
                    self.ask(find_common)
                    length *= 2
        self.ask(find_common)
        # Then the descendants of those still open.
        for i in range(candidates.used):
            if not _has(self.settled, candidates.data[i]):
                self.follow(self.graph.newest.data[candidates.data[i]])
        length = FIRST_QUESTION
        while self.open and self.gather(length):
            self.ask(find_common)
            length = min(2 * length, 1 << 20)
        for i in range(candidates.used):
            if not _has(self.settled, candidates.data[i]):
                candidates.data[kept] = candidates.data[i]
                kept += 1
        candidates.used = kept
        return 0

    cdef int gather(self, int32_t length) except -1 nogil:
        """Collects the next question: events above the open candidates, each list of children in turn."""
        cdef int32_t edge, above
        while self.question.used < length and self.head != self.tail:
            edge = self.ring[self.head & self.mask]
            self.head += 1
            if _has(self.settled, self.graph.targets.data[edge]):
                continue
            above = self.graph.owners.data[edge]
            self.follow(self.graph.earlier.data[edge])
            if not _has(self.asked, above) and not _has(self.settled, above):
                _mark(self.asked, above)
                push(&self.question, above)
                self.follow(self.graph.newest.data[above])
        return self.question.used

    cdef int follow(self, int32_t edge) except -1 nogil:
        cdef int32_t *grown
        cdef int64_t i
        if edge < 0:
            return 0
        if self.tail - self.head > self.mask:
            grown = <int32_t *>malloc(2 * (self.mask + 1) * sizeof(int32_t))
            if grown == NULL:
                raise MemoryError
            for i in range(self.tail - self.head):
                grown[i] = self.ring[(self.head + i) & self.mask]
            free(self.ring)
            self.ring, self.tail, self.head, self.mask = grown, self.tail - self.head, 0, 2 * self.mask + 1
        self.ring[self.tail & self.mask] = edge
        self.tail += 1
        return 0

    cdef int ask(self, object find_common) except -1:
        cdef int32_t i, at
        cdef int64_t nid
        if self.question.used == 0:
            return 0
        common = find_common([self.graph.nids[self.question.data[i]] for i in range(self.question.used)])
        self.question.used = 0
        for nid in common:
            at = self.graph.find(nid)
            if at >= 0 and _has(self.asked, at):
                self.settle(at)
        return 0

    cdef int settle(self, int32_t at) except -1 nogil:
        """Settles an event and its ancestors down to the oldest candidate."""
        cdef int32_t edge
        self.reach(at)
        while self.stack.used:
            self.stack.used -= 1
            at = self.stack.data[self.stack.used]
            for edge in range(self.graph.first.data[at], self.graph.first.data[at + 1]):
                self.reach(self.graph.targets.data[edge])
        return 0

    cdef inline int reach(self, int32_t at) except -1 nogil:
        if at >= self.floor and not _has(self.settled, at):
            _mark(self.settled, at)
            self.open -= _has(self.sought, at)
            push(&self.stack, at)
        return 0
