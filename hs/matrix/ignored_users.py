"""Whom a user does not want to hear from: m.ignored_user_list. Spec: client-server-api "Ignoring Users"."""

from typing import Any

import msgspec


class _Content(msgspec.Struct):
    ignored_users: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(_Content)


def decode_ignored(content: bytes) -> frozenset[str]:
    """The ignored users; none where the content, which is the client's, has another shape."""
    try:
        return frozenset(_decoder.decode(content).ignored_users)
    except msgspec.DecodeError:
        return frozenset()
