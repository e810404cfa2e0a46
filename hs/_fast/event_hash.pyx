# cython: language_level=3, boundscheck=False, wraparound=False
# How: each member of the PDU is encoded once, into one buffer of pieces `"key":value`. The forms that are hashed, signed
# and stored differ only in which pieces they take, so they are put together by copying. Only a content that loses
# some keys is encoded again, as far as it is kept. SHA-256 is OpenSSL's: it uses the CPU's instructions for it.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.ref cimport PyObject
from libc.string cimport memcpy

from hs._fast.canonical_json cimport (
    Out,
    out_close,
    out_open,
    out_reserve,
    push_entries,
    put_string,
    put_value,
)

from hashlib import sha256

from hs._fast.canonical_json import MAX_DEPTH, CanonicalJsonError

__all__ = [
    "CanonicalJsonError",
    "PduHashes",
    "bytes_to_sign",
    "content_hash",
    "event_id",
    "hash_pdu",
    "prepare_pdu",
    "redact",
    "redacted_json",
    "reference_hash",
]

cdef int DEPTH = MAX_DEPTH
cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef const char* BASE64_URLSAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

# What a member of the PDU takes part in.
cdef enum:
    IN_WHOLE = 1  # pdu_json
    IN_CONTENT_HASH = 2
    IN_REDACTED = 4
    IN_SIGNED = 8  # redacted, without signatures
    ALL_USES = 15

cdef dict USES_V1 = {key: ALL_USES for key in (
    "event_id", "type", "room_id", "sender", "state_key", "content", "depth", "prev_events", "prev_state",
    "auth_events", "origin", "origin_server_ts", "membership",
)}
USES_V1["hashes"] = IN_WHOLE | IN_REDACTED | IN_SIGNED
USES_V1["signatures"] = IN_WHOLE | IN_REDACTED
USES_V1["unsigned"] = 0
cdef int USES_OTHER = IN_WHOLE | IN_CONTENT_HASH

# Since v11: origin, membership and prev_state are no longer protected.
cdef dict USES_V11 = {
    key: uses for key, uses in USES_V1.items() if key not in ("origin", "membership", "prev_state")
}


cdef tuple content_keys(str type, int version):
    """The content keys that a redaction keeps, in canonical order."""
    if type == "m.room.member":
        # Since v9: a redacted restricted join still says who authorised it.
        return ("join_authorised_via_users_server", "membership") if version >= 9 else ("membership",)
    if type == "m.room.power_levels":
        # Since v11: `invite`.
        if version >= 11:
            return (
                "ban", "events", "events_default", "invite", "kick", "redact", "state_default", "users",
                "users_default",
            )
        return ("ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default")
    if type == "m.room.join_rules":
        # Since v8: `allow`, the rooms of a restricted join rule.
        return ("allow", "join_rule") if version >= 8 else ("join_rule",)
    if type == "m.room.history_visibility":
        return ("history_visibility",)
    if type == "m.room.create" and version <= 10:
        return ("creator",)
    if type == "m.room.redaction" and version >= 11:
        return ("redacts",)
    if type == "m.room.aliases" and version <= 5:
        return ("aliases",)
    return ()


cdef object redact_content(object type, object content, int version):
    cdef dict kept
    if not isinstance(content, dict):
        return {}
    kept = {}
    # A str subclass that is no exact str is not one of the names below by identity, but may be by value.
    if not isinstance(type, str):
        return kept
    type = str(type)
    # Since v11: m.room.create keeps everything.
    if version >= 11 and type == "m.room.create":
        return content
    for key in content_keys(type, version):
        if key in content:
            kept[key] = content[key]
    if version >= 11 and type == "m.room.member":
        # Since v11: of third_party_invite, the key `signed`.
        invite = content.get("third_party_invite")
        if isinstance(invite, dict):
            kept["third_party_invite"] = {"signed": invite["signed"]} if "signed" in invite else {}
    return kept


cdef class PduHashes:
    """What hash_pdu and prepare_pdu find out; the twin's fields."""

    cdef readonly bytes pdu_json
    cdef readonly str content_hash
    cdef readonly bytes bytes_to_sign
    cdef readonly bytes reference_hash
    cdef readonly str event_id


cdef struct Piece:
    Py_ssize_t start  # of `"key":value` in the buffer of pieces
    Py_ssize_t stop
    int uses
    # The same for content as redacted, where that is less; otherwise equal to start and stop.
    Py_ssize_t redacted_start
    Py_ssize_t redacted_stop


cdef class _Pieces:
    """The members of a PDU, encoded, in canonical order."""

    cdef Out out
    cdef Piece* pieces
    cdef Py_ssize_t count
    cdef Py_ssize_t hashes_at  # where `hashes` belongs among the pieces, where it is made
    cdef int version

    def __cinit__(self):
        out_open(&self.out)

    def __dealloc__(self):
        out_close(&self.out)
        PyMem_Free(self.pieces)

    cdef int encode(self, dict pdu, int version, int wanted, int required=0) except -1:
        """Encodes the members with a use among `wanted`, leaving out those without the use `required`."""
        cdef Py_ssize_t i, n
        cdef Piece* piece
        cdef dict uses_by_key = USES_V11 if version >= 11 else USES_V1
        cdef bint strict = version >= 6
        cdef object key, value
        cdef int uses
        self.version = version
        n = push_entries(&self.out, pdu)
        self.pieces = <Piece*> PyMem_Malloc((n + 1) * sizeof(Piece))
        if self.pieces == NULL:
            raise MemoryError
        for i in range(n):
            key = <object> self.out.entries[i].key
            value = <object> self.out.entries[i].value
            uses = uses_by_key.get(key, USES_OTHER)
            if required and key <= "hashes":
                self.hashes_at = self.count + (1 if uses & required else 0)
            if not uses & wanted or uses & required != required:
                continue
            piece = &self.pieces[self.count]
            piece.uses = uses & wanted
            if key == "content" and wanted & (IN_REDACTED | IN_SIGNED):
                self.encode_content(piece, pdu, value, strict)
            else:
                self.encode_member(piece, key, value, strict)
            self.count += 1
        return 0

    cdef int encode_member(self, Piece* piece, object key, object value, bint strict) except -1:
        piece.start = self.out.size
        put_string(&self.out, key)
        self.put_colon()
        put_value(&self.out, value, strict, DEPTH - 1)
        piece.stop = self.out.size
        piece.redacted_start = piece.start
        piece.redacted_stop = piece.stop
        return 0

    cdef int encode_content(self, Piece* piece, dict pdu, object content, bint strict) except -1:
        cdef object kept = redact_content(pdu.get("type"), content, self.version)
        if kept is content or not piece.uses & (IN_WHOLE | IN_CONTENT_HASH):
            return self.encode_member(piece, "content", kept, strict)
        self.encode_member(piece, "content", content, strict)
        if isinstance(content, dict) and len(kept) == len(content) and "third_party_invite" not in kept:
            return 0  # nothing was lost
        piece.redacted_start = self.out.size
        put_string(&self.out, "content")
        self.put_colon()
        put_value(&self.out, kept, strict, DEPTH - 1)
        piece.redacted_stop = self.out.size
        return 0

    cdef int put_colon(self) except -1:
        out_reserve(&self.out, 1)
        self.out.data[self.out.size] = b":"
        self.out.size += 1
        return 0

    cdef int set_hashes(self, str digest) except -1:
        """Makes {"sha256": digest} the member `hashes`; the PDU was encoded without one."""
        cdef Py_ssize_t i
        for i in range(self.count, self.hashes_at, -1):
            self.pieces[i] = self.pieces[i - 1]
        self.encode_member(&self.pieces[self.hashes_at], "hashes", {"sha256": digest}, True)
        self.pieces[self.hashes_at].uses = IN_WHOLE | IN_REDACTED | IN_SIGNED
        self.count += 1
        return 0

    cdef bytes join(self, int use):
        """The object of all members with this use."""
        cdef Py_ssize_t size = 2, i, length
        cdef bint is_first = True, is_redacted = (use & (IN_REDACTED | IN_SIGNED)) != 0
        cdef Piece* piece
        cdef bytes joined
        cdef char* target
        for i in range(self.count):
            piece = &self.pieces[i]
            if piece.uses & use:
                size += 1 + (
                    piece.redacted_stop - piece.redacted_start if is_redacted else piece.stop - piece.start
                )
        if size > 2:
            size -= 1
        joined = PyBytes_FromStringAndSize(NULL, size)
        target = PyBytes_AS_STRING(joined)
        target[0] = b"{"
        target += 1
        for i in range(self.count):
            piece = &self.pieces[i]
            if not piece.uses & use:
                continue
            if not is_first:
                target[0] = b","
                target += 1
            is_first = False
            if is_redacted:
                length = piece.redacted_stop - piece.redacted_start
                memcpy(target, self.out.data + piece.redacted_start, length)
            else:
                length = piece.stop - piece.start
                memcpy(target, self.out.data + piece.start, length)
            target += length
        target[0] = b"}"
        return joined


cdef str base64_of(bytes digest, const char* alphabet, bint with_sigil):
    """32 bytes as 43 characters, with "$" in front where an event id is wanted."""
    cdef char[44] text
    cdef const unsigned char* source = <const unsigned char*> PyBytes_AS_STRING(digest)
    cdef int i, j = 1
    cdef unsigned int three
    text[0] = b"$"
    for i in range(0, 30, 3):
        three = (source[i] << 16) | (source[i + 1] << 8) | source[i + 2]
        text[j] = alphabet[three >> 18]
        text[j + 1] = alphabet[(three >> 12) & 63]
        text[j + 2] = alphabet[(three >> 6) & 63]
        text[j + 3] = alphabet[three & 63]
        j += 4
    three = (source[30] << 16) | (source[31] << 8)
    text[j] = alphabet[three >> 18]
    text[j + 1] = alphabet[(three >> 12) & 63]
    text[j + 2] = alphabet[(three >> 6) & 63]
    if with_sigil:
        return text[:44].decode("ascii")
    return text[1:44].decode("ascii")


cdef str id_of(dict pdu, bytes digest, int version):
    if version <= 2:
        given = pdu.get("event_id")
        return str(given) if isinstance(given, str) else None
    return base64_of(digest, BASE64 if version == 3 else BASE64_URLSAFE, True)


def redact(dict pdu not None, int version):
    cdef dict uses_by_key = USES_V11 if version >= 11 else USES_V1
    cdef dict redacted = {}
    for key, value in pdu.items():
        if uses_by_key.get(key, 0) & IN_REDACTED:
            redacted[key] = value
    if "content" in redacted:
        redacted["content"] = redact_content(pdu.get("type"), redacted["content"], version)
    return redacted


cdef bytes encode_as(dict pdu, int version, int use):
    cdef _Pieces pieces = _Pieces()
    pieces.encode(pdu, version, use)
    return pieces.join(use)


def redacted_json(dict pdu not None, int version):
    return encode_as(pdu, version, IN_REDACTED)


def content_hash(dict pdu not None, int version):
    return base64_of(sha256(encode_as(pdu, version, IN_CONTENT_HASH)).digest(), BASE64, False)


def bytes_to_sign(dict pdu not None, int version):
    return encode_as(pdu, version, IN_SIGNED)


def reference_hash(dict pdu not None, int version):
    return sha256(encode_as(pdu, version, IN_SIGNED)).digest()


def event_id(dict pdu not None, int version):
    if version <= 2:
        return id_of(pdu, None, version)
    return id_of(pdu, sha256(encode_as(pdu, version, IN_SIGNED)).digest(), version)


def hash_pdu(dict pdu not None, int version):
    cdef _Pieces pieces = _Pieces()
    cdef PduHashes found = PduHashes.__new__(PduHashes)
    pieces.encode(pdu, version, ALL_USES)
    found.content_hash = base64_of(sha256(pieces.join(IN_CONTENT_HASH)).digest(), BASE64, False)
    return finish(found, pieces, pdu)


def prepare_pdu(dict pdu not None, int version):
    cdef _Pieces pieces = _Pieces()
    cdef PduHashes found = PduHashes.__new__(PduHashes)
    # Old hashes and signatures are the members that a content hash leaves out.
    pieces.encode(pdu, version, ALL_USES, IN_CONTENT_HASH)
    found.content_hash = base64_of(sha256(pieces.join(IN_CONTENT_HASH)).digest(), BASE64, False)
    pieces.set_hashes(found.content_hash)
    return finish(found, pieces, pdu)


cdef PduHashes finish(PduHashes found, _Pieces pieces, dict pdu):
    found.pdu_json = pieces.join(IN_WHOLE)
    found.bytes_to_sign = pieces.join(IN_SIGNED)
    found.reference_hash = sha256(found.bytes_to_sign).digest()
    found.event_id = id_of(pdu, found.reference_hash, pieces.version)
    return found
