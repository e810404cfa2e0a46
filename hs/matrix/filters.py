"""Filters: which events a client wants, and which parts of them (client-server-api "Filtering", filter.yaml).

    parse_filter(b'{"room": ...}')      the whole filter of /sync           -> Filter
    parse_room_event_filter(b'{...}')   the `filter` of /messages, /context -> RoomEventFilter
    build_matcher(filter.room.timeline) ready to be asked about events      -> EventMatcher
    compile_filter(filter)              all matchers of a sync filter       -> SyncFilter

A parsed filter is frozen, hashable and in normal form (lists sorted, without repetitions): it is itself the
key under which results can be shared by all users who filter alike, whole or by its parts.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from hs.matrix.errors import BadJson, NotJson
from hs.matrix.globs import whole_matcher
from hs.matrix.property_paths import split_path

# How many events where the filter says nothing, and at most (filter.yaml wants both from servers).
DEFAULT_LIMIT = 10
MAX_LIMIT = 1_000
# Each of these is tried on each event; plain types and ids are not, and are bounded by the body's size.
MAX_WILDCARD_TYPES = 100
MAX_EVENT_FIELDS = 1_000

Names = tuple[str, ...]


class EventFilter(msgspec.Struct, frozen=True, omit_defaults=True, cache_hash=True):
    """Which events of any kind; None is no restriction, an empty list lets nothing through."""

    limit: int | None = None
    types: Names | None = None
    not_types: Names | None = None
    senders: Names | None = None
    not_senders: Names | None = None


class RoomEventFilter(EventFilter, frozen=True, omit_defaults=True, cache_hash=True):
    """Which events of rooms; also the filter of state, where it says whether members are loaded lazily.

    The `related_by` fields are parsed and are for the reader to apply: they ask for events to which others
    relate, which an event by itself does not tell.
    """

    rooms: Names | None = None
    not_rooms: Names | None = None
    contains_url: bool | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False
    related_by_senders: Names | None = None
    related_by_rel_types: Names | None = None


# filter.yaml gives state no fields of its own.
StateFilter = RoomEventFilter


class RoomFilter(msgspec.Struct, frozen=True, omit_defaults=True, cache_hash=True):
    """Which rooms, and what of them."""

    rooms: Names | None = None
    not_rooms: Names | None = None
    include_leave: bool = False
    ephemeral: RoomEventFilter = RoomEventFilter()
    state: StateFilter = StateFilter()
    timeline: RoomEventFilter = RoomEventFilter()
    account_data: RoomEventFilter = RoomEventFilter()


class Filter(msgspec.Struct, frozen=True, omit_defaults=True, cache_hash=True):
    """A whole filter, as uploaded to /filter or given to /sync."""

    event_fields: Names | None = None
    event_format: Literal["client", "federation"] = "client"
    presence: EventFilter = EventFilter()
    account_data: EventFilter = EventFilter()
    room: RoomFilter = RoomFilter()


NO_FILTER = Filter()


# --- parsing --------------------------------------------------------------------------------------

_S = TypeVar("_S", bound=msgspec.Struct)

_filter_decoder = msgspec.json.Decoder(Filter)
_room_event_filter_decoder = msgspec.json.Decoder(RoomEventFilter)


def parse_filter(data: bytes | str) -> Filter:
    """The filter that the JSON says; NotJson or BadJson where it says none. Unknown keys are ignored."""
    return _parse(_filter_decoder.decode, data)


def parse_room_event_filter(data: bytes | str) -> RoomEventFilter:
    """The filter of one room's events that the JSON says; NotJson or BadJson where it says none."""
    return _parse(_room_event_filter_decoder.decode, data)


def _parse(decode: Callable[[bytes | str], _S], data: bytes | str) -> _S:
    try:
        return _normalised(decode(data))
    except msgspec.ValidationError as error:
        raise BadJson(f"not a filter: {error}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise NotJson("the filter is not JSON") from error


def _normalised(definition: _S) -> _S:
    """The same filter, checked, with each list sorted and without repetitions."""
    changes: dict[str, Any] = {}
    for name in definition.__struct_fields__:
        value = getattr(definition, name)
        if isinstance(value, msgspec.Struct):
            changes[name] = _normalised(value)
        elif isinstance(value, tuple):
            changes[name] = _checked_names(name, value)
        elif name == "limit" and value is not None:
            # Clients that want no events send 0 although the spec starts at 1; `limit_of` gives them one.
            if value < 0:
                raise BadJson("not a filter: limit must be greater than 0")
            changes[name] = min(value, MAX_LIMIT)
    return msgspec.structs.replace(definition, **changes)


_SIGILS = {"senders": "@", "not_senders": "@", "related_by_senders": "@", "rooms": "!", "not_rooms": "!"}


def _checked_names(field: str, names: Names) -> Names:
    sigil = _SIGILS.get(field, "")
    if not all(name.startswith(sigil) for name in names):
        raise BadJson(f"not a filter: what is in {field} starts with {sigil}")
    unique = set(names)
    if field in ("types", "not_types") and sum("*" in name for name in unique) > MAX_WILDCARD_TYPES:
        raise BadJson(f"not a filter: more than {MAX_WILDCARD_TYPES} wildcards in {field}")
    if field == "event_fields" and len(unique) > MAX_EVENT_FIELDS:
        raise BadJson(f"not a filter: more than {MAX_EVENT_FIELDS} event_fields")
    return tuple(sorted(unique))


def limit_of(definition: EventFilter, default: int = DEFAULT_LIMIT) -> int:
    """How many events at most, from 1 to MAX_LIMIT; `default` where the filter does not say."""
    return default if definition.limit is None else max(1, definition.limit)


# --- matching -------------------------------------------------------------------------------------


class EventView(Protocol):
    """What is needed of an event; cache records and events have it."""

    @property
    def room_id(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def sender(self) -> str: ...
    @property
    def content(self) -> dict[str, Any]: ...


class _Names:
    """A list to be on and a list not to be on."""

    __slots__ = ("_excluded", "_included")

    def __init__(self, included: Names | None, excluded: Names | None) -> None:
        self._included = None if included is None else frozenset(included)
        self._excluded = frozenset(excluded or ())

    def accepts(self, name: str) -> bool:
        return name not in self._excluded and (self._included is None or name in self._included)


class _Types:
    """The same with `*` for any run of characters."""

    __slots__ = ("_excluded", "_excluded_globs", "_included", "_included_globs", "_is_open")

    def __init__(self, included: Names | None, excluded: Names | None) -> None:
        self._is_open = included is None
        self._included, self._included_globs = _split_globs(included or ())
        self._excluded, self._excluded_globs = _split_globs(excluded or ())

    def accepts(self, type: str) -> bool:
        if type in self._excluded or any(matches(type) for matches in self._excluded_globs):
            return False
        return (
            self._is_open or type in self._included or any(matches(type) for matches in self._included_globs)
        )


def _split_globs(types: Iterable[str]) -> tuple[frozenset[str], tuple[Callable[[str], bool], ...]]:
    plain = frozenset(type for type in types if "*" not in type)
    # Types have no wildcard but the star: a question mark is itself.
    return plain, tuple(_star_matcher(type) for type in types if "*" in type)


def _star_matcher(pattern: str) -> Callable[[str], bool]:
    if "?" not in pattern:
        return whole_matcher(pattern)
    # The glob matcher reads "?" as a wildcard; no type holds NUL, so it can stand in for the character.
    matches = whole_matcher(pattern.replace("?", "\0"))
    return lambda type: "\0" not in type and matches(type.replace("?", "\0"))


class RelatedBy(NamedTuple):
    """Events to which one of the senders relates in one of the ways; None is any."""

    senders: Names | None
    rel_types: Names | None


class EventMatcher:
    """A filter ready to be asked; made by `build_matcher`.

    `definition` is the filter. `is_open`: every event passes. `is_closed`: none does, there is no need to
    look for any. `related_by`: what else has to relate to the event, which the reader looks up.
    """

    __slots__ = (
        "_contains_url", "_rooms", "_senders", "_types", "definition", "is_closed", "is_open", "related_by",
    )  # fmt: skip

    def __init__(self, definition: EventFilter) -> None:
        self.definition = definition
        in_rooms = definition if isinstance(definition, RoomEventFilter) else RoomEventFilter()
        self._types = _Types(definition.types, definition.not_types)
        self._senders = _Names(definition.senders, definition.not_senders)
        self._rooms = _Names(in_rooms.rooms, in_rooms.not_rooms)
        self._contains_url = in_rooms.contains_url
        related = RelatedBy(in_rooms.related_by_senders, in_rooms.related_by_rel_types)
        self.related_by = None if related == (None, None) else related
        included = (definition.types, definition.senders, in_rooms.rooms, *related)
        excluded = (definition.not_types, definition.not_senders, in_rooms.not_rooms)
        self.is_closed = () in included or "*" in (definition.not_types or ())
        self.is_open = self._contains_url is None and not any(excluded) and set(included) == {None}

    def accepts_type(self, type: str) -> bool:
        """Whether events of this type pass, as far as the type goes."""
        return self._types.accepts(type)

    def accepts_sender(self, user_id: str) -> bool:
        """Whether events of this sender pass, as far as the sender goes."""
        return self._senders.accepts(user_id)

    def accepts_room(self, room_id: str) -> bool:
        """Whether events of this room pass, as far as the room goes."""
        return self._rooms.accepts(room_id)

    def matches(self, event: EventView) -> bool:
        """Whether the event passes; decodes no more of it than the filter asks about."""
        if self.is_open:
            return True
        if self.is_closed:
            return False
        if not (
            self._types.accepts(event.type)
            and self._senders.accepts(event.sender)
            and self._rooms.accepts(event.room_id)
        ):
            return False
        return self._contains_url is None or self._contains_url is ("url" in event.content)


def build_matcher(definition: EventFilter) -> EventMatcher:
    """The filter, ready to be asked about events."""
    return EventMatcher(definition)


class SyncFilter:
    """A whole filter with its matchers; made by `compile_filter`."""

    __slots__ = (
        "_rooms", "account_data", "definition", "ephemeral", "presence", "room_account_data", "state", "timeline",
    )  # fmt: skip

    def __init__(self, definition: Filter) -> None:
        room = definition.room
        self.definition = definition
        self.presence = EventMatcher(definition.presence)
        self.account_data = EventMatcher(definition.account_data)
        self.timeline = EventMatcher(room.timeline)
        self.state = EventMatcher(room.state)
        self.ephemeral = EventMatcher(room.ephemeral)
        self.room_account_data = EventMatcher(room.account_data)
        self._rooms = _Names(room.rooms, room.not_rooms)

    def accepts_room(self, room_id: str) -> bool:
        """Whether the room is wanted at all; what is wanted of it the matchers say."""
        return self._rooms.accepts(room_id)

    @property
    def event_shape(self) -> tuple[str, Names | None]:
        """What decides how an event looks to the client: users with the same shape get the same bytes."""
        return self.definition.event_format, self.definition.event_fields


def compile_filter(definition: Filter) -> SyncFilter:
    """The filter with all its matchers; keep it as long as the filter is used."""
    return SyncFilter(definition)


# --- parts of events ------------------------------------------------------------------------------


def pick_fields(event: Mapping[str, Any], event_fields: Iterable[str]) -> dict[str, Any]:
    """A new event with the fields at these dot-separated paths; paths that lead nowhere are left out."""
    picked: dict[str, Any] = {}
    # Short paths first: what lies below a field that was taken whole is there already.
    for path in sorted(map(split_path, event_fields), key=len):
        _pick(event, picked, path)
    return picked


def _pick(source: Mapping[str, Any], target: dict[str, Any], path: tuple[str, ...]) -> None:
    *parents, last = path
    copies = [target]
    for name in parents:
        inner = source.get(name)
        if not isinstance(inner, dict) or copies[-1].get(name) is inner:
            return
        source = inner
        copies.append(copies[-1].get(name, {}))
    if last not in source:
        return
    for copy, name, below in zip(copies, parents, copies[1:], strict=False):
        copy[name] = below
    copies[-1][last] = source[last]
