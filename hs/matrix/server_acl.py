"""Which servers a room lets take part. Spec: client-server-api module "Server Access Control Lists"."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hs.matrix.globs import whole_matcher
from hs.matrix.ids import parse_server_name

_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")


def is_allowed(acl: Mapping[str, Any], server_name: str) -> bool:
    """Whether the content of an m.room.server_acl lets the server in; what in it has the wrong type is not there."""
    host = parse_server_name(server_name).host.lower()
    is_literal = host.startswith("[") or _IPV4.fullmatch(host) is not None
    if is_literal and acl.get("allow_ip_literals") is False:
        return False
    return not _matches(acl.get("deny"), host) and _matches(acl.get("allow"), host)


def _matches(patterns: object, host: str) -> bool:
    listed: Iterable[object] = patterns if isinstance(patterns, list) else ()
    return any(whole_matcher(pattern.lower())(host) for pattern in listed if isinstance(pattern, str))
