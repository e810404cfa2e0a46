"""A remote that asks; each answer is checked against the specification's schema of its operation."""

from typing import Any

import jsonschema_rs

from tests.federation_api.test_federation_spec import operations
from tests.openapi import expand, list_errors
from tests.remote_server import Answer, RemoteServer

PREFIX = "/_matrix/federation/v1/"


class Asker:
    """One remote's questions to one server."""

    def __init__(self, remote: RemoteServer, server_name: str) -> None:
        self.remote = remote
        self.server_name = server_name

    async def get(self, *parts: str, **query: Any) -> Answer:
        """The answer to GET."""
        answer = await self.remote.ask(self.server_name, "GET", "v1", *parts, query=query)
        _check("GET", parts, answer)
        return answer

    async def post(self, *parts: str, body: Any) -> Answer:
        """The answer to POST."""
        answer = await self.remote.ask(self.server_name, "POST", "v1", *parts, body=body)
        _check("POST", parts, answer)
        return answer


def _check(method: str, parts: tuple[str, ...], answer: Answer) -> None:
    if answer.status >= 400:
        assert answer.body.keys() >= {"errcode", "error"}, answer
        return
    plain = f"{method} {PREFIX}{'/'.join(parts)}"
    filled = f"{method} {PREFIX}{'/'.join([parts[0], *['{}'] * (len(parts) - 1)])}"
    known = operations()
    operation = known.get(plain) or known[filled]
    schema = expand(operation["responses"]["200"], operation["file"])["content"]["application/json"]["schema"]
    wrong = list(list_errors(jsonschema_rs.Draft202012Validator(schema), answer.body))
    assert not wrong, (plain, wrong)
