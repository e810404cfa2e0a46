"""Positions and tokens: texts, order, merging, and what clients may send us."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hs.matrix.errors import InvalidParam
from hs.matrix.tokens import (
    MAX_WRITERS,
    RoomPosition,
    RoomToken,
    StreamToken,
    TopologicalToken,
    parse_pagination_token,
)

INT64 = st.integers(0, 2**63 - 1)
SMALL = st.integers(0, 20)
INSTANCES = st.integers(1, 4)
POSITIONS = st.builds(RoomPosition, INSTANCES, SMALL)
ROOM_TOKENS = st.builds(RoomToken.build, SMALL, st.dictionaries(INSTANCES, SMALL, max_size=4))
BIG_ROOM_TOKENS = st.builds(
    RoomToken.build, INT64, st.dictionaries(st.integers(0, 2**31 - 1), INT64, max_size=5)
)
STREAM_TOKENS = st.builds(StreamToken, BIG_ROOM_TOKENS, *[INT64] * 6)
SMALL_STREAM_TOKENS = st.builds(StreamToken, ROOM_TOKENS, *[SMALL] * 6)
ALL_POSITIONS = [RoomPosition(instance, stream) for instance in range(1, 6) for stream in range(22)]


def seen(token: RoomToken) -> set[RoomPosition]:
    return {position for position in ALL_POSITIONS if token.includes(position)}


@given(BIG_ROOM_TOKENS)
def test_room_tokens_survive_their_text(token: RoomToken) -> None:
    assert RoomToken.parse(str(token)) == token
    assert parse_pagination_token(str(token)) == token


@given(STREAM_TOKENS)
def test_stream_tokens_survive_their_text(token: StreamToken) -> None:
    assert StreamToken.parse(str(token)) == token
    assert parse_pagination_token(str(token)) == token.room


@given(INT64, st.integers(-(2**63) + 1, 2**63 - 1), INT64)
def test_topological_tokens_survive_their_text(depth: int, stream: int, until: int) -> None:
    token = TopologicalToken(depth, stream, until)
    assert TopologicalToken.parse(str(token)) == token
    assert parse_pagination_token(str(token)) == token


def test_the_texts_are_the_documented_ones() -> None:
    assert str(RoomToken(123)) == "s123"
    assert str(RoomToken.build(56, {3: 59, 2: 58, 1: 56})) == "m56~2.58~3.59"
    assert str(TopologicalToken(7, 56)) == "t7-56"
    assert str(TopologicalToken(7, -3)) == "t7--3"
    assert str(TopologicalToken(7, 56, 123)) == "t7-56.123"
    assert str(StreamToken(RoomToken(123), 4, 5, 6, 7, 8, 9)) == "s123_4_5_6_7_8_9"
    assert str(StreamToken(RoomToken.build(5, {2: 6}))) == "m5~2.6_0_0_0_0_0_0"


def test_a_token_of_an_older_version_has_seen_nothing_of_newer_streams() -> None:
    assert StreamToken.parse("s1_2_3") == StreamToken(RoomToken(1), account_data=2, receipts=3)
    assert StreamToken.parse("s1") == StreamToken(RoomToken(1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "m",
        "t",
        "x5",
        "5",
        "s-1",
        "s+1",
        "s 1",
        "s1 ",
        "s1\n",
        "s01",
        "s1.0",
        "s1e3",
        "s１",
        "s٣",
        "s9223372036854775808",
        "s" + "9" * 5_000,
        "m5",
        "m5~",
        "m5~2",
        "m5~2.",
        "m5~.6",
        "m5~2.5",
        "m5~2.4",
        "m5~2.6~2.7",
        "m5~3.6~2.7",
        "m5~2.6~",
        "m5~2147483648.6",
        "m5~2.6.7",
        "m5~-2.6",
        "s5~2.6",
        "m0" + "".join(f"~{i}.1" for i in range(MAX_WRITERS + 1)),
        "s1_",
        "s1__2",
        "s1_-2",
        "s1_x",
        "s1_2_3_4_5_6_7_8",
        "_1",
        "t5-6_1_2_3_4_5_6",
        "t5",
        "t-5",
        "t5-",
        "t-5-6",
        "t5---6",
        "t5--0",
        "t05-6",
        "t5-6-7",
        "\0",
        "s1\0",
        "\ud800",
    ],
)
def test_hostile_texts_are_refused(text: str) -> None:
    for parse in (StreamToken.parse, RoomToken.parse, TopologicalToken.parse, parse_pagination_token):
        with pytest.raises(InvalidParam):
            parse(text)


@given(st.text(max_size=30) | st.text("smt_~.-0123456789", max_size=30))
@example("m1~1.2")
def test_a_text_is_refused_or_the_only_one_of_its_token(text: str) -> None:
    for parse in (RoomToken.parse, TopologicalToken.parse, parse_pagination_token):
        try:
            token = parse(text)
        except InvalidParam:
            continue
        assert str(token) == text or str(token) == text.split("_")[0]


def test_the_greatest_token_can_be_parsed() -> None:
    top = 2**63 - 1
    room = RoomToken.build(top - 1, {2**31 - 1 - i: top for i in range(MAX_WRITERS)})
    token = StreamToken(room, *[top] * 6)
    assert StreamToken.parse(str(token)) == token


@given(ROOM_TOKENS, POSITIONS)
def test_advancing_adds_one_writers_events_up_to_the_position(
    token: RoomToken, position: RoomPosition
) -> None:
    added = {p for p in ALL_POSITIONS if p.instance == position.instance and p.stream <= position.stream}
    assert seen(token.advance(position)) == seen(token) | added


@given(ROOM_TOKENS, ROOM_TOKENS)
def test_join_is_union_and_meet_is_intersection(left: RoomToken, right: RoomToken) -> None:
    assert seen(left.join(right)) == seen(left) | seen(right)
    assert seen(left.meet(right)) == seen(left) & seen(right)
    assert left.join(right) == right.join(left)
    assert left.meet(right) == right.meet(left)


@given(ROOM_TOKENS, ROOM_TOKENS)
def test_the_order_of_room_tokens_is_inclusion(left: RoomToken, right: RoomToken) -> None:
    assert (left <= right) == (seen(left) <= seen(right))
    assert (left < right) == (seen(left) < seen(right))
    assert (left >= right) == (seen(left) >= seen(right))
    assert (left > right) == (seen(left) > seen(right))
    assert (left == right) == (seen(left) == seen(right))


@given(ROOM_TOKENS, POSITIONS)
def test_nothing_seen_lies_behind_max_stream(token: RoomToken, position: RoomPosition) -> None:
    assert not token.includes(position) or position.stream <= token.max_stream
    assert token.includes(RoomPosition(position.instance, token.stream))
    assert token.includes(position) == (position.stream <= token.stream_of(position.instance))


def test_two_tokens_can_each_have_seen_what_the_other_has_not() -> None:
    left, right = RoomToken.build(5, {1: 9}), RoomToken.build(5, {2: 9})
    assert not left <= right
    assert not right <= left
    assert left.join(right) == RoomToken.build(5, {1: 9, 2: 9})
    assert left.meet(right) == RoomToken(5)


@given(SMALL_STREAM_TOKENS, SMALL_STREAM_TOKENS)
def test_stream_tokens_merge_and_compare_stream_by_stream(left: StreamToken, right: StreamToken) -> None:
    joined, met = left.join(right), left.meet(right)
    assert met <= left <= joined
    assert met <= right <= joined
    assert joined >= right >= met
    assert (left <= right) == (joined == right) == (met == left)
    assert (left < right) == (left <= right and left != right) == (right > left)
    assert joined.to_device == max(left.to_device, right.to_device)
    assert joined.room == left.room.join(right.room)
