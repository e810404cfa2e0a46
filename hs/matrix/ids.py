"""Identifiers: taken apart and checked. Raises InvalidParam for what is none.

Spec: appendices "Identifier Grammar". Ids that other people made are judged by the tolerant historical
grammar, ids that we make by the strict one. All limits count bytes of UTF-8, the sigil included.
"""

import re
from typing import Final, NamedTuple

from hs.matrix.errors import InvalidParam, InvalidUsername

MAX_ID_BYTES: Final = 255

# IPv4 literals are within dns-name's alphabet; "Server Name" in the appendices.
_SERVER_NAME = re.compile(r"([0-9A-Za-z.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_NEW_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
# Any code point but ":" and NUL; lone surrogates are no text.
_TOLERANT_LOCALPART = re.compile("[^:\x00\ud800-\udfff]*")
_HASH_URLSAFE = re.compile(r"[A-Za-z0-9_-]{43}")
_HASH_BASE64 = re.compile(r"[A-Za-z0-9+/]{43}")


class ServerName(NamedTuple):
    """A server name's parts; an IPv6 host keeps its brackets."""

    host: str
    port: int | None


class UserId(NamedTuple):
    """@localpart:server_name"""

    localpart: str
    server_name: str


class RoomId(NamedTuple):
    """!opaque:server_name, or !hash since room version 12."""

    opaque: str
    server_name: str | None


class RoomAlias(NamedTuple):
    """#localpart:server_name"""

    localpart: str
    server_name: str


class EventId(NamedTuple):
    """$opaque:server_name in room versions 1 and 2, else $hash."""

    opaque: str
    server_name: str | None


def parse_server_name(text: str) -> ServerName:
    """Host and port of a server name. Spec: appendices "Server Name"."""
    match = _SERVER_NAME.fullmatch(text)
    if match is None or len(text) > MAX_ID_BYTES:
        raise InvalidParam("not a server name")
    return ServerName(match[1], int(match[2]) if match[2] else None)


def is_server_name(text: str) -> bool:
    """Whether `text` is a server name."""
    return _SERVER_NAME.fullmatch(text) is not None and len(text) <= MAX_ID_BYTES


def parse_user_id(text: str) -> UserId:
    """The parts of a user id, historical ones and empty localparts included."""
    return UserId(*_split(text, "@", "a user id"))


def is_user_id(text: object) -> bool:
    """Whether `text` is a user id of the historical grammar, as events may hold."""
    return isinstance(text, str) and _find_parts(text, "@") is not None


def is_compliant_user_id(text: str) -> bool:
    """Whether a user id may be shown outside of events: U+0021 to U+007E, localpart not empty.

    Spec: appendices "Historical User IDs".
    """
    parts = _find_parts(text, "@")
    return parts is not None and parts[0] != "" and all("!" <= c <= "~" for c in parts[0])


def make_user_id(localpart: str, server_name: str) -> str:
    """The id of a new user of this server; InvalidUsername where the strict grammar forbids it."""
    if _NEW_LOCALPART.fullmatch(localpart) is None:
        raise InvalidUsername("a user name has only the characters a-z, 0-9, and ._=-/+")
    user_id = f"@{localpart}:{server_name}"
    if len(user_id.encode()) > MAX_ID_BYTES:
        raise InvalidUsername(f"a user id has at most {MAX_ID_BYTES} bytes")
    return user_id


def parse_room_alias(text: str) -> RoomAlias:
    """The parts of a room alias."""
    return RoomAlias(*_split(text, "#", "a room alias"))


def parse_room_id(text: str) -> RoomId:
    """The parts of a room id of either form; server_name is None since room version 12."""
    if text[:1] == "!" and _HASH_URLSAFE.fullmatch(text, 1):
        return RoomId(text[1:], None)
    return RoomId(*_split(text, "!", "a room id"))


def parse_event_id(text: str) -> EventId:
    """The parts of an event id of any room version."""
    if text[:1] == "$" and (_HASH_URLSAFE.fullmatch(text, 1) or _HASH_BASE64.fullmatch(text, 1)):
        return EventId(text[1:], None)
    return EventId(*_split(text, "$", "an event id"))


def server_of(identifier: str) -> str:
    """The server name at the end of an id; InvalidParam where it has none."""
    _, colon, server_name = identifier.partition(":")
    if not colon or not is_server_name(server_name):
        raise InvalidParam("this identifier names no server")
    return server_name


def check_opaque_id(text: str) -> None:
    """InvalidParam unless `text` fits the opaque identifier grammar, 1 to 255 of [0-9A-Za-z-._~]."""
    if not re.fullmatch(r"[0-9A-Za-z._~-]{1,255}", text):
        raise InvalidParam("not an opaque identifier")


def _find_parts(text: str, sigil: str) -> tuple[str, str] | None:
    if text[:1] != sigil:
        return None
    localpart, colon, server_name = text[1:].partition(":")
    if not colon or not is_server_name(server_name) or not _TOLERANT_LOCALPART.fullmatch(localpart):
        return None
    if len(text) > MAX_ID_BYTES or len(text.encode()) > MAX_ID_BYTES:
        return None
    return localpart, server_name


def _split(text: str, sigil: str, what: str) -> tuple[str, str]:
    parts = _find_parts(text, sigil)
    if parts is None:
        raise InvalidParam(f"not {what}")
    return parts
