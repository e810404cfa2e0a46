"""Positions (where an event is) and tokens (what a client has seen).

Several processes may write rooms, each with its own ascending stream ids out of one sequence. A token is
therefore a vector clock: a stream id up to which everything of every writer was seen, and the writers
that were seen further. With one writer it is that one number.

| text            | type             | means                                                           |
|-----------------|------------------|-----------------------------------------------------------------|
| s123            | RoomToken        | everything up to 123                                            |
| m56~2.58~3.59   | RoomToken        | everything up to 56, of writer 2 up to 58, of writer 3 up to 59 |
| t7-56           | TopologicalToken | in the order of history: right after (depth 7, stream 56)       |
| t7-56.123       | TopologicalToken | the same, of what had arrived by 123                            |
| s123_4_5_6_7_8_9| StreamToken      | the same, with the other streams; a sync token                  |

Tokens come back from clients, so parsing is strict: one text per token, InvalidParam for anything else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from hs.matrix.errors import InvalidParam

_MAX_STREAM = 2**63 - 1
_MAX_INSTANCE = 2**31 - 1
# Far more than processes that could write rooms; keeps hostile tokens small.
MAX_WRITERS = 128
# The longest valid text: MAX_WRITERS of "~<10 digits>.<19 digits>" and eight numbers.
_MAX_LENGTH = MAX_WRITERS * 31 + 8 * 20 + 1

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


def _parse_number(text: str, limit: int = _MAX_STREAM) -> int:
    if _NUMBER.fullmatch(text) is None or (number := int(text)) > limit:
        raise InvalidParam("invalid token")
    return number


def _parse_signed(text: str) -> int:
    if text.startswith("-"):
        number = _parse_number(text[1:])
        if number == 0:
            raise InvalidParam("invalid token")
        return -number
    return _parse_number(text)


@dataclass(frozen=True, slots=True, order=True)
class RoomPosition:
    """Where an event is: the process that wrote it and its id in that process' stream."""

    instance: int
    stream: int


@dataclass(frozen=True, slots=True)
class RoomToken:
    """What was seen of the room stream: all writers up to `stream`, and some of them further.

    `ahead` has (instance, stream) of the writers that are ahead of `stream`, ascending by instance; use
    `build` where that is not known to hold. `<=` is the order of inclusion: it is partial, two tokens can
    each have seen what the other has not.
    """

    stream: int = 0
    ahead: tuple[tuple[int, int], ...] = ()

    @classmethod
    def build(cls, stream: int, positions: Mapping[int, int]) -> Self:
        """The token that has seen all writers up to `stream` and each in `positions` up to its own."""
        return cls(stream, tuple(sorted((i, seen) for i, seen in positions.items() if seen > stream)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token of an `s` or `m` text; InvalidParam where it is none."""
        if len(text) > _MAX_LENGTH:
            raise InvalidParam("invalid token")
        kind, rest = text[:1], text[1:]
        if kind == "s":
            return cls(_parse_number(rest))
        if kind != "m":
            raise InvalidParam("invalid token")
        first, *others = rest.split("~")
        if not 1 <= len(others) <= MAX_WRITERS:
            raise InvalidParam("invalid token")
        stream = _parse_number(first)
        ahead = tuple(_parse_writer(item) for item in others)
        instances = [instance for instance, _ in ahead]
        # One text per token, so that equal tokens are equal texts.
        if any(seen <= stream for _, seen in ahead) or sorted(set(instances)) != instances:
            raise InvalidParam("invalid token")
        return cls(stream, ahead)

    def __str__(self) -> str:
        if not self.ahead:
            return f"s{self.stream}"
        return f"m{self.stream}" + "".join(f"~{instance}.{seen}" for instance, seen in self.ahead)

    @property
    def max_stream(self) -> int:
        """The newest stream id that it may have seen: an upper bound for queries; filter with `includes`."""
        return max((seen for _, seen in self.ahead), default=self.stream)

    def stream_of(self, instance: int) -> int:
        """Up to where this writer's events were seen."""
        for writer, seen in self.ahead:
            if writer == instance:
                return seen
        return self.stream

    def includes(self, position: RoomPosition) -> bool:
        """Whether the event at this position was seen."""
        return position.stream <= self.stream_of(position.instance)

    def advance(self, position: RoomPosition) -> "RoomToken":
        """This token with all of that writer's events up to the position.

        It says nothing of other writers. With a single writer, or where all writers are known to be past
        an id, RoomToken(id) is the token.
        """
        if self.includes(position):
            return self
        return RoomToken.build(self.stream, {**dict(self.ahead), position.instance: position.stream})

    def join(self, other: "RoomToken") -> "RoomToken":
        """What either has seen (the greatest of each writer)."""
        if other <= self:
            return self
        positions = {i: max(self.stream_of(i), other.stream_of(i)) for i in self._instances(other)}
        return RoomToken.build(max(self.stream, other.stream), positions)

    def meet(self, other: "RoomToken") -> "RoomToken":
        """What both have seen (the least of each writer)."""
        if self <= other:
            return self
        positions = {i: min(self.stream_of(i), other.stream_of(i)) for i in self._instances(other)}
        return RoomToken.build(min(self.stream, other.stream), positions)

    def _instances(self, other: "RoomToken") -> set[int]:
        return {instance for instance, _ in self.ahead + other.ahead}

    def __le__(self, other: "RoomToken") -> bool:
        """Whether `other` has seen everything that this one has."""
        return self.stream <= other.stream and all(seen <= other.stream_of(i) for i, seen in self.ahead)

    def __lt__(self, other: "RoomToken") -> bool:
        return self != other and self <= other

    def __ge__(self, other: "RoomToken") -> bool:
        return other <= self

    def __gt__(self, other: "RoomToken") -> bool:
        return other < self


def _parse_writer(text: str) -> tuple[int, int]:
    instance, dot, seen = text.partition(".")
    if not dot:
        raise InvalidParam("invalid token")
    return _parse_number(instance, _MAX_INSTANCE), _parse_number(seen)


@dataclass(frozen=True, slots=True, order=True)
class TopologicalToken:
    """A place in a room's history: right after the event of this depth and stream ordering.

    Events that were fetched from the past have negative stream orderings. `until` is the newest event that
    whoever reads on from here has in view: later ones that belong further back come with their syncs.
    """

    depth: int
    stream: int
    until: int = _MAX_STREAM

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token of a `t` text; InvalidParam where it is none."""
        depth, dash, rest = text[1:].partition("-")
        if len(text) > _MAX_LENGTH or not text.startswith("t") or not dash:
            raise InvalidParam("invalid token")
        stream, dot, until = rest.partition(".")
        if not dot:
            return cls(_parse_number(depth), _parse_signed(stream))
        return cls(_parse_number(depth), _parse_signed(stream), _parse_number(until, _MAX_STREAM - 1))

    def __str__(self) -> str:
        place = f"t{self.depth}-{self.stream}"
        return place if self.until == _MAX_STREAM else f"{place}.{self.until}"


@dataclass(frozen=True, slots=True)
class StreamToken:
    """What a client has seen of all streams: the `since` and `next_batch` of /sync.

    New streams are only ever added at the end: a token of an older version has none of them and reads as
    one that has seen nothing (0) there. Push rules are part of account_data.
    """

    room: RoomToken = RoomToken()
    account_data: int = 0
    receipts: int = 0
    typing: int = 0
    presence: int = 0
    to_device: int = 0
    device_lists: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token of the text; InvalidParam where it is none."""
        if len(text) > _MAX_LENGTH:
            raise InvalidParam("invalid token")
        room, *others = text.split("_")
        if len(others) >= len(_STREAMS):
            raise InvalidParam("invalid token")
        return cls(RoomToken.parse(room), *map(_parse_number, others))

    def __str__(self) -> str:
        return "_".join(str(getattr(self, name)) for name in _STREAMS)

    def join(self, other: "StreamToken") -> "StreamToken":
        """What either has seen."""
        numbers = (max(getattr(self, name), getattr(other, name)) for name in _STREAMS[1:])
        return StreamToken(self.room.join(other.room), *numbers)

    def meet(self, other: "StreamToken") -> "StreamToken":
        """What both have seen."""
        numbers = (min(getattr(self, name), getattr(other, name)) for name in _STREAMS[1:])
        return StreamToken(self.room.meet(other.room), *numbers)

    def __le__(self, other: "StreamToken") -> bool:
        """Whether `other` has seen everything that this one has."""
        return all(getattr(self, name) <= getattr(other, name) for name in _STREAMS)

    def __lt__(self, other: "StreamToken") -> bool:
        return self != other and self <= other

    def __ge__(self, other: "StreamToken") -> bool:
        return other <= self

    def __gt__(self, other: "StreamToken") -> bool:
        return other < self


_STREAMS = tuple(field.name for field in fields(StreamToken))


def parse_pagination_token(text: str) -> RoomToken | TopologicalToken:
    """The place in a room that `from` or `to` of /messages names; InvalidParam where it names none.

    Clients give any token they have: one of /messages, or a whole sync token, of which the room part counts.
    """
    if text.startswith("t"):
        return TopologicalToken.parse(text)
    return StreamToken.parse(text).room
