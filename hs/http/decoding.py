"""Bodies and queries become the types that endpoints declare; what does not fit is the spec's error.

Everything that can be known of a type is worked out once, when the endpoint is declared.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from hs.http.nulls import NullDropper
from hs.matrix.errors import BadJson, InvalidParam, MissingParam, NotJson
from hs.matrix.json_depth import is_nested_deeper

# More than any client sends; parsing the query of a hostile request costs no more than this.
MAX_QUERY_FIELDS = 100
# Clients nest content a dozen levels deep. What passes here can be encoded again from anywhere, however
# deep the stack is there: Python gives up at 1000 levels of both together.
MAX_DEPTH = 256
# Events of others have as many levels as canonical JSON may have here, and what they came in has some more. A client's
# event must go through to other servers, and no room may hold one for whose sake nobody here can enter it.
MAX_SERVER_DEPTH = 520

Fields = dict[str, list[str]]


def build_body_decoder(body_type: Any, max_depth: int = MAX_DEPTH) -> Callable[[bytes], Any]:
    """Decodes bodies to `body_type`; NotJson, or BadJson with the path of what does not fit."""
    decode = msgspec.json.Decoder(body_type).decode
    nulls = NullDropper(body_type)

    def decode_without_nulls(data: bytes, error: msgspec.ValidationError) -> Any:
        """The body without nulls in optional fields; the error where that is not what is wrong."""
        without = nulls.drop(data)
        if without is None:
            raise BadJson(str(error)) from error
        try:
            return decode(without)
        except msgspec.ValidationError as other:
            raise BadJson(str(other)) from other

    def decode_body(data: bytes) -> Any:
        try:
            # Many endpoints take an empty object as "all defaults", and clients send nothing instead.
            decoded = decode(data or b"{}")
        except msgspec.ValidationError as error:
            decoded = decode_without_nulls(data, error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotJson("the body is not valid JSON") from error
        except RecursionError as error:
            raise BadJson("the body is nested too deeply") from error
        _check_depth(data, max_depth)
        return decoded

    return decode_body


def build_query_decoder(query_type: Any) -> Callable[[Fields], Any]:
    """Converts the fields of a query to `query_type`, a Struct; MissingParam or InvalidParam.

    The last of several values counts, except where the type is a list.
    """
    known = [
        (field.encode_name, getattr(field.type, "__origin__", field.type) in (list, tuple), field.required)
        for field in msgspec.structs.fields(query_type)
    ]
    has_required = any(required for _, _, required in known)

    def decode_query(fields: Fields) -> Any:
        if not fields and not has_required:
            return query_type()
        wanted: dict[str, Any] = {}
        for name, is_list, required in known:
            values = fields.get(name)
            if values is not None:
                wanted[name] = values if is_list else values[-1]
            elif required:
                raise MissingParam(f"the query has no {name}")
        try:
            return msgspec.convert(wanted, query_type, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidParam(str(error)) from error

    return decode_query


def parse_query(raw_query: str) -> Fields:
    """The values of a query string by name, in their order; InvalidParam where it is malformed."""
    if not raw_query:
        return {}
    texts = raw_query.split("&")
    if len(texts) > MAX_QUERY_FIELDS:
        raise InvalidParam("the query string has too many fields")
    fields: Fields = {}
    for text in texts:
        if not text:
            continue
        if "%" in text or "+" in text:
            name, value = _unquote_field(text)
        else:
            # The ordinary case, at a tenth of the cost.
            name, _, value = text.partition("=")
        if "\x00" in value:
            raise InvalidParam("the query string holds a NUL character")
        fields.setdefault(name, []).append(value)
    return fields


def _unquote_field(text: str) -> tuple[str, str]:
    try:
        [field] = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError as error:
        raise InvalidParam("the query string is malformed") from error
    return field


def _check_depth(data: bytes, max_depth: int) -> None:
    if is_nested_deeper(data, max_depth):
        raise BadJson(f"the body is nested deeper than {max_depth} levels")
