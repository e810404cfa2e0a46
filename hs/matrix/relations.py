"""How one event refers to another. Spec: client-server-api module "Event relationships"."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

THREAD = "m.thread"
REPLACE = "m.replace"
ANNOTATION = "m.annotation"
REFERENCE = "m.reference"

# The limit of event ids and event types; nothing that is longer can be asked for.
_MAX_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Relation:
    """What `m.relates_to` says: `rel_type` to the event `event_id`; `key` is what an annotation is grouped by."""

    rel_type: str
    event_id: str
    key: str | None = None


def find_relation(content: Mapping[str, Any]) -> Relation | None:
    """The relation that the content declares; None where there is none or it has another shape.

    Rich replies (`m.in_reply_to` alone) are none: they have no rel_type and are never aggregated.
    """
    declared = content.get("m.relates_to")
    if not isinstance(declared, dict):
        return None
    rel_type, event_id, key = declared.get("rel_type"), declared.get("event_id"), declared.get("key")
    if not _is_name(rel_type) or not _is_name(event_id):
        return None
    return Relation(rel_type, event_id, key if isinstance(key, str) else None)


def _is_name(value: object) -> TypeGuard[str]:
    # PostgreSQL's text holds no NUL; lone surrogates cannot be encoded for it.
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_LENGTH or "\x00" in value:
        return False
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
