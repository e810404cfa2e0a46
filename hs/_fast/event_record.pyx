# cython: language_level=3
"""The record of the event cache; see event_record_ref.py for the contract.

Size: writer, reader and the splice into client JSON are one file so that the C compiler inlines the byte
work across them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from typing import Any

import msgspec

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

__all__ = ["FIELDS", "EventRecord", "client_json", "finish_client_json", "pack"]

FIELDS = (
    "event_nid",
    "room_nid",
    "stream_ordering",
    "depth",
    "origin_server_ts",
    "flags",
    "state_id",
    "replaces_nid",
    "redacted_by_nid",
    "event_id",
    "room_id",
    "type",
    "sender",
    "state_key",
    "redacts",
    "txn_id",
    "txn_device_id",
    "content_json",
    "prev_event_ids",
    "auth_event_ids",
)

cdef enum:
    EVENT_NID, ROOM_NID, STREAM_ORDERING, DEPTH, ORIGIN_SERVER_TS, FLAGS, STATE_ID, REPLACES_NID, REDACTED_BY_NID
    EVENT_ID, ROOM_ID, TYPE, SENDER, STATE_KEY, REDACTS, TXN_ID, TXN_DEVICE_ID
    CONTENT_JSON, PREV_EVENT_IDS, AUTH_EVENT_IDS
    FIELD_COUNT

cdef object _decode_content = msgspec.json.Decoder(dict[str, Any]).decode
cdef object _DecodeError = msgspec.DecodeError


# --- writing ------------------------------------------------------------------------------------

cdef inline uint8_t* _put_be(uint8_t* out, uint64_t value, int width) noexcept nogil:
    cdef int i
    for i in range(width):
        out[i] = <uint8_t>((value >> (8 * (width - 1 - i))) & 0xff)
    return out + width


cdef inline int _int_size(int64_t value) noexcept nogil:
    if value >= 0:
        if value < 0x80:
            return 1
        if value <= 0xff:
            return 2
        if value <= 0xffff:
            return 3
        return 5 if value <= 0xffffffffLL else 9
    if value >= -32:
        return 1
    if value >= -128:
        return 2
    if value >= -32768:
        return 3
    return 5 if value >= -2147483648LL else 9


cdef inline uint8_t* _put_int(uint8_t* out, int64_t value) noexcept nogil:
    # Tags by width: uint8..uint64 are cc..cf, int8..int64 are d0..d3.
    cdef int size = _int_size(value)
    cdef uint8_t tag = 0xcc if value >= 0 else 0xd0
    if size == 1:
        out[0] = <uint8_t>value
        return out + 1
    if size == 3:
        tag += 1
    elif size == 5:
        tag += 2
    elif size == 9:
        tag += 3
    out[0] = tag
    return _put_be(out + 1, <uint64_t>value, size - 1)


cdef inline int _head_size(Py_ssize_t length, Py_ssize_t fixed_limit, bint has_8_bit) noexcept nogil:
    if length < fixed_limit:
        return 1
    if has_8_bit and length <= 0xff:
        return 2
    return 3 if length <= 0xffff else 5


cdef inline uint8_t* _put_head(
    uint8_t* out, Py_ssize_t length, Py_ssize_t fixed_limit, uint8_t fixed_tag, uint8_t tag, bint has_8_bit
) noexcept nogil:
    # `tag` is the one of the narrowest form that is not fixed; wider ones follow it.
    cdef int size = _head_size(length, fixed_limit, has_8_bit)
    if size == 1:
        out[0] = fixed_tag | <uint8_t>length
        return out + 1
    if size == 5:
        tag += 1
    if has_8_bit and size > 2:
        tag += 1
    out[0] = tag
    return _put_be(out + 1, <uint64_t>length, size - 1)


cdef inline int _text_size(object text, Py_ssize_t* total) except -1:
    cdef Py_ssize_t length
    if text is None:
        total[0] += 1
        return 0
    if not isinstance(text, str):
        raise TypeError("a field of a record has the wrong type")
    PyUnicode_AsUTF8AndSize(text, &length)
    total[0] += _head_size(length, 32, True) + length
    return 0


cdef inline uint8_t* _put_text(uint8_t* out, object text) except NULL:
    cdef Py_ssize_t length
    cdef const char* utf8
    if text is None:
        out[0] = 0xc0
        return out + 1
    utf8 = PyUnicode_AsUTF8AndSize(text, &length)
    out = _put_head(out, length, 32, 0xa0, 0xd9, True)
    memcpy(out, utf8, length)
    return out + length


def pack(
    *,
    int64_t event_nid,
    int64_t room_nid,
    int64_t stream_ordering,
    int64_t depth,
    int64_t origin_server_ts,
    int64_t flags,
    int64_t state_id,
    str event_id not None,
    str room_id not None,
    str type not None,
    str sender not None,
    bytes content_json not None,
    object prev_event_ids,
    object auth_event_ids,
    str state_key=None,
    str redacts=None,
    int64_t replaces_nid=0,
    int64_t redacted_by_nid=0,
    str txn_id=None,
    str txn_device_id=None,
):
    """The record of an event: the msgpack array of its fields."""
    cdef int64_t[9] integers
    cdef Py_ssize_t total = 3  # array16 header: 20 fields are more than fit a fixarray
    cdef Py_ssize_t content_size = PyBytes_GET_SIZE(content_json)
    cdef tuple texts = (event_id, room_id, type, sender, state_key, redacts, txn_id, txn_device_id)
    cdef tuple prevs = tuple(prev_event_ids)
    cdef tuple auths = tuple(auth_event_ids)
    cdef bytes packed
    cdef uint8_t* out
    cdef int i
    cdef object item
    integers[0] = event_nid
    integers[1] = room_nid
    integers[2] = stream_ordering
    integers[3] = depth
    integers[4] = origin_server_ts
    integers[5] = flags
    integers[6] = state_id
    integers[7] = replaces_nid
    integers[8] = redacted_by_nid

    # First pass: the exact size, so that the bytes are allocated once.
    for i in range(9):
        total += _int_size(integers[i])
    for item in texts:
        _text_size(item, &total)
    total += _head_size(content_size, 0, True) + content_size
    total += _head_size(len(prevs), 16, False) + _head_size(len(auths), 16, False)
    for item in prevs:
        if item is None:
            raise TypeError("a field of a record has the wrong type")
        _text_size(item, &total)
    for item in auths:
        if item is None:
            raise TypeError("a field of a record has the wrong type")
        _text_size(item, &total)

    packed = PyBytes_FromStringAndSize(NULL, total)
    out = <uint8_t*>PyBytes_AS_STRING(packed)
    out[0] = 0xdc
    out = _put_be(out + 1, FIELD_COUNT, 2)
    for i in range(9):
        out = _put_int(out, integers[i])
    for item in texts:
        out = _put_text(out, item)
    out = _put_head(out, content_size, 0, 0, 0xc4, True)
    memcpy(out, PyBytes_AS_STRING(content_json), content_size)
    out += content_size
    out = _put_head(out, len(prevs), 16, 0x90, 0xdc, False)
    for item in prevs:
        out = _put_text(out, item)
    out = _put_head(out, len(auths), 16, 0x90, 0xdc, False)
    for item in auths:
        out = _put_text(out, item)
    return packed


# --- reading ------------------------------------------------------------------------------------
# Every read is checked against the end first: damaged bytes give False, never an access behind them.

cdef struct Reader:
    const uint8_t* at
    const uint8_t* end


# What stands at the reader: the value of an integer, or a stretch of bytes.
cdef struct Slice:
    const uint8_t* start
    Py_ssize_t length


cdef inline bint _take_be(Reader* reader, int width, uint64_t* value) noexcept nogil:
    cdef uint64_t result = 0
    cdef int i
    if reader.end - reader.at < width:
        return False
    for i in range(width):
        result = (result << 8) | reader.at[i]
    reader.at += width
    value[0] = result
    return True


cdef inline bint _take_int(Reader* reader, int64_t* value) noexcept nogil:
    cdef uint8_t tag
    cdef uint64_t raw = 0
    if reader.at >= reader.end:
        return False
    tag = reader.at[0]
    reader.at += 1
    if tag < 0x80:
        value[0] = tag
        return True
    if tag >= 0xe0:
        value[0] = <int64_t>tag - 256
        return True
    if 0xcc <= tag <= 0xcf:
        if not _take_be(reader, 1 << (tag - 0xcc), &raw) or raw > 0x7fffffffffffffffULL:
            return False
        value[0] = <int64_t>raw
        return True
    if not 0xd0 <= tag <= 0xd3 or not _take_be(reader, 1 << (tag - 0xd0), &raw):
        return False
    if tag == 0xd0 and raw & 0x80:
        raw |= 0xffffffffffffff00ULL
    elif tag == 0xd1 and raw & 0x8000:
        raw |= 0xffffffffffff0000ULL
    elif tag == 0xd2 and raw & 0x80000000ULL:
        raw |= 0xffffffff00000000ULL
    value[0] = <int64_t>raw
    return True


cdef inline bint _take_slice(Reader* reader, uint64_t length, Slice* value) noexcept nogil:
    if length > <uint64_t>(reader.end - reader.at):
        return False
    value.start = reader.at
    value.length = <Py_ssize_t>length
    reader.at += value.length
    return True


cdef inline bint _take_text(Reader* reader, Slice* value) noexcept nogil:
    # A nil is a slice with no start.
    cdef uint8_t tag
    cdef uint64_t length = 0
    if reader.at >= reader.end:
        return False
    tag = reader.at[0]
    reader.at += 1
    if 0xa0 <= tag <= 0xbf:
        length = tag & 0x1f
    elif tag == 0xc0:
        value.start = NULL
        value.length = 0
        return True
    elif not 0xd9 <= tag <= 0xdb or not _take_be(reader, 1 << (tag - 0xd9), &length):
        return False
    return _take_slice(reader, length, value)


cdef inline bint _take_bin(Reader* reader, Slice* value) noexcept nogil:
    cdef uint8_t tag
    cdef uint64_t length = 0
    if reader.at >= reader.end:
        return False
    tag = reader.at[0]
    reader.at += 1
    if not 0xc4 <= tag <= 0xc6 or not _take_be(reader, 1 << (tag - 0xc4), &length):
        return False
    return _take_slice(reader, length, value)


cdef inline bint _take_array(Reader* reader, uint64_t* count) noexcept nogil:
    cdef uint8_t tag
    if reader.at >= reader.end:
        return False
    tag = reader.at[0]
    reader.at += 1
    if 0x90 <= tag <= 0x9f:
        count[0] = tag & 0x0f
        return True
    if tag != 0xdc and tag != 0xdd:
        return False
    # An item takes a byte at least: a larger count is damage and must not lead to an allocation.
    return _take_be(reader, 2 if tag == 0xdc else 4, count) and count[0] <= <uint64_t>(reader.end - reader.at)


cdef inline bint _seek(Reader* reader, bytes data, int field) noexcept:
    """Put the reader at a field, by one pass over those before it."""
    cdef uint64_t count = 0
    cdef int64_t integer
    cdef Slice text
    cdef int i
    reader.at = <const uint8_t*>PyBytes_AS_STRING(data)
    reader.end = reader.at + PyBytes_GET_SIZE(data)
    if not _take_array(reader, &count) or count != FIELD_COUNT:
        return False
    for i in range(field):
        if i < EVENT_ID:
            if not _take_int(reader, &integer):
                return False
        elif i < CONTENT_JSON:
            if not _take_text(reader, &text):
                return False
        elif i == CONTENT_JSON:
            if not _take_bin(reader, &text):
                return False
        else:
            if not _take_array(reader, &count):
                return False
            while count:
                if not _take_text(reader, &text):
                    return False
                count -= 1
    return True


cdef int _damaged() except -1:
    raise ValueError("not an event record")


cdef int64_t _integer(bytes data, int field) except? -1:
    cdef Reader reader
    cdef int64_t value = 0
    if not _seek(&reader, data, field) or not _take_int(&reader, &value):
        _damaged()
    return value


cdef int _text_slice(bytes data, int field, Slice* text) except -1:
    cdef Reader reader
    if not _seek(&reader, data, field) or not _take_text(&reader, text):
        _damaged()
    return 0


cdef object _optional_text(bytes data, int field):
    cdef Slice text
    _text_slice(data, field, &text)
    if text.start == NULL:
        return None
    return PyUnicode_DecodeUTF8(<const char*>text.start, text.length, NULL)


cdef object _text(bytes data, int field):
    text = _optional_text(data, field)
    if text is None:
        _damaged()
    return text


cdef tuple _texts(bytes data, int field):
    cdef Reader reader
    cdef uint64_t count = 0
    cdef Slice text
    cdef Py_ssize_t i
    cdef list items = []
    if not _seek(&reader, data, field) or not _take_array(&reader, &count):
        _damaged()
    for i in range(<Py_ssize_t>count):
        if not _take_text(&reader, &text) or text.start == NULL:
            _damaged()
        items.append(PyUnicode_DecodeUTF8(<const char*>text.start, text.length, NULL))
    return tuple(items)


@cython.final
@cython.freelist(256)
cdef class EventRecord:
    """An event as the cache keeps it: the bytes that `pack` made, and nothing else."""

    cdef readonly bytes data

    def __cinit__(self, bytes data not None):
        self.data = data

    @property
    def nbytes(self):
        return PyBytes_GET_SIZE(self.data)

    @property
    def event_nid(self):
        return _integer(self.data, EVENT_NID)

    @property
    def room_nid(self):
        return _integer(self.data, ROOM_NID)

    @property
    def stream_ordering(self):
        return _integer(self.data, STREAM_ORDERING)

    @property
    def depth(self):
        return _integer(self.data, DEPTH)

    @property
    def origin_server_ts(self):
        return _integer(self.data, ORIGIN_SERVER_TS)

    @property
    def flags(self):
        return _integer(self.data, FLAGS)

    @property
    def state_id(self):
        return _integer(self.data, STATE_ID)

    @property
    def replaces_nid(self):
        return _integer(self.data, REPLACES_NID)

    @property
    def redacted_by_nid(self):
        return _integer(self.data, REDACTED_BY_NID)

    @property
    def event_id(self):
        return _text(self.data, EVENT_ID)

    @property
    def room_id(self):
        return _text(self.data, ROOM_ID)

    @property
    def type(self):
        return _text(self.data, TYPE)

    @property
    def sender(self):
        return _text(self.data, SENDER)

    @property
    def state_key(self):
        return _optional_text(self.data, STATE_KEY)

    @property
    def redacts(self):
        return _optional_text(self.data, REDACTS)

    @property
    def txn_id(self):
        return _optional_text(self.data, TXN_ID)

    @property
    def txn_device_id(self):
        return _optional_text(self.data, TXN_DEVICE_ID)

    @property
    def content_json(self):
        cdef Reader reader
        cdef Slice content
        if not _seek(&reader, self.data, CONTENT_JSON) or not _take_bin(&reader, &content):
            _damaged()
        return PyBytes_FromStringAndSize(<const char*>content.start, content.length)

    @property
    def prev_event_ids(self):
        return _texts(self.data, PREV_EVENT_IDS)

    @property
    def auth_event_ids(self):
        return _texts(self.data, AUTH_EVENT_IDS)

    @property
    def is_state(self):
        cdef Slice text
        _text_slice(self.data, STATE_KEY, &text)
        return text.start != NULL

    @property
    def content(self):
        try:
            return _decode_content(self.content_json)
        except _DecodeError as error:
            raise ValueError(f"the content of the record is no JSON object: {error}") from error

    def __eq__(self, other):
        if not isinstance(other, EventRecord):
            return NotImplemented
        return self.data == (<EventRecord>other).data

    def __hash__(self):
        return hash(self.data)

    def __repr__(self):
        return f"<EventRecord of {len(self.data)} bytes>"

    def __reduce__(self):
        return EventRecord, (self.data,)


# --- client JSON --------------------------------------------------------------------------------

# Extra bytes that a byte needs inside a JSON string: \uXXXX 5, \n and the like 1, anything else 0.
cdef uint8_t[256] _EXTRA
cdef const char* _HEX = "0123456789abcdef"


cdef void _fill_extra():
    cdef int i
    for i in range(256):
        _EXTRA[i] = 5 if i < 0x20 else 0
    for i in (0x08, 0x09, 0x0a, 0x0c, 0x0d, 0x22, 0x5c):
        _EXTRA[i] = 1


_fill_extra()


cdef inline Py_ssize_t _quoted_size(Slice* text) noexcept nogil:
    cdef Py_ssize_t size = text.length + 2
    cdef Py_ssize_t i
    for i in range(text.length):
        size += _EXTRA[text.start[i]]
    return size


cdef inline uint8_t* _put_quoted(uint8_t* out, Slice* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint8_t byte
    out[0] = c'"'
    out += 1
    if size == text.length + 2:
        memcpy(out, text.start, text.length)
        out += text.length
    else:
        for i in range(text.length):
            byte = text.start[i]
            if _EXTRA[byte] == 0:
                out[0] = byte
                out += 1
                continue
            out[0] = c'\\'
            if _EXTRA[byte] == 1:
                if byte == 0x08:
                    byte = c'b'
                elif byte == 0x09:
                    byte = c't'
                elif byte == 0x0a:
                    byte = c'n'
                elif byte == 0x0c:
                    byte = c'f'
                elif byte == 0x0d:
                    byte = c'r'
                out[1] = byte
                out += 2
            else:
                out[1] = c'u'
                out[2] = c'0'
                out[3] = c'0'
                out[4] = _HEX[byte >> 4]
                out[5] = _HEX[byte & 15]
                out += 6
    out[0] = c'"'
    return out + 1


cdef inline uint8_t* _put_raw(uint8_t* out, const char* text, Py_ssize_t length) noexcept nogil:
    memcpy(out, text, length)
    return out + length


cdef inline uint8_t* _put_decimal(uint8_t* out, int64_t value) noexcept nogil:
    cdef uint8_t[20] digits
    cdef int count = 0
    cdef uint64_t rest = <uint64_t>value
    if value < 0:
        out[0] = c'-'
        out += 1
        rest = 0 - rest
    while True:
        digits[count] = <uint8_t>(c'0' + rest % 10)
        count += 1
        rest //= 10
        if rest == 0:
            break
    while count:
        count -= 1
        out[0] = digits[count]
        out += 1
    return out


cdef inline bint _take_all(Reader* reader, int64_t* integers, Slice* texts, Slice* content) noexcept nogil:
    cdef int i
    for i in range(EVENT_ID):
        if not _take_int(reader, &integers[i]):
            return False
    for i in range(EVENT_ID, CONTENT_JSON):
        if not _take_text(reader, &texts[i]):
            return False
        # Only the last four may be absent.
        if texts[i].start == NULL and i < STATE_KEY:
            return False
    return _take_bin(reader, content)


def client_json(EventRecord record not None, bint with_room_id):
    """The event in the client format as JSON bytes, without `unsigned` and without the closing brace."""
    cdef Reader reader
    cdef int64_t[9] integers
    cdef Slice[17] texts  # by field number; the first nine are not used
    cdef Py_ssize_t[17] sizes
    cdef Slice content
    cdef Py_ssize_t total
    cdef bytes result
    cdef bytes extended  # keeps alive what `content` may point into
    cdef uint8_t* out
    cdef int i
    if not _seek(&reader, record.data, 0) or not _take_all(&reader, integers, texts, &content):
        _damaged()
    if texts[REDACTS].start != NULL:
        decoded = record.content
        if "redacts" not in decoded:
            if integers[REDACTED_BY_NID]:
                texts[REDACTS].start = NULL
            else:
                extended = msgspec.json.encode({**decoded, "redacts": record.redacts})
                content.start = <const uint8_t*>PyBytes_AS_STRING(extended)
                content.length = PyBytes_GET_SIZE(extended)
    if not with_room_id:
        texts[ROOM_ID].start = NULL

    # First pass: the size. 20 digits at most for the time; what is over is cut off at the end.
    total = 11 + content.length + 12 + 20 + 20
    for i in range(EVENT_ID, TXN_ID):
        if texts[i].start != NULL:
            sizes[i] = _quoted_size(&texts[i])
            total += sizes[i] + 13  # the longest key: ,"state_key":
    result = PyBytes_FromStringAndSize(NULL, total)
    out = <uint8_t*>PyBytes_AS_STRING(result)
    out = _put_raw(out, b'{"content":', 11)
    out = _put_raw(out, <const char*>content.start, content.length)
    out = _put_raw(out, b',"event_id":', 12)
    out = _put_quoted(out, &texts[EVENT_ID], sizes[EVENT_ID])
    out = _put_raw(out, b',"origin_server_ts":', 20)
    out = _put_decimal(out, integers[ORIGIN_SERVER_TS])
    if texts[REDACTS].start != NULL:
        out = _put_raw(out, b',"redacts":', 11)
        out = _put_quoted(out, &texts[REDACTS], sizes[REDACTS])
    if texts[ROOM_ID].start != NULL:
        out = _put_raw(out, b',"room_id":', 11)
        out = _put_quoted(out, &texts[ROOM_ID], sizes[ROOM_ID])
    out = _put_raw(out, b',"sender":', 10)
    out = _put_quoted(out, &texts[SENDER], sizes[SENDER])
    if texts[STATE_KEY].start != NULL:
        out = _put_raw(out, b',"state_key":', 13)
        out = _put_quoted(out, &texts[STATE_KEY], sizes[STATE_KEY])
    out = _put_raw(out, b',"type":', 8)
    out = _put_quoted(out, &texts[TYPE], sizes[TYPE])
    return PyBytes_FromStringAndSize(
        PyBytes_AS_STRING(result), <const char*>out - <const char*>PyBytes_AS_STRING(result)
    )


def finish_client_json(bytes prefix not None, bytes unsigned_json not None):
    """What `client_json` gave, as a whole JSON object with this `unsigned`; b"" leaves it out."""
    if PyBytes_GET_SIZE(unsigned_json) == 0:
        return prefix + b"}"
    return b"".join((prefix, b',"unsigned":', unsigned_json, b"}"))
