"""Null in an optional field is the same as no such field: some clients write all fields that they know.

Looked at only once a body does not fit, so it costs the others nothing. Only fields that a Struct declares
as optional and not as nullable are taken out: a required field must be there, and where null has a meaning
of its own it keeps it. What a Struct does not describe, such as an event's content, is left as it is.
"""

from typing import Any

import msgspec
from msgspec import inspect


class NullDropper:
    """Takes such nulls out of bodies of one type."""

    def __init__(self, body_type: Any) -> None:
        self._type = inspect.type_info(body_type)

    def drop(self, data: bytes) -> bytes | None:
        """The body without them; None where it has none, or is no JSON."""
        if b"null" not in data:
            return None
        try:
            value = msgspec.json.decode(data)
            return msgspec.json.encode(value) if _drop(value, self._type) else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
            return None


def _drop(value: Any, declared: inspect.Type) -> int:
    """How many were taken out of the value, which is changed in place."""
    if isinstance(declared, inspect.UnionType):
        return sum(_drop(value, one) for one in declared.types)
    if isinstance(value, dict):
        if isinstance(declared, inspect.StructType):
            return sum(_drop_field(value, field) for field in declared.fields)
        if isinstance(declared, inspect.DictType):
            return sum(_drop(item, declared.value_type) for item in value.values())
    elif isinstance(value, list) and isinstance(declared, inspect.ListType | inspect.VarTupleType):
        return sum(_drop(item, declared.item_type) for item in value)
    return 0


def _drop_field(value: dict[str, Any], field: inspect.Field) -> int:
    name = field.encode_name
    if name not in value:
        return 0
    if value[name] is not None:
        return _drop(value[name], field.type)
    if field.required or _admits_null(field.type):
        return 0
    del value[name]
    return 1


def _admits_null(declared: inspect.Type) -> bool:
    if isinstance(declared, inspect.UnionType):
        return any(map(_admits_null, declared.types))
    return isinstance(declared, inspect.NoneType | inspect.AnyType | inspect.RawType)
