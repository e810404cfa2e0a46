# What `auth_graph` uses of the edges without going through Python.

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef struct Vector:
    int32_t *data
    int32_t used
    int32_t room

cdef int push(Vector *vector, int32_t value) except -1 nogil

cdef class AuthEdges:
    cdef int64_t *nids
    cdef int32_t room
    cdef int32_t used
    cdef Vector first  # an event's first edge; the next event's is where its edges end
    cdef Vector newest  # the newest edge that leads to an event, -1 for none
    cdef Vector targets  # per edge: the auth event,
    cdef Vector owners  # the event that has it,
    cdef Vector earlier  # and the next older edge to the same target, -1 for none
    cdef int32_t *table  # open addressing: index + 1, 0 is free
    cdef int table_bits
    cdef int walks  # running walks that call out; nothing may be added meanwhile
    cdef int add_all(self, object events) except -1
    cdef int append(self, int64_t nid, tuple auth_nids) except -1
    cdef int cut(self, int32_t kept) except -1
    cdef int rehash(self, int bits) except -1
    cdef void enter(self, int32_t at) noexcept nogil
    cdef int64_t slot(self, int64_t nid) noexcept nogil
    cdef int32_t find(self, int64_t nid) noexcept nogil
    cdef Vector find_all(self, object nids)
    cdef list to_nids(self, Vector *indexes)
