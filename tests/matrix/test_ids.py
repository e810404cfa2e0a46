import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs.matrix import ids
from hs.matrix.errors import InvalidParam, InvalidUsername

HASH = "Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        # The spec's examples.
        ("matrix.org", "matrix.org", None),
        ("matrix.org:8888", "matrix.org", 8888),
        ("1.2.3.4", "1.2.3.4", None),
        ("1.2.3.4:1234", "1.2.3.4", 1234),
        ("[1234:5678::abcd]", "[1234:5678::abcd]", None),
        ("[1234:5678::abcd]:5678", "[1234:5678::abcd]", 5678),
        ("UPPER-case", "UPPER-case", None),
    ],
)
def test_server_names(text: str, host: str, port: int | None) -> None:
    assert ids.parse_server_name(text) == (host, port)
    assert ids.is_server_name(text)
    assert ids.parse_user_id(f"@a:{text}") == ("a", text)
    assert ids.server_of(f"#alias:{text}") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a_b",
        "a:",
        "a:x",
        "a:123456",
        ":80",
        "[::1",
        "::1",
        "[xyz]",
        "a/b",
        "ä.org",
        "a\n",
        "٣",
        "x" * 256,
        "x" * 251 + ":8888",
    ],
)
def test_what_is_no_server_name(text: str) -> None:
    assert not ids.is_server_name(text)
    for parse in (
        ids.parse_server_name,
        lambda t: ids.parse_user_id(f"@a:{t}"),
        lambda t: ids.server_of(f"@a:{t}"),
    ):
        with pytest.raises(InvalidParam):
            parse(text)


@pytest.mark.parametrize("localpart", ["alice", "", "Alice", "a b", "日本", "a@#$!", "x\n", "a=40_-/+."])
def test_historical_user_ids_are_accepted(localpart: str) -> None:
    # "Servers MUST accept user IDs with localparts consisting of any legal non-surrogate Unicode code points
    # except for : and NUL, including other control characters and the empty string."
    assert ids.parse_user_id(f"@{localpart}:example.org") == (localpart, "example.org")
    assert ids.is_user_id(f"@{localpart}:example.org")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "alice:example.org",
        "@alice",
        "@alice:",
        "#alice:example.org",
        "@a\x00:b",
        "@\ud800:b",
        "@a:b:c:d",
        "@" + "a" * 250 + ":b.org",
        "@" + "ä" * 125 + ":b.org",
    ],
)
def test_what_is_no_user_id(text: str) -> None:
    assert not ids.is_user_id(text)
    with pytest.raises(InvalidParam):
        ids.parse_user_id(text)


def test_anything_but_text_is_no_user_id() -> None:
    assert not any(ids.is_user_id(value) for value in (None, 1, True, ["@a:b"], {}, b"@a:b"))


def test_the_longest_ids_have_255_bytes() -> None:
    assert ids.is_user_id("@" + "a" * 248 + ":b.org")
    assert not ids.is_user_id("@" + "a" * 249 + ":b.org")


def test_only_visible_ascii_is_compliant() -> None:
    assert ids.is_compliant_user_id("@Alice!~:b")
    assert not any(ids.is_compliant_user_id(f"@{local}:b") for local in ("", "a b", "ä", "\x7f"))


@pytest.mark.parametrize("localpart", ["alice", "a", "0", "a.b_c=d-e/f+g", "x" * 242])
def test_new_users_have_strict_names(localpart: str) -> None:
    assert ids.make_user_id(localpart, "example.org") == f"@{localpart}:example.org"


@pytest.mark.parametrize("localpart", ["", "Alice", "a b", "ä", "a:b", "a\n", "x" * 243])
def test_other_names_are_not_given_to_new_users(localpart: str) -> None:
    with pytest.raises(InvalidUsername):
        ids.make_user_id(localpart, "example.org")


def test_room_ids_have_two_forms() -> None:
    assert ids.parse_room_id("!abc:example.org") == ("abc", "example.org")
    # Since v12 a room id is the create event's hash.
    assert ids.parse_room_id("!" + HASH) == (HASH, None)
    # The localpart may look like a hash.
    assert ids.parse_room_id(f"!{HASH}:example.org") == (HASH, "example.org")
    for text in ("!abc", "!" + HASH + "x", "!" + HASH[1:], "$" + HASH, "!a\x00:b"):
        with pytest.raises(InvalidParam):
            ids.parse_room_id(text)


def test_event_ids_have_three_forms() -> None:
    assert ids.parse_event_id("$143273582443PhrSn:example.org") == ("143273582443PhrSn", "example.org")
    assert ids.parse_event_id("$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk").server_name is None
    assert ids.parse_event_id("$" + HASH).server_name is None
    for text in ("$abc", "$", "!" + HASH, f"${HASH}="):
        with pytest.raises(InvalidParam):
            ids.parse_event_id(text)


def test_aliases_take_any_text_before_the_colon() -> None:
    assert ids.parse_room_alias("#some where ä:example.org") == ("some where ä", "example.org")
    for text in ("#a", "a:b", "#" + "ä" * 125 + ":b.org"):
        with pytest.raises(InvalidParam):
            ids.parse_room_alias(text)


def test_opaque_ids() -> None:
    ids.check_opaque_id("aZ0-._~")
    for text in ("", "a b", "ä", "a" * 256, "a\n"):
        with pytest.raises(InvalidParam):
            ids.check_opaque_id(text)


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_no_text_is_a_crash(text: str) -> None:
    for parse in (
        ids.parse_user_id,
        ids.parse_room_id,
        ids.parse_event_id,
        ids.parse_room_alias,
        ids.server_of,
    ):
        for sigil in ("", "@", "!", "$", "#"):
            try:
                parse(sigil + text)
            except InvalidParam:
                pass
