"""X-Matrix headers and the signatures of requests; signedjson is the oracle of what is signed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from signedjson.key import get_verify_key
from signedjson.sign import sign_json as peer_sign_json

from hs.matrix.errors import BadJson, NotJson, Unauthorized
from hs.matrix.keys import signing_key_from_seed, verify_bytes
from hs.matrix.request_auth import (
    MAX_HEADER,
    RequestSignature,
    canonical_content,
    format_authorization,
    parse_authorization,
    parse_authorizations,
    request_bytes,
    sign_request,
)

KEY = signing_key_from_seed("key1", b"\x01" * 32)
SIGNATURE = "ABCDEF"
EXPECTED = RequestSignature("origin.hs.example.com", "destination.hs.example.com", "ed25519:key1", SIGNATURE)
# The specification's own example, its signature shortened.
EXAMPLE = (
    'X-Matrix origin="origin.hs.example.com",destination="destination.hs.example.com",'
    'key="ed25519:key1",sig="ABCDEF"'
)


@pytest.mark.parametrize(
    "header",
    [
        EXAMPLE,
        EXAMPLE.replace('"', ""),
        EXAMPLE.replace("X-Matrix ", "x-mAtRiX    "),
        EXAMPLE.replace(",", " \t,\t "),
        EXAMPLE.replace(",", ",,, ,"),
        EXAMPLE.replace("X-Matrix ", "X-Matrix ,") + ",",
        EXAMPLE.replace("origin=", "ORIGIN=").replace("sig=", "Sig="),
        EXAMPLE.replace("=", " = "),
        EXAMPLE.replace("origin.hs", "\\origin\\.hs"),
        EXAMPLE.replace("sig=", "signature="),
        EXAMPLE + ',later="a,b=\\"c\\"",empty=""',
        'X-Matrix sig="ABCDEF",key=ed25519:key1,destination=destination.hs.example.com,origin=origin.hs.example.com',
        EXAMPLE + "  ",
    ],
)
def test_all_forms_of_a_header_say_the_same(header: str) -> None:
    assert parse_authorization(header) == EXPECTED


def test_old_servers_leave_the_destination_out() -> None:
    parsed = parse_authorization('X-Matrix origin=a.example:8448,key="ed25519:a_1",sig="a/b+c"')
    assert parsed == RequestSignature("a.example:8448", None, "ed25519:a_1", "a/b+c")


@pytest.mark.parametrize("header", ["", "Bearer token", "X-Matrix", "X-MatrixA origin=a", "Basic X-Matrix"])
def test_other_schemes_are_no_signatures(header: str) -> None:
    assert parse_authorization(header) is None
    with pytest.raises(Unauthorized):
        parse_authorizations([header], "here.example")


def test_a_key_of_another_algorithm_is_no_signature() -> None:
    assert parse_authorization(EXAMPLE.replace("ed25519", "ed448")) is None


@pytest.mark.parametrize(
    "header",
    [
        "X-Matrix ",
        "X-Matrix ,,,",
        "X-Matrix origin",
        "X-Matrix =",
        EXAMPLE + '"',
        EXAMPLE + ' more="x"',
        EXAMPLE + ',more="x',
        EXAMPLE + ',more="\\"',
        EXAMPLE + ",more=a b",
        EXAMPLE + ",more=a/b",
        EXAMPLE + ',more="\x00"',
        EXAMPLE + ',more="\r\n"',
        EXAMPLE + "; more=x",
        EXAMPLE + ',origin="other.example"',
        EXAMPLE + ',ORIGIN="origin.hs.example.com"',
        EXAMPLE.replace("origin.hs.example.com", ""),
        EXAMPLE.replace("origin.hs.example.com", "a b"),
        EXAMPLE.replace("origin.hs.example.com", "☃.example"),
        EXAMPLE.replace("origin.hs.example.com", "a.example/path"),
        EXAMPLE.replace("key1", ""),
        EXAMPLE.replace("key1", "key-1"),
        EXAMPLE.replace("ed25519:key1", "nothing"),
        EXAMPLE.replace(SIGNATURE, ""),
        EXAMPLE.replace(SIGNATURE, "A" * 129),
        EXAMPLE + ",more=" + "x" * MAX_HEADER,
        EXAMPLE + "," * MAX_HEADER,
        EXAMPLE.replace("origin=", "\udcff="),
    ],
)
def test_malformed_headers_are_refused(header: str) -> None:
    with pytest.raises(Unauthorized):
        parse_authorization(header)


names = st.from_regex(r"[a-z0-9.-]{1,40}(:[0-9]{1,5})?", fullmatch=True)
key_ids = st.from_regex(r"ed25519:[a-zA-Z0-9_]{1,20}", fullmatch=True)
signatures = st.from_regex(r"[A-Za-z0-9+/]{1,90}", fullmatch=True)


@given(st.builds(RequestSignature, names, names, key_ids, signatures))
def test_what_we_write_is_what_is_read(signature: RequestSignature) -> None:
    assert parse_authorization(format_authorization(signature)) == signature


@given(
    st.builds(RequestSignature, names, names | st.none(), key_ids, signatures),
    st.permutations(range(5)),
    st.integers(0, 2**40),
)
def test_order_quotes_and_blanks_make_no_difference(
    signature: RequestSignature, order: list[int], choices: int
) -> None:
    values = {"origin": signature.origin, "key": signature.key_id, "sig": signature.signature, "x": "☃, =\\"}
    if signature.destination is not None:
        values["destination"] = signature.destination
    parts = []
    for name, value in values.items():
        choices, style = divmod(choices, 3)
        is_token = not set(value) & set("/☃")
        if style == 0 and is_token:
            text = value
        elif style == 1:
            text = '"' + "".join("\\" + c for c in value) + '"'
        else:
            text = '"' + value.replace("\\", "\\\\") + '"'
        parts.append((name.upper() if choices % 2 else name) + "=" + text)
    arranged = [parts[i] for i in order if i < len(parts)]
    header = "X-Matrix " + ("\t, " if choices % 5 else ",").join(arranged)
    assert parse_authorization(header) == signature


@given(st.text(max_size=60))
def test_any_text_is_a_signature_or_refused(text: str) -> None:
    for header in (text, "X-Matrix " + text, EXAMPLE + "," + text):
        try:
            parse_authorization(header)
        except Unauthorized:
            pass


# --- several headers -------------------------------------------------------------------------------


def test_several_signatures_are_of_one_origin_for_us() -> None:
    second = EXAMPLE.replace("key1", "key2")
    parsed = parse_authorizations([EXAMPLE, "Bearer x", second], "destination.hs.example.com")
    assert [one.key_id for one in parsed] == ["ed25519:key1", "ed25519:key2"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [EXAMPLE, EXAMPLE.replace("origin.hs", "other")],
        [EXAMPLE.replace("destination.hs", "other")],
        [EXAMPLE, EXAMPLE.replace("destination.hs", "other")],
        [EXAMPLE.replace("destination.hs.example.com", "DESTINATION.hs.example.com")],
        [EXAMPLE.replace("destination.hs.example.com", "")],
        [EXAMPLE.replace("origin.hs", "destination.hs")],
        [EXAMPLE] * 5,
        [EXAMPLE, EXAMPLE + '"'],
    ],
)
def test_signatures_for_somebody_else_or_of_several_are_refused(headers: list[str]) -> None:
    with pytest.raises(Unauthorized):
        parse_authorizations(headers, "destination.hs.example.com")


# --- what is signed --------------------------------------------------------------------------------

contents = st.none() | st.dictionaries(
    st.text(max_size=5), st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5), max_size=4
)


@given(st.sampled_from(["GET", "PUT", "POST"]), st.text(max_size=20), contents)
def test_signatures_are_those_of_the_reference(
    method: str, path: str, content: dict[str, object] | None
) -> None:
    uri = "/_matrix/" + path
    signed = {"method": method, "uri": uri, "origin": "a.example", "destination": "b.example"}
    if content is not None:
        signed["content"] = content  # type: ignore[assignment]
    expected = peer_sign_json(dict(signed), "a.example", KEY)["signatures"]["a.example"]["ed25519:key1"]
    body = None if content is None else canonical_content(json.dumps(content).encode())
    parsed = parse_authorization(sign_request(method, uri, "a.example", "b.example", body, KEY))
    assert parsed == RequestSignature("a.example", "b.example", "ed25519:key1", expected)
    verify_bytes(request_bytes(method, uri, "a.example", "b.example", body), expected, get_verify_key(KEY))


def test_content_is_canonical_whatever_the_body_looks_like() -> None:
    assert (
        canonical_content(b' {"b": 1, "a": [1.5, 1e2, "\\u2603"]} ') == '{"a":[1.5,100.0,"☃"],"b":1}'.encode()
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"a":NaN}', b'"\\ud800"x'])
def test_a_body_that_is_no_json(body: bytes) -> None:
    with pytest.raises(NotJson):
        canonical_content(body)


@pytest.mark.parametrize("body", [b"[" * 600 + b"]" * 600, b"[" * 50_000 + b"]" * 50_000])
def test_a_body_that_is_nested_too_deeply(body: bytes) -> None:
    with pytest.raises(BadJson):
        canonical_content(body)
