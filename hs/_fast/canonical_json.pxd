# The writer behind canonical_json, for the kernels that put JSON together from parts.

from libc.stdint cimport uint64_t

cdef extern from "Python.h":
    ctypedef struct PyObject:
        pass

ctypedef struct Entry:  # one member of an object, borrowed
    PyObject* key
    PyObject* value
    uint64_t prefix  # the first eight code points of the key, so that most comparisons need no more

ctypedef struct Out:
    char* data
    Py_ssize_t size
    Py_ssize_t capacity
    Entry* entries  # a stack: each open object sorts its members on top of it
    Py_ssize_t entry_count
    Py_ssize_t entry_capacity

cdef int out_open(Out* out) except -1
cdef void out_close(Out* out) noexcept
cdef int out_reserve(Out* out, Py_ssize_t more) except -1
cdef int put_value(Out* out, object value, bint strict, int depth) except -1
cdef int put_string(Out* out, object text) except -1
# Pushes the members of `mapping` in canonical order; the caller takes them off by resetting entry_count.
cdef Py_ssize_t push_entries(Out* out, object mapping) except -1
