"""The order in which backfill points are tried. The contract is in extremity_rank_ref.py."""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free, qsort, realloc

__all__ = ["rank", "retry_at"]

cdef enum:
    HOUR_MS = 3_600_000
    MAX_DOUBLINGS = 8


# Sorts as the three fields in turn.
cdef struct Point:
    uint64_t distance
    int64_t is_future
    int64_t nid


cdef inline bint _is_before(const Point *a, const Point *b) noexcept nogil:
    if a.distance != b.distance:
        return a.distance < b.distance
    if a.is_future != b.is_future:
        return a.is_future < b.is_future
    return a.nid < b.nid


cdef int _compare(const void *left, const void *right) noexcept nogil:
    return _is_before(<const Point *>right, <const Point *>left) - _is_before(<const Point *>left, <const Point *>right)


def retry_at(int64_t failed_attempts, int64_t last_attempt_ms):
    """When a point may be tried again, in milliseconds; 0 if it never failed."""
    return _retry_at(failed_attempts, last_attempt_ms)


cdef int64_t _retry_at(int64_t failed_attempts, int64_t last_attempt_ms) except? -1:
    cdef int64_t wait
    if failed_attempts < 0:
        raise ValueError("failed_attempts must not be negative")
    if failed_attempts == 0:
        return 0
    wait = <int64_t>HOUR_MS << min(failed_attempts, <int64_t>MAX_DOUBLINGS)
    return INT64_MAX if last_attempt_ms > INT64_MAX - wait else last_attempt_ms + wait


def rank(candidates, int64_t current_depth, int64_t now_ms, Py_ssize_t limit):
    """The event_nids of at most `limit` points to try, in order. See the twin."""
    cdef int64_t nid, depth, failed_attempts, last_attempt_ms
    cdef Py_ssize_t used = 0, room = 0
    cdef Point *heap = NULL  # the worst of the best on top
    cdef Point *grown
    cdef Point point
    try:
        for nid, depth, failed_attempts, last_attempt_ms in candidates:
            if failed_attempts and now_ms < _retry_at(failed_attempts, last_attempt_ms):
                continue
            point.is_future = depth > current_depth
            # Modulo 2^64 the difference is right even where the depths are at both ends of the range.
            if point.is_future:
                point.distance = <uint64_t>depth - <uint64_t>current_depth
            else:
                point.distance = <uint64_t>current_depth - <uint64_t>depth
            point.nid = nid
            if used < limit:
                if used == room:
                    room = min(2 * room + 16, limit)
                    grown = <Point *>realloc(heap, room * sizeof(Point))
                    if grown == NULL:
                        raise MemoryError
                    heap = grown
                _rise(heap, used, point)
                used += 1
            elif used and _is_before(&point, &heap[0]):
                _sink(heap, used, point)
        if used:
            qsort(heap, used, sizeof(Point), &_compare)
        return [heap[i].nid for i in range(used)]
    finally:
        free(heap)


cdef void _rise(Point *heap, Py_ssize_t at, Point point) noexcept nogil:
    """Put a point at the end of the heap and let it rise to its place."""
    cdef Py_ssize_t parent
    while at:
        parent = (at - 1) >> 1
        if not _is_before(&heap[parent], &point):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = point


cdef void _sink(Point *heap, Py_ssize_t used, Point point) noexcept nogil:
    """Put a point in the place of the top and let it sink."""
    cdef Py_ssize_t at = 0, child = 1
    while child < used:
        if child + 1 < used and _is_before(&heap[child], &heap[child + 1]):
            child += 1
        if not _is_before(&point, &heap[child]):
            break
        heap[at] = heap[child]
        at = child
        child = 2 * at + 1
    heap[at] = point
