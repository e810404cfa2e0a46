"""The rooms that a space names. Spec: client-server-api module "Spaces", m.space.child."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

_ORDER = re.compile(r"[\x20-\x7e]{1,50}")


class ChildEvent(Protocol):
    """An m.space.child event, ours or as another server tells it."""

    @property
    def type(self) -> str: ...
    @property
    def state_key(self) -> str | None: ...
    @property
    def sender(self) -> str: ...
    @property
    def content(self) -> Mapping[str, Any]: ...
    @property
    def origin_server_ts(self) -> int: ...


C = TypeVar("C", bound=ChildEvent)


def list_children(events: Sequence[C], *, suggested_only: bool) -> list[C]:
    """Those of the events that name a room, in the order in which the rooms are shown."""
    valid = [
        event
        for event in events
        if (event.state_key or "").startswith("!") and _is_child(event.content, suggested_only)
    ]
    return sorted(valid, key=_order)


def stripped(child: ChildEvent) -> dict[str, Any]:
    """The event as /hierarchy shows it."""
    return {
        "type": child.type,
        "state_key": child.state_key,
        "sender": child.sender,
        "content": child.content,
        "origin_server_ts": child.origin_server_ts,
    }


def _is_child(content: Mapping[str, Any], suggested_only: bool) -> bool:
    # A child without servers is one that was removed.
    via = content.get("via")
    if not isinstance(via, list) or not via:
        return False
    return not suggested_only or content.get("suggested") is True


def _order(child: ChildEvent) -> tuple[bool, str, int, str]:
    order = child.content.get("order")
    if not isinstance(order, str) or _ORDER.fullmatch(order) is None:
        order = ""
    return not order, order, child.origin_server_ts, child.state_key or ""
