"""The auth rules of room versions 1 to 12 over compact auth records: the readable twin.

An `AuthRecord` is what the rules need to know of one event, distilled once from its content and
stored beside it, so that neither a check nor a state resolution ever parses an event's JSON. The
same rules judge one new event and every event of a resolution.

Judging answers None (allowed) or `(rule, reason)`. A rule such as "auth.member.join.5.2" names the
section of the room version's list and the number of the rule *in that version*:

    auth.create.N  auth.room_id  auth.events.N  auth.federate  auth.aliases.N  auth.member.N
    auth.member.{join,invite,leave,ban,knock}.N  auth.sender  auth.third_party_invite.N
    auth.required_power  auth.state_key  auth.power_levels.N  auth.redaction.N

What is valid about an event by itself (format, sizes, signatures, hashes, among them the signature of
the server that authorised a restricted join and "a v12 create event has no room_id") is checked
elsewhere, once. Spec: rooms/v1 to rooms/v12 "Authorisation rules", server-server-api "PDUs".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from hs._fast.auth_payload import LEVELS
from hs._fast.auth_record_ref import AuthRecord, make_record, mark_of, pack_record, unpack_record

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

Key: TypeAlias = tuple[str, str]
Rejection: TypeAlias = tuple[str, str]
VerifySigned: TypeAlias = Callable[[dict[str, Any], Sequence[str]], bool]
"""Whether a third-party invite's `signed` object carries a signature by one of the public keys."""

CREATOR_POWER = 2**63 - 1
"""The power level of a v12 room creator: above every level that can be written down."""

_CREATE = ("m.room.create", "")
_POWER = ("m.room.power_levels", "")
_JOIN_RULES = ("m.room.join_rules", "")
_MEMBER = "m.room.member"
_TOKEN = "m.room.third_party_invite"


# --- which state the rules look at


def select_auth_keys(
    version: int, type: str, sender: str, state_key: str | None, content: Mapping[str, Any]
) -> list[Key]:
    """The (type, state_key) pairs whose current events belong into the event's auth_events.

    No key twice. Spec: server-server-api "Auth events selection"; since v12 without the create event.
    """
    record = make_record(version, 0, "", type, state_key, sender, "", 0, 0, content, ())
    keys = list_needed_keys(version, record)
    return [key for key in keys if version < 12 or key != _CREATE]


def list_needed_keys(version: int, record: AuthRecord) -> list[Key]:
    """The (type, state_key) pairs that the rules look at: as selected, and the create event in v12 too."""
    if record.type == "m.room.create":
        return []
    keys = [_CREATE, _POWER, (_MEMBER, record.sender)]
    if record.type == _MEMBER and record.state_key is not None:
        keys.append((_MEMBER, record.state_key))
        if record.membership in ("join", "invite", "knock"):
            keys.append(_JOIN_RULES)
        token = _signed_of(record).get("token")
        if isinstance(token, str):
            keys.append((_TOKEN, token))
        if record.membership == "join" and record.authoriser:
            keys.append((_MEMBER, record.authoriser))
    return list(dict.fromkeys(keys))


def _signed_of(record: AuthRecord) -> dict[str, Any]:
    third_party = (record.payload or {}).get("third_party") or {}
    signed: dict[str, Any] = third_party.get("signed") or {}
    return signed


# --- the rules

State: TypeAlias = Mapping[Key, AuthRecord]


def check_auth_list(
    version: int,
    record: AuthRecord,
    auth: Sequence[AuthRecord],
    create: AuthRecord | None = None,
    verify_signed: VerifySigned | None = None,
) -> Rejection | None:
    """Judge an event by its own auth_events, all of them, then by the state that they form.

    `create` is the room's create event: needed since v12, where it is not in the list (None: the room
    id names no accepted create event), ignored before. A rejected, foreign or needless auth event
    rejects the event even where another one stands for the same key.
    """
    if record.type == "m.room.create":
        return _check_create(version, record)
    if version >= 12 and (rejection := _check_room_id(record, create)) is not None:
        return rejection
    state: dict[Key, AuthRecord] = {}
    for event in auth:
        if event.state_key is not None and (event.type, event.state_key) in state:
            return "auth.events.1", f"two auth events for {event.type!r}, {event.state_key!r}"
        if event.state_key is not None:
            state[event.type, event.state_key] = event
    expected = [key for key in list_needed_keys(version, record) if version < 12 or key != _CREATE]
    for event in auth:
        if event.state_key is None or (event.type, event.state_key) not in expected:
            return "auth.events.2", f"{event.event_id} ({event.type}) does not belong into auth_events"
    for event in auth:
        if event.rejected:
            return "auth.events.3", f"the auth event {event.event_id} was rejected"
    if version < 12 and _CREATE not in state:
        return "auth.events.4", "there is no create event in auth_events"
    for event in auth:
        if event.room_id and event.room_id != record.room_id:
            return "auth.events.5", f"the auth event {event.event_id} is of another room"
    if version >= 12 and create is not None:
        state[_CREATE] = create
    return check_auth_state(version, record, state, verify_signed)


def check_auth_state(
    version: int, record: AuthRecord, state: State, verify_signed: VerifySigned | None = None
) -> Rejection | None:
    """Judge an event by a room state, given at least for `list_needed_keys`; auth_events are not looked at."""
    if record.type == "m.room.create":
        return _check_create(version, record)
    create = state.get(_CREATE)
    if version >= 12 and (rejection := _check_room_id(record, create)) is not None:
        return rejection
    if create is None:
        return "auth.events.4", "there is no create event"
    if not _payload_of(create)["federate"] and server_of(record.sender) != server_of(create.sender):
        return "auth.federate", "the room does not federate"
    if version <= 5 and record.type == "m.room.aliases":
        if record.state_key is None:
            return "auth.aliases.1", "there is no state_key"
        if server_of(record.sender) != record.state_key:
            return "auth.aliases.2", "the state_key is not the sender's server"
        return None
    if record.type == _MEMBER:
        return _check_member(version, record, state, create, verify_signed)
    if _membership(state, record.sender) != "join":
        return "auth.sender", "the sender is not in the room"
    power = power_of(version, record.sender, create, state.get(_POWER))
    if record.type == _TOKEN:
        if power < _level_of(state, "invite", 0):
            return "auth.third_party_invite.1", "the sender may not invite"
        return None
    if power < _required_power(record, state):
        return "auth.required_power", f"the sender has not the power level to send {record.type!r}"
    if (
        record.state_key is not None
        and record.state_key.startswith("@")
        and record.state_key != record.sender
    ):
        return "auth.state_key", "the state_key is somebody else's user id"
    if record.type == "m.room.power_levels":
        return _check_power_levels(version, record, state.get(_POWER), create, power)
    if version <= 2 and record.type == "m.room.redaction":
        return _check_redaction(record, state, power)
    return None


def power_of(version: int, user_id: str, create: AuthRecord | None, power_levels: AuthRecord | None) -> int:
    """The user's power level; CREATOR_POWER for the creators of a v12 room."""
    is_creator = create is not None and user_id in _payload_of(create)["creators"]
    if version >= 12 and is_creator:
        return CREATOR_POWER
    if power_levels is None:
        return 100 if is_creator else 0
    payload = _payload_of(power_levels)
    level: int = payload["users"].get(user_id, payload["levels"].get("users_default", 0))
    return level


def server_of(matrix_id: str) -> str:
    """The text after the first colon: the server of a user id, or of a v1 event or room id."""
    return matrix_id.partition(":")[2]


def _payload_of(record: AuthRecord) -> dict[str, Any]:
    assert record.payload is not None
    return record.payload


def _fault(record: AuthRecord) -> Rejection | None:
    fault = (record.payload or {}).get("fault")
    return (fault[0], fault[1]) if fault else None


def _membership(state: State, user_id: str) -> str | None:
    member = state.get((_MEMBER, user_id))
    return None if member is None else member.membership


def _level_of(state: State, name: str, default: int) -> int:
    power_levels = state.get(_POWER)
    if power_levels is None:
        return default
    level: int = _payload_of(power_levels)["levels"].get(name, default)
    return level


def _required_power(record: AuthRecord, state: State) -> int:
    power_levels = state.get(_POWER)
    if power_levels is not None and record.type in _payload_of(power_levels)["events"]:
        level: int = _payload_of(power_levels)["events"][record.type]
        return level
    if record.state_key is None:
        return _level_of(state, "events_default", 0)
    return _level_of(state, "state_default", 50)


def _check_room_id(record: AuthRecord, create: AuthRecord | None) -> Rejection | None:
    """Since v12, 2: the room id names an accepted create event."""
    if create is None or create.rejected or (record.room_id and record.room_id[1:] != create.event_id[1:]):
        return "auth.room_id", "the room_id does not name an accepted create event"
    return None


def _check_create(version: int, record: AuthRecord) -> Rejection | None:
    if record.has_prev_events:
        return "auth.create.1", "the create event has prev_events"
    if version <= 11 and record.room_id and server_of(record.room_id) != server_of(record.sender):
        return "auth.create.2", "the room_id is not of the sender's server"
    return _fault(record)


def _check_member(
    version: int, record: AuthRecord, state: State, create: AuthRecord, verify_signed: VerifySigned | None
) -> Rejection | None:
    if record.state_key is None or record.membership is None:
        return "auth.member.1", "there is no state_key or no membership"
    if record.authoriser == "":
        # Nobody's server can have signed it.
        return "auth.member.2.1", "join_authorised_via_users_server is not a user id"
    if record.membership == "join":
        return _check_join(version, record, state, create)
    if record.membership == "invite":
        return _check_invite(version, record, state, create, verify_signed)
    if record.membership == "leave":
        return _check_leave(version, record, state, create)
    if record.membership == "ban":
        return _check_ban(version, record, state, create)
    if record.membership == "knock" and version >= 7:
        return _check_knock(version, record, state)
    return f"auth.member.{6 if version < 7 else 7 if version == 7 else 8}", "the membership is unknown"


def _join_rule(state: State) -> str:
    join_rules = state.get(_JOIN_RULES)
    rule: str = "invite" if join_rules is None else _payload_of(join_rules)["rule"]
    return rule


def _check_join(version: int, record: AuthRecord, state: State, create: AuthRecord) -> Rejection | None:
    creators = _payload_of(create)["creators"]
    # Before v11 the creator is who content says; since v11 the sender, which is the first of the creators.
    if record.prev_mark == mark_of(create.event_id) and creators[:1] == [record.state_key]:
        return None
    if record.sender != record.state_key:
        return "auth.member.join.2", "nobody can join for somebody else"
    membership = _membership(state, record.sender)
    if membership == "ban":
        return "auth.member.join.3", "the sender is banned"
    rule = _join_rule(state)
    if rule == "invite" or (rule == "knock" and version >= 7):
        if membership in ("invite", "join"):
            return None
    elif (rule == "restricted" and version >= 8) or (rule == "knock_restricted" and version >= 10):
        if membership in ("invite", "join"):
            return None
        user = record.authoriser
        if (
            user is None
            or _membership(state, user) != "join"
            or power_of(version, user, create, state.get(_POWER)) < _level_of(state, "invite", 0)
        ):
            return "auth.member.join.5.2", "no member who may invite has authorised the join"
        return None
    elif rule == "public":
        return None
    return (
        f"auth.member.join.{7 if version >= 8 else 6}",
        f"the join rule {rule!r} does not let the sender in",
    )


def _check_invite(
    version: int, record: AuthRecord, state: State, create: AuthRecord, verify_signed: VerifySigned | None
) -> Rejection | None:
    assert record.state_key is not None
    target = _membership(state, record.state_key)
    if record.payload is not None:
        return _check_third_party_invite(record, state, target, verify_signed)
    if _membership(state, record.sender) != "join":
        return "auth.member.invite.2", "the sender is not in the room"
    if target in ("join", "ban"):
        return "auth.member.invite.3", "the user is in the room already or banned"
    if power_of(version, record.sender, create, state.get(_POWER)) >= _level_of(state, "invite", 0):
        return None
    return "auth.member.invite.5", "the sender may not invite"


def _check_third_party_invite(
    record: AuthRecord, state: State, target: str | None, verify_signed: VerifySigned | None
) -> Rejection | None:
    if target == "ban":
        return "auth.member.invite.1.1", "the user is banned"
    signed = _signed_of(record)
    if not _payload_of(record)["third_party"]:
        return "auth.member.invite.1.2", "third_party_invite is not signed"
    mxid, token = signed.get("mxid"), signed.get("token")
    if not isinstance(mxid, str) or not isinstance(token, str):
        return "auth.member.invite.1.3", "signed has no mxid or no token"
    if mxid != record.state_key:
        return "auth.member.invite.1.4", "the mxid is not the invited user"
    invite = state.get((_TOKEN, token))
    if invite is None:
        return "auth.member.invite.1.5", "there is no such third party invite"
    if invite.sender != record.sender:
        return "auth.member.invite.1.6", "the third party invite is somebody else's"
    if verify_signed is not None and verify_signed(signed, _payload_of(invite)["keys"]):
        return None
    return "auth.member.invite.1.8", "no signature is by a key of the third party invite"


def _check_leave(version: int, record: AuthRecord, state: State, create: AuthRecord) -> Rejection | None:
    assert record.state_key is not None
    membership = _membership(state, record.sender)
    if record.sender == record.state_key:
        if membership in ("invite", "join") or (membership == "knock" and version >= 7):
            return None
        return "auth.member.leave.1", "the sender is not in the room"
    if membership != "join":
        return "auth.member.leave.2", "the sender is not in the room"
    power = power_of(version, record.sender, create, state.get(_POWER))
    if _membership(state, record.state_key) == "ban" and power < _level_of(state, "ban", 50):
        return "auth.member.leave.3", "the sender may not unban"
    if power >= _level_of(state, "kick", 50) and power > power_of(
        version, record.state_key, create, state.get(_POWER)
    ):
        return None
    return "auth.member.leave.5", "the sender may not remove that user"


def _check_ban(version: int, record: AuthRecord, state: State, create: AuthRecord) -> Rejection | None:
    assert record.state_key is not None
    if _membership(state, record.sender) != "join":
        return "auth.member.ban.1", "the sender is not in the room"
    power = power_of(version, record.sender, create, state.get(_POWER))
    if power >= _level_of(state, "ban", 50) and power > power_of(
        version, record.state_key, create, state.get(_POWER)
    ):
        return None
    return "auth.member.ban.3", "the sender may not ban that user"


def _check_knock(version: int, record: AuthRecord, state: State) -> Rejection | None:
    rule = _join_rule(state)
    if rule != "knock" and not (rule == "knock_restricted" and version >= 10):
        return "auth.member.knock.1", "the join rule does not let anybody knock"
    if record.sender != record.state_key:
        return "auth.member.knock.2", "nobody can knock for somebody else"
    if _membership(state, record.sender) in ("ban", "invite", "join"):
        return "auth.member.knock.4", "the sender is banned, invited or in the room already"
    return None


def _check_redaction(record: AuthRecord, state: State, power: int) -> Rejection | None:
    if power >= _level_of(state, "redact", 50):
        return None
    if record.redacts is not None and server_of(record.redacts) == server_of(record.event_id):
        return None
    return "auth.redaction.3", "the sender may not redact that event"


def _check_power_levels(
    version: int, record: AuthRecord, current: AuthRecord | None, create: AuthRecord, power: int
) -> Rejection | None:
    if (fault := _fault(record)) is not None:
        return fault
    new = _payload_of(record)
    if version >= 12 and any(user in new["users"] for user in _payload_of(create)["creators"]):
        return "auth.power_levels.4", "a creator's power level cannot be set"
    if current is None:
        return None
    old = _payload_of(current)
    # v10 put two rules before these, v12 a third one.
    shift = 0 if version < 10 else 2 if version < 12 else 3
    for name in LEVELS:
        was, now = old["levels"].get(name), new["levels"].get(name)
        if was != now and was is not None and was > power:
            return f"auth.power_levels.{3 + shift}.1", f"{name} is above the sender's power level"
        if was != now and now is not None and now > power:
            return f"auth.power_levels.{3 + shift}.2", f"{name} would be above the sender's power level"
    for section in ("events", "notifications") if version >= 6 else ("events",):
        for name, was, now in _changes(old[section], new[section]):
            if was is not None and was > power:
                return f"auth.power_levels.{4 + shift}.1", f"{name!r} is above the sender's power level"
            if now is not None and now > power:
                return f"auth.power_levels.{5 + shift}.1", f"{name!r} would be above the sender's power level"
    for user, was, now in _changes(old["users"], new["users"]):
        if user != record.sender and was is not None and was >= power:
            return f"auth.power_levels.{6 + shift}.1", f"{user} is not below the sender's power level"
        if now is not None and now > power:
            return f"auth.power_levels.{7 + shift}.1", f"{user} would be above the sender's power level"
    return None


def _changes(old: dict[str, int], new: dict[str, int]) -> list[tuple[str, int | None, int | None]]:
    """(name, level before, level after) of what was added, changed or removed; by name."""
    return [
        (name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
