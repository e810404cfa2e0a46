"""Which servers an m.room.server_acl lets in."""

from typing import Any

import pytest

from hs.matrix.server_acl import is_allowed


@pytest.mark.parametrize(
    ("acl", "server_name", "allowed"),
    [
        ({"allow": ["*"]}, "a.example", True),
        ({"allow": ["*"], "deny": ["a.example"]}, "a.example", False),
        ({"allow": ["*"], "deny": ["a.example"]}, "b.example", True),
        ({"allow": ["*"], "deny": ["a.example"]}, "a.example:8448", False),
        ({"allow": ["*"], "deny": ["a.example:8448"]}, "a.example:8448", True),
        ({"allow": ["*"], "deny": ["A.Example"]}, "a.exaMple", False),
        ({"allow": ["*"], "deny": ["*.example"]}, "sub.a.example", False),
        ({"allow": ["*"], "deny": ["*.example"]}, "example", True),
        ({"allow": ["?.example"]}, "a.example", True),
        ({"allow": ["?.example"]}, "ab.example", False),
        ({"allow": ["a.example"]}, "a-example", False),
        ({"allow": ["a.example"]}, "b.example", False),
        # Nobody is allowed who is not listed.
        ({}, "a.example", False),
        ({"deny": []}, "a.example", False),
        ({"allow": []}, "a.example", False),
        # Literals.
        ({"allow": ["*"], "allow_ip_literals": False}, "192.0.2.1", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "192.0.2.1:8448", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "[2001:db8::1]", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "[2001:db8::1]:8448", False),
        ({"allow": ["*"], "allow_ip_literals": False}, "a.example", True),
        ({"allow": ["*"], "allow_ip_literals": False}, "192.0.2.1.example", True),
        ({"allow": ["*"], "allow_ip_literals": True}, "192.0.2.1", True),
        ({"allow": ["*"]}, "192.0.2.1", True),
        ({"allow": ["*"], "allow_ip_literals": "no"}, "192.0.2.1", True),
        # What has another type is not there.
        ({"allow": "*"}, "a.example", False),
        ({"allow": ["*"], "deny": "a.example"}, "a.example", True),
        ({"allow": [5, None, ["*"], "a.example"]}, "a.example", True),
    ],
)
def test_servers(acl: dict[str, Any], server_name: str, allowed: bool) -> None:
    assert is_allowed(acl, server_name) is allowed
