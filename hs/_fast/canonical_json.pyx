# cython: language_level=3, boundscheck=False, wraparound=False
# How: one pass over the objects straight into a growing buffer. No Python code runs on the way (only exact C-level
# access, also for subclasses), so borrowed references stay valid. Text is copied eight bytes at a time until a
# byte needs an escape; members of an object are sorted on a stack shared by all nesting levels.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_Next, PyDict_Size
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_Check
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.math cimport isfinite
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

__all__ = ["MAX_DEPTH", "MAX_INTEGER", "CanonicalJsonError", "encode"]

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    /* Copies ASCII text up to the first byte that needs an escape (below 0x20, quotation mark, backslash); how many
       bytes that were. Eight at a time: the sign bit of each byte tells; a borrow can only spoil bytes above the
       first hit, so the lowest one is right. No byte >= 0x80 may occur. Writes at most `length` bytes. */
    static inline Py_ssize_t hs_copy_plain(char *target, const char *source, Py_ssize_t length) {
        const uint64_t ones = 0x0101010101010101ULL, signs = 0x8080808080808080ULL;
        Py_ssize_t i = 0;
        for (; i + 8 <= length; i += 8) {
            uint64_t x;
            memcpy(&x, source + i, 8);
            memcpy(target + i, &x, 8);
            if (((x - ones * 0x20) | ((x ^ (ones * 0x22)) - ones) | ((x ^ (ones * 0x5c)) - ones)) & signs)
                break;
        }
        for (; i < length; i++) {
            char c = source[i];
            if (c < 0x20 || c == 0x22 || c == 0x5c)
                break;
            target[i] = c;
        }
        return i;
    }
    /* Four bytes, the lowest first. */
    static inline void hs_put_4(char *target, uint32_t bytes) {
    #if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        bytes = __builtin_bswap32(bytes);
    #endif
        memcpy(target, &bytes, 4);
    }
    /* Eight bytes as one number that orders as they do. */
    static inline uint64_t hs_first_8(const char *bytes) {
        uint64_t x;
        memcpy(&x, bytes, 8);
    #if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        x = __builtin_bswap64(x);
    #endif
        return x;
    }
    """
    uint64_t hs_first_8(const char* text) nogil
    void hs_put_4(char* target, uint32_t four) nogil
    Py_ssize_t hs_copy_plain(char* target, const char* source, Py_ssize_t length) nogil

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object number, int* overflow) except? -1
    char* PyOS_double_to_string(double number, char code, int precision, int flags, int* kind) except NULL
    int Py_DTSF_ADD_DOT_0
    bint PyDict_Check(object value)
    bint PyList_Check(object value)
    bint PyTuple_Check(object value)
    bint PyUnicode_IS_ASCII(PyObject* text) nogil
    int PyUnicode_KIND(PyObject* text) nogil
    void* PyUnicode_DATA(PyObject* text) nogil
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject* text) nogil
    Py_UCS4 PyUnicode_READ(int kind, void* data, Py_ssize_t index) nogil

cdef enum:
    DEPTH_LIMIT = 512
    FIRST_CAPACITY = 4096
    FIRST_ENTRIES = 64
    INSERTION_SORT_MAX = 24

cdef long long INTEGER_LIMIT = 9007199254740991

MAX_DEPTH = DEPTH_LIMIT
MAX_INTEGER = INTEGER_LIMIT

cdef char* HEX = b"0123456789abcdef"

# For each ASCII byte: 0 = as it is, 1 = \u00XX, otherwise the letter after the backslash.
cdef char[128] ESCAPE
cdef int _code
for _code in range(128):
    ESCAPE[_code] = 1 if _code < 32 else 0
ESCAPE[8] = b"b"
ESCAPE[9] = b"t"
ESCAPE[10] = b"n"
ESCAPE[12] = b"f"
ESCAPE[13] = b"r"
ESCAPE[34] = b'"'
ESCAPE[92] = b"\\"


class CanonicalJsonError(ValueError):
    """The value has no canonical JSON."""


def encode(value, bint strict=True):
    """The canonical JSON of a value; the twin's docstring is the contract."""
    cdef Out out
    out_open(&out)
    try:
        put_value(&out, value, strict, DEPTH_LIMIT)
        return PyBytes_FromStringAndSize(out.data, out.size)
    finally:
        out_close(&out)


cdef int out_open(Out* out) except -1:
    out.size = out.entry_count = out.entry_capacity = 0
    out.entries = NULL
    out.capacity = FIRST_CAPACITY
    out.data = <char*> PyMem_Malloc(FIRST_CAPACITY)
    if out.data == NULL:
        raise MemoryError
    return 0


cdef void out_close(Out* out) noexcept:
    PyMem_Free(out.data)
    PyMem_Free(out.entries)


cdef int out_reserve(Out* out, Py_ssize_t more) except -1:
    cdef Py_ssize_t capacity = out.capacity
    cdef char* grown
    if capacity - out.size >= more:
        return 0
    while capacity - out.size < more:
        capacity *= 2
    grown = <char*> PyMem_Realloc(out.data, capacity)
    if grown == NULL:
        raise MemoryError
    out.data = grown
    out.capacity = capacity
    return 0


cdef inline int put_byte(Out* out, char byte) except -1:
    if out.size == out.capacity:
        out_reserve(out, 1)
    out.data[out.size] = byte
    out.size += 1
    return 0


cdef inline int put_word(Out* out, const char* word, Py_ssize_t length) except -1:
    out_reserve(out, length)
    memcpy(out.data + out.size, word, length)
    out.size += length
    return 0


cdef int put_value(Out* out, object value, bint strict, int depth) except -1:
    cdef Py_ssize_t i, count
    # The most frequent types first. bool is an int, so it comes before that.
    if PyUnicode_Check(value):
        return put_string(out, value)
    if PyDict_Check(value):
        return put_object(out, value, strict, depth)
    if value is True:
        return put_word(out, b"true", 4)
    if value is False:
        return put_word(out, b"false", 5)
    if value is None:
        return put_word(out, b"null", 4)
    if PyLong_Check(value):
        return put_integer(out, value, strict)
    if PyList_Check(value):
        check_depth(depth)
        put_byte(out, b"[")
        count = PyList_GET_SIZE(value)
        for i in range(count):
            if i:
                put_byte(out, b",")
            put_value(out, <object> PyList_GET_ITEM(value, i), strict, depth - 1)
        return put_byte(out, b"]")
    if PyTuple_Check(value):
        check_depth(depth)
        put_byte(out, b"[")
        count = PyTuple_GET_SIZE(value)
        for i in range(count):
            if i:
                put_byte(out, b",")
            put_value(out, <object> PyTuple_GET_ITEM(value, i), strict, depth - 1)
        return put_byte(out, b"]")
    if PyFloat_Check(value):
        return put_float(out, PyFloat_AS_DOUBLE(value), strict)
    raise CanonicalJsonError(f"{type(value).__name__} has no JSON form")


cdef inline int check_depth(int depth) except -1:
    if depth <= 0:
        raise CanonicalJsonError(f"nested deeper than {DEPTH_LIMIT}")
    return 0


cdef int put_object(Out* out, object mapping, bint strict, int depth) except -1:
    cdef Py_ssize_t base = out.entry_count, count, i
    check_depth(depth)
    count = push_entries(out, mapping)
    put_byte(out, b"{")
    for i in range(base, base + count):
        if i != base:
            put_byte(out, b",")
        # By index each time: nested objects may move the stack.
        put_string(out, <object> out.entries[i].key)
        put_byte(out, b":")
        put_value(out, <object> out.entries[i].value, strict, depth - 1)
    out.entry_count = base
    return put_byte(out, b"}")


cdef Py_ssize_t push_entries(Out* out, object mapping) except -1:
    cdef Py_ssize_t base = out.entry_count, count = PyDict_Size(mapping), n = 0, position = 0
    cdef PyObject* key
    cdef PyObject* value
    cdef Entry* entries
    cdef bint is_sorted = True
    reserve_entries(out, count)
    entries = out.entries + base
    while PyDict_Next(mapping, &position, &key, &value):
        if not PyUnicode_Check(<object> key):
            raise CanonicalJsonError(f"a key is {type(<object> key).__name__}, not str")
        entries[n].key = key
        entries[n].value = value
        entries[n].prefix = prefix_of(key)
        # JSON that was canonical on the wire is decoded in order: then there is nothing to sort.
        if n and is_sorted and is_above(&entries[n - 1], &entries[n]):
            is_sorted = False
        n += 1
    if not is_sorted:
        reserve_entries(out, 2 * n)
        merge_sort(out.entries + base, out.entries + base + n, n)
    out.entry_count = base + n
    return n


cdef int reserve_entries(Out* out, Py_ssize_t more) except -1:
    cdef Py_ssize_t capacity = out.entry_capacity
    cdef Entry* grown
    if capacity - out.entry_count >= more:
        return 0
    capacity = max(FIRST_ENTRIES, 2 * capacity, out.entry_count + more)
    grown = <Entry*> PyMem_Realloc(out.entries, capacity * sizeof(Entry))
    if grown == NULL:
        raise MemoryError
    out.entries = grown
    out.entry_capacity = capacity
    return 0


cdef void insertion_sort(Entry* entries, Py_ssize_t done, Py_ssize_t count) noexcept nogil:
    """Sorts `count` entries of which the first `done` are in order."""
    cdef Py_ssize_t i, j
    cdef Entry moving
    for i in range(done, count):
        moving = entries[i]
        j = i
        while j > 0 and is_above(&entries[j - 1], &moving):
            entries[j] = entries[j - 1]
            j -= 1
        entries[j] = moving


cdef void merge_sort(Entry* entries, Entry* spare, Py_ssize_t count) noexcept nogil:
    """Sorts; uses what order there is, as lists of users often have some. `spare` is as large."""
    cdef Py_ssize_t middle = 1, i, j, k
    while middle < count and not is_above(&entries[middle - 1], &entries[middle]):
        middle += 1
    if middle >= count:
        return
    if count <= INSERTION_SORT_MAX:
        insertion_sort(entries, middle, count)
        return
    # A run of half the entries or more stays whole.
    if middle < count // 2:
        middle = count // 2
        merge_sort(entries, spare, middle)
    merge_sort(entries + middle, spare, count - middle)
    if not is_above(&entries[middle - 1], &entries[middle]):
        return
    memcpy(spare, entries, middle * sizeof(Entry))
    i = k = 0
    j = middle
    while i < middle and j < count:
        if is_above(&spare[i], &entries[j]):
            entries[k] = entries[j]
            j += 1
        else:
            entries[k] = spare[i]
            i += 1
        k += 1
    memcpy(entries + k, spare + i, (middle - i) * sizeof(Entry))


cdef inline uint64_t prefix_of(PyObject* key) noexcept nogil:
    """The first code points in order of weight, a byte each. From one that does not fit on, nothing is told."""
    cdef Py_ssize_t i, length = PyUnicode_GET_LENGTH(key)
    cdef uint64_t prefix = 0
    cdef Py_UCS4 c
    if length >= 8 and PyUnicode_IS_ASCII(key):
        return hs_first_8(<const char*> PyUnicode_DATA(key))
    for i in range(min(length, 8)):
        c = PyUnicode_READ(PyUnicode_KIND(key), PyUnicode_DATA(key), i)
        if c >= 0xFF:
            return prefix | <uint64_t> 0xFF << (56 - 8 * i)
        prefix |= <uint64_t> c << (56 - 8 * i)
    return prefix


cdef inline bint is_above(const Entry* left, const Entry* right) noexcept nogil:
    if left.prefix != right.prefix:
        return left.prefix > right.prefix
    return compare_text(left.key, right.key) > 0


cdef inline int compare_text(PyObject* left, PyObject* right) noexcept nogil:
    """Below, at or above 0 by code points. Bytes of the 1-byte kind compare as their code points do."""
    cdef Py_ssize_t left_size, right_size
    cdef int order
    if PyUnicode_KIND(left) == 1 and PyUnicode_KIND(right) == 1:
        left_size = PyUnicode_GET_LENGTH(left)
        right_size = PyUnicode_GET_LENGTH(right)
        order = memcmp(PyUnicode_DATA(left), PyUnicode_DATA(right), min(left_size, right_size))
        if order:
            return order
        return (left_size > right_size) - (left_size < right_size)
    return compare_wide(left, right)


cdef int compare_wide(PyObject* left, PyObject* right) noexcept nogil:
    cdef int left_kind = PyUnicode_KIND(left), right_kind = PyUnicode_KIND(right)
    cdef void* left_data = PyUnicode_DATA(left)
    cdef void* right_data = PyUnicode_DATA(right)
    cdef Py_ssize_t left_size = PyUnicode_GET_LENGTH(left)
    cdef Py_ssize_t right_size = PyUnicode_GET_LENGTH(right)
    cdef Py_ssize_t i
    cdef Py_UCS4 a, b
    for i in range(min(left_size, right_size)):
        a = PyUnicode_READ(left_kind, left_data, i)
        b = PyUnicode_READ(right_kind, right_data, i)
        if a != b:
            return 1 if a > b else -1
    return (left_size > right_size) - (left_size < right_size)


cdef int put_string(Out* out, object text) except -1:
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(<PyObject*> text), plain
    cdef const char* source
    cdef void* data = PyUnicode_DATA(<PyObject*> text)
    if not PyUnicode_IS_ASCII(<PyObject*> text):
        if PyUnicode_KIND(<PyObject*> text) == 2:
            return put_wide(out, <uint16_t*> data, length)
        if PyUnicode_KIND(<PyObject*> text) == 1:
            return put_wide(out, <uint8_t*> data, length)
        return put_wide(out, <uint32_t*> data, length)
    source = <const char*> data
    out_reserve(out, length + 2)
    out.data[out.size] = b'"'
    out.size += 1
    while True:
        plain = hs_copy_plain(out.data + out.size, source, length)
        out.size += plain
        if plain == length:
            break
        length -= plain + 1
        out_reserve(out, length + 7)  # this escape, the rest as it is, the closing mark
        out.size = escaped(out.data + out.size, source[plain]) - out.data
        source += plain + 1
    out.data[out.size] = b'"'
    out.size += 1
    return 0


cdef inline char* escaped(char* target, char byte) noexcept nogil:
    """Writes the escape of a byte, at most 6; where the next goes."""
    cdef char letter = ESCAPE[byte]
    if letter == 1:
        memcpy(target, b"\\u00", 4)
        target[4] = HEX[byte >> 4]
        target[5] = HEX[byte & 15]
        return target + 6
    target[0] = b"\\"
    target[1] = letter
    return target + 2


ctypedef fused CodeUnit:
    uint8_t
    uint16_t
    uint32_t


cdef int put_wide(Out* out, const CodeUnit* text, Py_ssize_t length) except -1:
    """Text beyond ASCII from its code points, which take 1, 2 or 4 bytes each in memory."""
    cdef Py_ssize_t i = 0, stop
    cdef uint32_t c
    cdef char* target
    put_byte(out, b'"')
    while i < length:
        # In slices, so that a long text does not ask for six times its size at once.
        stop = min(length, i + 4096)
        out_reserve(out, 6 * (stop - i))
        target = out.data + out.size
        while i < stop:
            c = text[i]
            i += 1
            if <uint32_t> (c - 0x800) < 0xD000:  # one comparison: it wraps around below
                # The most frequent of what is not ASCII. One store instead of three; the byte too many is
                # written over next.
                hs_put_4(target, 0x8080E0 | (c >> 12) | ((c << 2) & 0x3F00) | ((c << 16) & 0x3F0000))
                target += 3
            elif c < 0x80:
                if ESCAPE[c]:
                    target = escaped(target, <char> c)
                else:
                    target[0] = <char> c
                    target += 1
            elif c < 0x800:
                target[0] = <char> (0xC0 | (c >> 6))
                target[1] = <char> (0x80 | (c & 0x3F))
                target += 2
            elif c < 0x10000:
                if c & 0xF800 == 0xD800:
                    raise CanonicalJsonError("a string holds a lone surrogate")
                hs_put_4(target, 0x8080E0 | (c >> 12) | ((c << 2) & 0x3F00) | ((c << 16) & 0x3F0000))
                target += 3
            else:
                target[0] = <char> (0xF0 | (c >> 18))
                target[1] = <char> (0x80 | ((c >> 12) & 0x3F))
                target[2] = <char> (0x80 | ((c >> 6) & 0x3F))
                target[3] = <char> (0x80 | (c & 0x3F))
                target += 4
        out.size = target - out.data
    return put_byte(out, b'"')


cdef int put_integer(Out* out, object value, bint strict) except -1:
    cdef int overflow = 0
    cdef long long number = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef unsigned long long rest
    cdef char[24] digits
    cdef int i = 24
    if strict and (overflow or number > INTEGER_LIMIT or number < -INTEGER_LIMIT):
        raise CanonicalJsonError("an integer is outside of +-(2^53 - 1)")
    if overflow:
        return put_big_integer(out, value)
    rest = <unsigned long long> number
    if number < 0:
        rest = 0 - rest
    while True:
        i -= 1
        digits[i] = <char> (b"0"[0] + rest % 10)
        rest //= 10
        if rest == 0:
            break
    if number < 0:
        i -= 1
        digits[i] = b"-"
    return put_word(out, &digits[i], 24 - i)


cdef int put_big_integer(Out* out, object value) except -1:
    cdef bytes decimal
    if int.bit_length(value) > 14_000:
        raise CanonicalJsonError("an integer is too long")
    decimal = int.__repr__(value).encode()
    return put_word(out, decimal, len(decimal))


cdef int put_float(Out* out, double number, bint strict) except -1:
    cdef char* text
    cdef bytes copy
    if strict:
        raise CanonicalJsonError("floats are not allowed")
    if not isfinite(number):
        raise CanonicalJsonError("a float is not finite")
    text = PyOS_double_to_string(number, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    try:
        copy = <bytes> text
    finally:
        PyMem_Free(text)
    return put_word(out, copy, len(copy))
