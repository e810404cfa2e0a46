"""Signatures of requests between servers: the X-Matrix header, taken apart and made, and the bytes that are signed.

Spec: server-server-api "Request Authentication"; RFC 9110 sections 11.4 (credentials) and 5.6 (tokens, quoted
strings, lists).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from signedjson.types import SigningKey

from hs._fast import canonical_json
from hs.matrix.errors import BadJson, NotJson, Unauthorized
from hs.matrix.ids import is_server_name
from hs.matrix.keys import encode_base64, is_key_id, key_id_of

# A server has a handful of keys at most, and signs a request with one; each signature to check costs time.
MAX_SIGNATURES: Final = 4
# Two server names, a key id and a signature take 1,000; unknown parameters are to be ignored.
MAX_HEADER: Final = 4096

_MAX_SIGNATURE: Final = 128
_SCHEME = re.compile(r"x-matrix +", re.IGNORECASE)
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
# Quoted text and what a backslash may stand before: tabs, blanks, visible characters and bytes beyond ASCII.
_PARAMETER = re.compile(
    rf"({_TOKEN}+)[ \t]*=[ \t]*"
    # For old servers: colons need no quotes.
    rf'(?:((?:{_TOKEN}|:)+)|"((?:[\t !#-\[\]-~\x80-\U0010ffff]|\\[\t -~\x80-\U0010ffff])*)")'
)
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)+")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """One X-Matrix header; `destination` is None where an old server has left it out."""

    origin: str
    destination: str | None
    key_id: str
    signature: str


def parse_authorization(header: str) -> RequestSignature | None:
    """What an X-Matrix header says; None for another scheme or a key of an unknown algorithm.

    Raises Unauthorized where it is malformed.
    """
    scheme = _SCHEME.match(header)
    if scheme is None:
        return None
    if len(header) > MAX_HEADER:
        raise Unauthorized("the X-Matrix header is too long")
    values = _parse_parameters(header.rstrip(" \t"), scheme.end())
    # The example and every server say "sig", the list of parameters says "signature".
    signature = values.get("sig", values.get("signature", ""))
    origin, destination, key_id = values.get("origin", ""), values.get("destination"), values.get("key", "")
    if not is_server_name(origin) or not signature or len(signature) > _MAX_SIGNATURE:
        raise Unauthorized("the X-Matrix header has no origin, key or signature")
    if not is_key_id(key_id):
        if ":" in key_id and not key_id.startswith("ed25519:"):
            return None
        raise Unauthorized("the X-Matrix header has no key id")
    return RequestSignature(origin, destination, key_id, signature)


def _parse_parameters(text: str, at: int) -> dict[str, str]:
    """The parameters from `at` on, by their lower-case names."""
    values: dict[str, str] = {}
    if leading := _BETWEEN.match(text, at):  # RFC 9110, 5.6.1: a list may have empty elements.
        at = leading.end()
    while at < len(text):
        found = _PARAMETER.match(text, at)
        if found is None:
            raise Unauthorized("the X-Matrix header is malformed")
        name, token, quoted = found.groups()
        name = name.lower()
        # RFC 9110, 11.2: a parameter comes once. Two readers might choose different ones.
        if name in values:
            raise Unauthorized("the X-Matrix header has a parameter twice")
        values[name] = token if token is not None else _ESCAPED.sub(r"\1", quoted)
        at = found.end()
        if at < len(text):
            comma = _BETWEEN.match(text, at)
            if comma is None:
                raise Unauthorized("the X-Matrix header is malformed")
            at = comma.end()
    return values


def parse_authorizations(headers: Sequence[str], server_name: str) -> list[RequestSignature]:
    """The signatures that a request to `server_name` has, all of one origin.

    Raises Unauthorized where there is none, or one of another origin or for another server.
    """
    if len(headers) > MAX_SIGNATURES:
        raise Unauthorized("too many Authorization headers")
    found = [parsed for header in headers if (parsed := parse_authorization(header)) is not None]
    if not found:
        raise Unauthorized("the request has no X-Matrix signature that can be checked")
    if any(parsed.origin != found[0].origin for parsed in found):
        raise Unauthorized("the signatures are of several servers")
    if any(parsed.destination not in (None, server_name) for parsed in found):
        raise Unauthorized("the request is for another server")
    if found[0].origin == server_name:
        raise Unauthorized("this server sends no requests to itself")
    return found


def format_authorization(signature: RequestSignature) -> str:
    """The header's value, in the form that old servers understand too."""
    return (
        f'X-Matrix origin="{signature.origin}",destination="{signature.destination}",'
        f'key="{signature.key_id}",sig="{signature.signature}"'
    )


def request_bytes(method: str, uri: str, origin: str, destination: str, content: bytes | None) -> bytes:
    """What the signature covers. `uri` is the path with its query, `content` the body's canonical JSON.

    Raises CanonicalJsonError where the texts are no UTF-8.
    """
    rest = canonical_json.encode({"destination": destination, "method": method, "origin": origin, "uri": uri})
    # "content" comes first in the order of keys.
    return rest if content is None else b'{"content":' + content + b"," + rest[1:]


def canonical_content(body: bytes) -> bytes:
    """The canonical JSON of a request's body; NotJson or BadJson where it has none.

    Numbers that canonical JSON forbids are written as other servers write them: device messages have them.
    """
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson("the body is not valid JSON") from error
    except RecursionError as error:
        raise BadJson("the body is nested too deeply") from error
    try:
        return canonical_json.encode(value, strict=False)
    except canonical_json.CanonicalJsonError as error:
        raise BadJson(f"the body has no canonical JSON: {error}") from error


def sign_request(
    method: str, uri: str, origin: str, destination: str, content: bytes | None, signing_key: SigningKey
) -> str:
    """The Authorization header of a request that we make; `content` is its body, canonical JSON."""
    message = request_bytes(method, uri, origin, destination, content)
    signature = encode_base64(signing_key.sign(message).signature)
    return format_authorization(RequestSignature(origin, destination, key_id_of(signing_key), signature))
