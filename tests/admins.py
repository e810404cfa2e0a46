"""Administrators, as scripts make them: with the shared secret of the server under test."""

import hashlib
import hmac
import itertools
import json

from tests.people import Person, Town

_PATH = "/_synapse/admin/v1/register"
_numbers = itertools.count(1)


async def make_admin(town: Town, secret: str = "only for tests") -> Person:
    """A newly made administrator with one device."""
    nonce = (await town.visitor.raw("GET", _PATH)).body["nonce"]
    name = f"admin-{next(_numbers)}"
    message = "\x00".join([nonce, name, "a secret", "admin"]).encode()
    body = {
        "nonce": nonce,
        "username": name,
        "password": "a secret",
        "admin": True,
        "mac": hmac.new(secret.encode(), message, hashlib.sha1).hexdigest(),
    }
    answer = await town.visitor.raw("POST", _PATH, json.dumps(body).encode())
    assert answer.status == 200, answer
    return Person(town.session, town.base_url, answer.body)
