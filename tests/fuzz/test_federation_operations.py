"""Requests that Schemathesis makes of the server-server specification, signed by a server that is in a room, was in
it, is banned from it, or never was: each served operation stands them.

HS_FUZZ_EXAMPLES sets the number of random ones, HS_FUZZ_RANDOM=1 makes other ones each time.
"""

import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from hs.matrix import errors
from tests import openapi
from tests.certificates import Authority
from tests.federation_api.test_federation_spec import declared, names_of, operations
from tests.federation_town import FederatedProcess
from tests.fuzz.foreign_server import ForeignServer, Rooms, telling_keys
from tests.fuzz.served_document import request_of, with_placeholders
from tests.fuzz.world import TIMEOUT_S, World

if not openapi.SPEC.exists():
    pytest.skip(f"the specification is not at {openapi.SPEC}", allow_module_level=True)

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

EXAMPLES = int(os.environ.get("HS_FUZZ_EXAMPLES", "10"))
IS_RANDOM = os.environ.get("HS_FUZZ_RANDOM", "") not in ("", "0")
ERRCODES = {
    kind.errcode for _, kind in inspect.getmembers(errors, inspect.isclass) if hasattr(kind, "errcode")
}

_ROOMS = ["<entered>", "<gone>", "<banned>", "<closed>"]
_EVENTS = ["<said>", "<secret>"]
_OF_PARAMETERS: dict[str, list[Any]] = {
    "roomId": _ROOMS,
    "eventId": _EVENTS,
    "event_id": _EVENTS,
    "userId": ["<bob>", "<alice>"],
    "user_id": ["<alice>", "<bob>"],
    "room_alias": ["<alias>"],
    "v": [["<said>"], ["<secret>"], ["<said>", "<secret>"]],
    "ver": [["12"], ["1", "12"]],
    "limit": [1, 100, 10**9],
    "ts": [0, 2**53],
}


@cache
def served() -> dict[str, tuple[str, Any]]:
    """By method and template, the operations that are served: "GET /.../{roomId}" to their nodes."""
    ours = {name for endpoint in declared() for name in names_of(endpoint)}
    found = {}
    for name, node in operations().items():
        if name in ours:
            method, _, path = name.partition(" ")
            names = [p["name"] for p in node["parameters"] if p["in"] == "path"]
            assert path.count("{}") == len(names), name
            found[f"{method} {path.format(*('{' + name + '}' for name in names))}"] = (path, node)
    return found


def _document() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for name, (_, node) in sorted(served().items()):
        method, _, template = name.partition(" ")
        parameters = [
            {**parameter, "schema": _or_known(parameter)}
            for parameter in node["parameters"]
            # The request is signed with what is true.
            if parameter["in"] in ("path", "query")
        ]
        described: dict[str, Any] = {"parameters": parameters, "responses": {"200": {"description": ""}}}
        if "requestBody" in node:
            described["requestBody"] = openapi.expand(node["requestBody"], node["file"])
        paths.setdefault(template, {})[method.lower()] = described
    return {"openapi": "3.1.0", "info": {"title": "served", "version": "1"}, "paths": paths}


def _or_known(parameter: dict[str, Any]) -> Any:
    schema = parameter.get("schema", {})
    values = _OF_PARAMETERS.get(parameter["name"])
    return schema if values is None else {"anyOf": [{"enum": with_placeholders(values)}, schema]}


@dataclass
class Sender:
    """Sends the cases of one operation, and judges the answers."""

    foreign: ForeignServer
    known: Rooms

    def send(self, case: Any) -> None:
        """One request; AssertionError where its answer is not one that the specification allows."""
        method, path, body = request_of(case, "https://127.0.0.1", self.known)
        if method not in ("GET", "PUT", "POST"):
            return
        answer = self.foreign.send(method, path, body)
        shown = f"{method} {path} {body!r}: {answer.status_code} {answer.text[:500]}"
        assert answer.status_code < 500, shown
        content = answer.json()
        if answer.status_code >= 400:
            assert content["errcode"] in ERRCODES, shown
            assert isinstance(content["error"], str), shown
            return
        assert answer.status_code == 200, shown
        name = f"{case.operation.method.upper()} {case.operation.path}"
        if method == case.operation.method.upper() and (validator := _validator(name)) is not None:
            wrong = list(openapi.list_errors(validator, content))
            assert not wrong, (shown, wrong)


@cache
def _validator(name: str) -> Any:
    _, node = served()[name]
    answer = openapi.expand(node["responses"]["200"], node["file"])
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return None if schema is None else jsonschema_rs.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def foreign(authority: Authority, federated: FederatedProcess) -> Iterator[ForeignServer]:
    """Another server."""
    with telling_keys(authority) as name, requests.Session() as session:
        session.verify = str(authority.ca_file)
        base_url = f"https://127.0.0.1:{federated.federation_port}"
        yield ForeignServer(name, base_url, federated.server_name, session)


@pytest.fixture(scope="module")
def known(foreign: ForeignServer, federated: FederatedProcess) -> Rooms:
    """Rooms that it is in, and others."""
    return Rooms(World(federated.base_url, "asked"), foreign, federated.base_url)


@pytest.fixture
def sender(
    request: pytest.FixtureRequest, federated: FederatedProcess, foreign: ForeignServer, known: Rooms
) -> Iterator[Sender]:
    """Sends what one test makes; at the end the server is still there and has nothing to complain about."""
    log_before = len(federated.read_log())
    yield Sender(foreign, known)
    url = f"{federated.base_url}/_matrix/client/versions"
    assert requests.get(url, timeout=TIMEOUT_S).status_code == 200
    log = federated.read_log()[log_before:]
    assert "Traceback" not in log, log[-5000:]


config = SchemathesisConfig.from_dict(
    {"generation": {"mode": "all", "max-examples": EXAMPLES, "deterministic": not IS_RANDOM}}
)
schema = schemathesis.openapi.from_dict(_document(), config=config)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=not IS_RANDOM,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_an_operation_stands_whatever_another_server_asks(case: Any, sender: Sender) -> None:
    sender.send(case)
