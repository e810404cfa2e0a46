# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The auth rules of room versions 1 to 12 over compact auth records: see `event_auth_ref`.

How: a record knows its type and membership as small numbers, and the rules look at a `View` with one
slot per state key that an event's rules can touch, so a check makes no tuples and no dicts.

Size: records and rules work on the same C fields; the twin has them in two files.
"""

import json
import struct
import zlib
from hashlib import blake2b

from cpython.unicode cimport PyUnicode_DecodeUTF8

from hs._fast.auth_payload import LEVELS, payload_of

__all__ = [
    "CREATOR_POWER",
    "AuthRecord",
    "check_auth_list",
    "check_auth_state",
    "list_needed_keys",
    "make_record",
    "pack_record",
    "power_of",
    "select_auth_keys",
    "unpack_record",
]

CREATOR_POWER = 2**63 - 1

cdef object _CREATOR_POWER = CREATOR_POWER
cdef object _INT64 = 2**63 - 1
cdef object _crc32 = zlib.crc32
cdef tuple _LEVELS = LEVELS

cdef str _MEMBER = "m.room.member"
cdef str _TOKEN = "m.room.third_party_invite"
cdef tuple _CREATE_KEY = ("m.room.create", "")
cdef tuple _POWER_KEY = ("m.room.power_levels", "")
cdef tuple _JOIN_RULES_KEY = ("m.room.join_rules", "")

cdef tuple _TYPES = ("", "m.room.create", _MEMBER, "m.room.power_levels", "m.room.join_rules", _TOKEN)
cdef dict _KINDS = {name: code for code, name in enumerate(_TYPES) if name}
cdef tuple _MEMBERSHIPS = ("", "join", "invite", "leave", "ban", "knock")
cdef dict _MEMBERSHIP_CODES = {name: code for code, name in enumerate(_MEMBERSHIPS)}


cdef class AuthRecord:
    @property
    def membership(self):
        return None if self.membership_code == NONE else _MEMBERSHIPS[self.membership_code]

    def __repr__(self):
        return f"AuthRecord({self.nid}, {self.event_id!r}, {self.type!r}, {self.state_key!r}, {self.sender!r})"


cdef class View:
    pass


# --- making and storing records


def make_record(
    int version,
    long long nid,
    str event_id,
    str type,
    str state_key,
    str sender,
    str room_id,
    origin_server_ts,
    depth,
    content,
    auth_nids,
    prev_event_ids=(),
    str redacts=None,
    bint rejected=False,
):
    cdef AuthRecord record = AuthRecord.__new__(AuthRecord)
    cdef object code
    record.nid = nid
    record.event_id = event_id
    record.kind = _KINDS.get(type, OTHER)
    record.type = type if record.kind == OTHER else <str>_TYPES[record.kind]
    record.state_key = sender if state_key == sender else state_key
    record.sender = sender
    record.room_id = room_id
    record.origin_server_ts = min(max(origin_server_ts, -_INT64), _INT64)
    record.depth = min(max(depth, -_INT64), _INT64)
    record.auth_nids = tuple(auth_nids)
    record.rejected = rejected
    record.has_prev_events = len(prev_event_ids) > 0
    record.prev_mark = _mark_of(prev_event_ids[0]) if len(prev_event_ids) == 1 else 0
    record.redacts = redacts
    record.membership_code = NONE
    if record.kind == MEMBER:
        if "membership" in content:
            code = content["membership"]
            record.membership_code = _MEMBERSHIP_CODES.get(code, UNKNOWN) if isinstance(code, str) else UNKNOWN
        if version >= 8 and "join_authorised_via_users_server" in content:
            code = content["join_authorised_via_users_server"]
            record.authoriser = code if isinstance(code, str) else ""
    if record.kind != OTHER:
        record.payload = payload_of(version, record.type, sender, record.membership, content)
    return record


cdef unsigned long long _mark_of(str event_id) except? 0:
    return int.from_bytes(blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


# See auth_record_ref for the packed form.
cdef object _HEADER = struct.Struct("<BHBBqq")

cdef enum:
    HEADER_SIZE = 21
    FORMAT = 1
    REJECTED = 1
    PREVS = 2
    MARK = 4
    KEY = 8
    KEY_IS_SENDER = 16
    REDACTS = 32
    AUTHORISER = 64
    PAYLOAD = 128


def pack_record(AuthRecord record not None):
    cdef int flags = 0
    if record.rejected:
        flags |= REJECTED
    if record.has_prev_events:
        flags |= PREVS
    if record.prev_mark:
        flags |= MARK
    if record.state_key is not None:
        flags |= KEY_IS_SENDER if record.state_key == record.sender else KEY
    if record.redacts is not None:
        flags |= REDACTS
    if record.authoriser is not None:
        flags |= AUTHORISER
    if record.payload is not None:
        flags |= PAYLOAD
    cdef list parts = [
        _HEADER.pack(FORMAT, flags, record.kind, record.membership_code, record.origin_server_ts, record.depth)
    ]
    if flags & MARK:
        parts.append(struct.pack("<Q", record.prev_mark))
    parts.append(_pack_text(record.event_id))
    parts.append(_pack_text(record.sender))
    if record.kind == OTHER:
        parts.append(_pack_text(record.type))
    if flags & KEY:
        parts.append(_pack_text(record.state_key))
    if flags & REDACTS:
        parts.append(_pack_text(record.redacts))
    if flags & AUTHORISER:
        parts.append(_pack_text(record.authoriser))
    if flags & PAYLOAD:
        parts.append(json.dumps(record.payload, separators=(",", ":")).encode())
    packed = b"".join(parts)
    return packed + struct.pack("<I", _crc32(packed))


cdef bytes _pack_text(str text):
    cdef bytes raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > 0xFFFF:
        raise ValueError("a string of the event is too long")
    return len(raw).to_bytes(2, "little") + raw


cdef str _read_text(const unsigned char* data, Py_ssize_t end, Py_ssize_t* at):
    cdef Py_ssize_t start = at[0] + 2
    if start > end:
        raise ValueError("damaged auth record")
    cdef Py_ssize_t size = data[start - 2] | data[start - 1] << 8
    if start + size > end:
        raise ValueError("damaged auth record")
    at[0] = start + size
    return PyUnicode_DecodeUTF8(<const char*>data + start, size, "surrogatepass")


cdef long long _read_int64(const unsigned char* data):
    cdef unsigned long long value = 0
    cdef int i
    for i in range(8):
        value |= <unsigned long long>data[i] << (8 * i)
    return <long long>value


def unpack_record(long long nid, auth_nids, packed, str room_id=""):
    cdef bytes raw = packed if type(packed) is bytes else bytes(packed)
    cdef const unsigned char* data = raw
    cdef Py_ssize_t end = len(raw) - 4
    if end < HEADER_SIZE:
        raise ValueError("damaged auth record")
    cdef unsigned long crc = (
        data[end] | data[end + 1] << 8 | data[end + 2] << 16 | <unsigned long>data[end + 3] << 24
    )
    if crc != <unsigned long>_crc32(raw[:end]):
        raise ValueError("damaged auth record")
    if data[0] != FORMAT:
        raise ValueError("auth record of an unknown format")
    cdef int flags = data[1] | data[2] << 8
    cdef AuthRecord record = AuthRecord.__new__(AuthRecord)
    record.nid = nid
    record.kind = data[3]
    record.membership_code = data[4]
    if record.kind > THIRD_PARTY_INVITE or (record.membership_code > KNOCK and record.membership_code != NONE):
        raise ValueError("damaged auth record")
    record.origin_server_ts = _read_int64(data + 5)
    record.depth = _read_int64(data + 13)
    cdef Py_ssize_t at = HEADER_SIZE
    if flags & MARK:
        if at + 8 > end:
            raise ValueError("damaged auth record")
        record.prev_mark = <unsigned long long>_read_int64(data + at)
        at += 8
    record.event_id = _read_text(data, end, &at)
    record.sender = _read_text(data, end, &at)
    record.type = _read_text(data, end, &at) if record.kind == OTHER else <str>_TYPES[record.kind]
    if flags & KEY_IS_SENDER:
        record.state_key = record.sender
    elif flags & KEY:
        record.state_key = _read_text(data, end, &at)
    if flags & REDACTS:
        record.redacts = _read_text(data, end, &at)
    if flags & AUTHORISER:
        record.authoriser = _read_text(data, end, &at)
    if flags & PAYLOAD:
        record.payload = json.loads(raw[at:end])
    record.room_id = room_id
    record.auth_nids = tuple(auth_nids)
    record.rejected = flags & REJECTED
    record.has_prev_events = flags & PREVS
    return record


# --- which state the rules look at


def select_auth_keys(int version, str type, str sender, str state_key, content):
    keys = list_needed_keys(version, make_record(version, 0, "", type, state_key, sender, "", 0, 0, content, ()))
    return keys[1:] if version >= 12 else keys


def list_needed_keys(int version, AuthRecord record not None):
    if record.kind == CREATE:
        return []
    cdef list keys = [_CREATE_KEY, _POWER_KEY, (_MEMBER, record.sender)]
    cdef str token
    if record.kind != MEMBER or record.state_key is None:
        return keys
    if record.state_key != record.sender:
        keys.append((_MEMBER, record.state_key))
    if record.membership_code in (JOIN, INVITE, KNOCK):
        keys.append(_JOIN_RULES_KEY)
    token = token_of(record)
    if token is not None:
        keys.append((_TOKEN, token))
    if record.membership_code == JOIN and record.authoriser:
        if record.authoriser != record.sender and record.authoriser != record.state_key:
            keys.append((_MEMBER, record.authoriser))
    return keys


cdef dict _signed_of(AuthRecord record):
    return <dict>(<dict>record.payload["third_party"]).get("signed")


cdef str token_of(AuthRecord record):
    """The token of a third-party invite among a member event's needs, or None."""
    if record.kind != MEMBER or record.payload is None:
        return None
    cdef dict signed = _signed_of(record)
    if signed is None:
        return None
    token = signed.get("token")
    return token if isinstance(token, str) else None


# --- the rules


def check_auth_list(
    int version, AuthRecord record not None, auth, AuthRecord create=None, verify_signed=None
):
    cdef AuthRecord event
    cdef set seen = set()
    if record.kind == CREATE:
        return _check_create(version, record)
    if version >= 12 and (create is None or not _names_room(record, create)):
        return "auth.room_id", "the room_id does not name an accepted create event"
    for event in auth:
        if event.state_key is None:
            continue
        key = (event.type, event.state_key)
        if key in seen:
            return "auth.events.1", f"two auth events for {event.type!r}, {event.state_key!r}"
        seen.add(key)
    cdef View view = View.__new__(View)
    for event in auth:
        if event.kind == CREATE and version >= 12 or not _put(view, record, event):
            return "auth.events.2", f"{event.event_id} ({event.type}) does not belong into auth_events"
    for event in auth:
        if event.rejected:
            return "auth.events.3", f"the auth event {event.event_id} was rejected"
    if version < 12 and view.create is None:
        return "auth.events.4", "there is no create event in auth_events"
    for event in auth:
        if event.room_id and event.room_id != record.room_id:
            return "auth.events.5", f"the auth event {event.event_id} is of another room"
    if version >= 12:
        view.create = create
    return judge(version, record, view, verify_signed)


cdef bint _put(View view, AuthRecord record, AuthRecord event):
    """Put an auth event where the rules for `record` look; false where they don't look at it."""
    cdef bint wanted = False
    cdef str token
    if event.state_key is None:
        return False
    if event.kind == MEMBER:
        if event.state_key == record.sender:
            view.sender = event
            wanted = True
        if record.kind == MEMBER and record.state_key is not None:
            if event.state_key == record.state_key:
                view.target = event
                wanted = True
            if record.membership_code == JOIN and record.authoriser and event.state_key == record.authoriser:
                view.authoriser = event
                wanted = True
        return wanted
    if event.kind == THIRD_PARTY_INVITE:
        token = token_of(record) if record.state_key is not None else None
        if token is None or event.state_key != token:
            return False
        view.token = event
        return True
    if event.state_key != "":
        return False
    if event.kind == CREATE:
        view.create = event
    elif event.kind == POWER_LEVELS:
        view.power = event
    elif event.kind == JOIN_RULES:
        if record.kind != MEMBER or record.state_key is None:
            return False
        if record.membership_code not in (JOIN, INVITE, KNOCK):
            return False
        view.join_rules = event
    else:
        return False
    return True


def check_auth_state(int version, AuthRecord record not None, state, verify_signed=None):
    cdef View view = View.__new__(View)
    cdef str token
    if record.kind == CREATE:
        return _check_create(version, record)
    view.create = state.get(_CREATE_KEY)
    view.power = state.get(_POWER_KEY)
    view.sender = state.get((_MEMBER, record.sender))
    if record.kind == MEMBER and record.state_key is not None:
        view.target = state.get((_MEMBER, record.state_key))
        view.join_rules = state.get(_JOIN_RULES_KEY)
        token = token_of(record)
        if token is not None:
            view.token = state.get((_TOKEN, token))
        if record.authoriser:
            view.authoriser = state.get((_MEMBER, record.authoriser))
    return judge(version, record, view, verify_signed)


def power_of(int version, str user_id, AuthRecord create, AuthRecord power_levels):
    return level_of_user(version, user_id, create, power_levels)


cdef object level_of_user(int version, str user_id, AuthRecord create, AuthRecord power):
    cdef bint is_creator = create is not None and user_id in <list>create.payload["creators"]
    if version >= 12 and is_creator:
        return _CREATOR_POWER
    if power is None:
        return 100 if is_creator else 0
    level = (<dict>power.payload["users"]).get(user_id)
    return level if level is not None else (<dict>power.payload["levels"]).get("users_default", 0)


cdef inline str _server_of(str matrix_id):
    return matrix_id.partition(":")[2]


cdef inline object _level(AuthRecord power, str name, object default):
    return default if power is None else (<dict>power.payload["levels"]).get(name, default)


cdef object _required_power(AuthRecord record, AuthRecord power):
    if power is not None:
        level = (<dict>power.payload["events"]).get(record.type)
        if level is not None:
            return level
    if record.state_key is None:
        return _level(power, "events_default", 0)
    return _level(power, "state_default", 50)


cdef inline unsigned char _membership(AuthRecord member):
    return NONE if member is None else member.membership_code


cdef object _fault(AuthRecord record):
    fault = record.payload.get("fault")
    return None if fault is None else (fault[0], fault[1])


cdef bint _names_room(AuthRecord record, AuthRecord create):
    if create is None or create.rejected:
        return False
    return not record.room_id or record.room_id[1:] == create.event_id[1:]


cdef object judge(int version, AuthRecord record, View view, object verify_signed):
    cdef AuthRecord create = view.create
    if record.kind == CREATE:
        return _check_create(version, record)
    if version >= 12 and not _names_room(record, create):
        return "auth.room_id", "the room_id does not name an accepted create event"
    if create is None:
        return "auth.events.4", "there is no create event"
    if create.payload["federate"] is False and _server_of(record.sender) != _server_of(create.sender):
        return "auth.federate", "the room does not federate"
    if record.kind == MEMBER:
        return _check_member(version, record, view, verify_signed)
    if version <= 5 and record.type == "m.room.aliases":
        if record.state_key is None:
            return "auth.aliases.1", "there is no state_key"
        if _server_of(record.sender) != record.state_key:
            return "auth.aliases.2", "the state_key is not the sender's server"
        return None
    if _membership(view.sender) != JOIN:
        return "auth.sender", "the sender is not in the room"
    power = level_of_user(version, record.sender, create, view.power)
    if record.kind == THIRD_PARTY_INVITE:
        if power < _level(view.power, "invite", 0):
            return "auth.third_party_invite.1", "the sender may not invite"
        return None
    if power < _required_power(record, view.power):
        return "auth.required_power", f"the sender has not the power level to send {record.type!r}"
    if record.state_key is not None and record.state_key.startswith("@") and record.state_key != record.sender:
        return "auth.state_key", "the state_key is somebody else's user id"
    if record.kind == POWER_LEVELS:
        return _check_power_levels(version, record, view.power, create, power)
    if version <= 2 and record.type == "m.room.redaction" and power < _level(view.power, "redact", 50):
        if record.redacts is None or _server_of(record.redacts) != _server_of(record.event_id):
            return "auth.redaction.3", "the sender may not redact that event"
    return None


cdef object _check_create(int version, AuthRecord record):
    if record.has_prev_events:
        return "auth.create.1", "the create event has prev_events"
    if version <= 11 and record.room_id and _server_of(record.room_id) != _server_of(record.sender):
        return "auth.create.2", "the room_id is not of the sender's server"
    return _fault(record)


cdef object _check_member(int version, AuthRecord record, View view, object verify_signed):
    if record.state_key is None or record.membership_code == NONE:
        return "auth.member.1", "there is no state_key or no membership"
    if record.authoriser is not None and not record.authoriser:
        return "auth.member.2.1", "join_authorised_via_users_server is not a user id"
    if record.membership_code == JOIN:
        return _check_join(version, record, view)
    if record.membership_code == INVITE:
        return _check_invite(version, record, view, verify_signed)
    if record.membership_code == LEAVE:
        return _check_leave(version, record, view)
    if record.membership_code == BAN:
        return _check_ban(version, record, view)
    if record.membership_code == KNOCK and version >= 7:
        return _check_knock(version, record, view)
    return f"auth.member.{6 if version < 7 else 7 if version == 7 else 8}", "the membership is unknown"


cdef inline str _join_rule(View view):
    return "invite" if view.join_rules is None else <str>view.join_rules.payload["rule"]


cdef object _check_join(int version, AuthRecord record, View view):
    cdef list creators
    if record.prev_mark:
        creators = view.create.payload["creators"]
        if creators and creators[0] == record.state_key and record.prev_mark == _mark_of(view.create.event_id):
            return None
    if record.sender != record.state_key:
        return "auth.member.join.2", "nobody can join for somebody else"
    cdef unsigned char membership = _membership(view.sender)
    if membership == BAN:
        return "auth.member.join.3", "the sender is banned"
    cdef str rule = _join_rule(view)
    if rule == "public":
        return None
    if rule == "invite" or (version >= 7 and rule == "knock"):
        if membership == INVITE or membership == JOIN:
            return None
    elif (version >= 8 and rule == "restricted") or (version >= 10 and rule == "knock_restricted"):
        if membership == INVITE or membership == JOIN:
            return None
        if (
            record.authoriser is None
            or _membership(view.authoriser) != JOIN
            or level_of_user(version, record.authoriser, view.create, view.power) < _level(view.power, "invite", 0)
        ):
            return "auth.member.join.5.2", "no member who may invite has authorised the join"
        return None
    return f"auth.member.join.{7 if version >= 8 else 6}", f"the join rule {rule!r} does not let the sender in"


cdef object _check_invite(int version, AuthRecord record, View view, object verify_signed):
    if record.payload is not None:
        return _check_third_party_invite(record, view, verify_signed)
    if _membership(view.sender) != JOIN:
        return "auth.member.invite.2", "the sender is not in the room"
    cdef unsigned char target = _membership(view.target)
    if target == JOIN or target == BAN:
        return "auth.member.invite.3", "the user is in the room already or banned"
    if level_of_user(version, record.sender, view.create, view.power) >= _level(view.power, "invite", 0):
        return None
    return "auth.member.invite.5", "the sender may not invite"


cdef object _check_third_party_invite(AuthRecord record, View view, object verify_signed):
    cdef dict signed = _signed_of(record)
    if _membership(view.target) == BAN:
        return "auth.member.invite.1.1", "the user is banned"
    if signed is None:
        return "auth.member.invite.1.2", "third_party_invite is not signed"
    mxid = signed.get("mxid")
    if not isinstance(mxid, str) or not isinstance(signed.get("token"), str):
        return "auth.member.invite.1.3", "signed has no mxid or no token"
    if mxid != record.state_key:
        return "auth.member.invite.1.4", "the mxid is not the invited user"
    if view.token is None:
        return "auth.member.invite.1.5", "there is no such third party invite"
    if view.token.sender != record.sender:
        return "auth.member.invite.1.6", "the third party invite is somebody else's"
    if verify_signed is not None and verify_signed(signed, view.token.payload["keys"]):
        return None
    return "auth.member.invite.1.8", "no signature is by a key of the third party invite"


cdef object _check_leave(int version, AuthRecord record, View view):
    cdef unsigned char membership = _membership(view.sender)
    if record.sender == record.state_key:
        if membership == INVITE or membership == JOIN or (membership == KNOCK and version >= 7):
            return None
        return "auth.member.leave.1", "the sender is not in the room"
    if membership != JOIN:
        return "auth.member.leave.2", "the sender is not in the room"
    power = level_of_user(version, record.sender, view.create, view.power)
    if _membership(view.target) == BAN and power < _level(view.power, "ban", 50):
        return "auth.member.leave.3", "the sender may not unban"
    if power >= _level(view.power, "kick", 50):
        if power > level_of_user(version, record.state_key, view.create, view.power):
            return None
    return "auth.member.leave.5", "the sender may not remove that user"


cdef object _check_ban(int version, AuthRecord record, View view):
    if _membership(view.sender) != JOIN:
        return "auth.member.ban.1", "the sender is not in the room"
    power = level_of_user(version, record.sender, view.create, view.power)
    if power >= _level(view.power, "ban", 50):
        if power > level_of_user(version, record.state_key, view.create, view.power):
            return None
    return "auth.member.ban.3", "the sender may not ban that user"


cdef object _check_knock(int version, AuthRecord record, View view):
    cdef str rule = _join_rule(view)
    if rule != "knock" and not (rule == "knock_restricted" and version >= 10):
        return "auth.member.knock.1", "the join rule does not let anybody knock"
    if record.sender != record.state_key:
        return "auth.member.knock.2", "nobody can knock for somebody else"
    if _membership(view.sender) in (BAN, INVITE, JOIN):
        return "auth.member.knock.4", "the sender is banned, invited or in the room already"
    return None


cdef object _check_power_levels(
    int version, AuthRecord record, AuthRecord current, AuthRecord create, object power
):
    fault = _fault(record)
    if fault is not None:
        return fault
    cdef dict new = record.payload
    if version >= 12:
        for user in <list>create.payload["creators"]:
            if user in <dict>new["users"]:
                return "auth.power_levels.4", "a creator's power level cannot be set"
    if current is None:
        return None
    cdef dict old = current.payload
    # v10 put two rules before these, v12 a third one.
    cdef int shift = 0 if version < 10 else 2 if version < 12 else 3
    for name in _LEVELS:
        was = (<dict>old["levels"]).get(name)
        now = (<dict>new["levels"]).get(name)
        if was == now:
            continue
        if was is not None and was > power:
            return f"auth.power_levels.{3 + shift}.1", f"{name} is above the sender's power level"
        if now is not None and now > power:
            return f"auth.power_levels.{3 + shift}.2", f"{name} would be above the sender's power level"
    for section in ("events", "notifications") if version >= 6 else ("events",):
        for name, was, now in _changes(old[section], new[section]):
            if was is not None and was > power:
                return f"auth.power_levels.{4 + shift}.1", f"{name!r} is above the sender's power level"
            if now is not None and now > power:
                return f"auth.power_levels.{5 + shift}.1", f"{name!r} would be above the sender's power level"
    for name, was, now in _changes(old["users"], new["users"]):
        if name != record.sender and was is not None and was >= power:
            return f"auth.power_levels.{6 + shift}.1", f"{name} is not below the sender's power level"
        if now is not None and now > power:
            return f"auth.power_levels.{7 + shift}.1", f"{name} would be above the sender's power level"
    return None


cdef list _changes(dict old, dict new):
    cdef list changes
    if old == new:
        return []
    changes = [(name, was, new.get(name)) for name, was in old.items() if was != new.get(name)]
    changes += [(name, None, now) for name, now in new.items() if name not in old]
    changes.sort()
    return changes
