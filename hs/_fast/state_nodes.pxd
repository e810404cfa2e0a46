# What `state_tree` uses of the nodes without going through Python.

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #define hs_lowest(bits) __builtin_ctzll(bits)
    """
    int lowest "hs_lowest" (uint64_t bits) noexcept nogil

cdef enum:
    BITS = 6
    WIDTH = 1 << BITS
    MASK = WIDTH - 1
    MAX_LEVEL = 5

# Ids that an operation has found missing so far.
cdef struct Ids:
    int64_t *data
    Py_ssize_t used
    Py_ssize_t room

cdef int push_id(Ids *ids, int64_t id) except -1
cdef int check_missing(Ids *missing) except -1

cdef class Branch:
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
    cdef Branch copy(self)
    cdef void put_nid(self, int slot, int64_t nid) noexcept
    cdef void put_child(self, int slot, Branch child) noexcept
    cdef Branch child(self, int slot, NodeStore store, Ids *missing)

cdef class Home:
    cdef NodeStore store

cdef class Node:
    cdef Home home
    cdef Branch branch  # held while it is new
    cdef int64_t root_id  # otherwise
    cdef NodeStore store(self)
    cdef Branch load(self, Ids *missing)

cdef class NodeStore:
    # The store owns one reference to each of its nodes. They hang in hash buckets and in a list by last
    # use, both through fields of the nodes. Nodes that somebody else holds too are not pushed out, so
    # that a node in memory can always be found.
    cdef readonly int64_t max_bytes
    cdef PyObject **buckets
    cdef Py_ssize_t mask
    cdef Py_ssize_t used
    cdef PyObject *oldest
    cdef PyObject *newest
    cdef Branch find(self, int64_t id)
    cdef Branch keep(self, Branch branch)
    cdef int grow(self) except -1
    cdef void trim(self, Py_ssize_t batch) noexcept
    cdef void link(self, PyObject *at) noexcept
    cdef void unlink(self, PyObject *at) noexcept

cdef Branch load_node(NodeStore store, int64_t id, int level, Ids *missing)
cdef Node make_tree(Home home, Branch branch, int64_t root_id)
cdef list list_new(object roots)
cdef bytes pack_node(Branch node)
