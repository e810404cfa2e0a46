"""JSON as bytes: canonical on the way out, checked on the way in. Spec: appendices "Canonical JSON".

`decode_*` keep integers of any size and read `1.0` and `1e3` as floats, so that what was not canonical
on the wire is found out when it is encoded again.
"""

from typing import Any

import msgspec

from hs._fast import canonical_json
from hs.matrix.errors import BadJson, NotJson
from hs.matrix.room_versions import RoomVersion

CanonicalJsonError = canonical_json.CanonicalJsonError

_decoder = msgspec.json.Decoder(Any)


def encode_canonical(value: Any) -> bytes:
    """Strictly canonical JSON; CanonicalJsonError (a ValueError) where there is none."""
    return canonical_json.encode(value, True)


def encode_for_room(value: Any, version: RoomVersion) -> bytes:
    """Canonical JSON as the room version has it: up to v5 floats and large integers pass."""
    return canonical_json.encode(value, version.strict_json)


def check_canonical(value: Any, version: RoomVersion) -> None:
    """BadJson where the room version does not admit the value into an event.

    Spec: rooms/v6 "Canonical JSON": a 400 M_BAD_JSON on client endpoints.
    """
    try:
        encode_for_room(value, version)
    except CanonicalJsonError as error:
        raise BadJson(str(error)) from error


def decode_json(data: bytes | str) -> Any:
    """The value of a JSON text; NotJson where it is none, or too deep to be read."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson("not valid JSON") from error
    except RecursionError as error:
        raise NotJson("nested too deeply") from error


def decode_object(data: bytes | str) -> dict[str, Any]:
    """The object of a JSON text; BadJson where it holds something else."""
    value = decode_json(data)
    if not isinstance(value, dict):
        raise BadJson("not a JSON object")
    return value
