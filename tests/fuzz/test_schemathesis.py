"""Requests that Schemathesis makes of the specification: each served operation stands them.

For each operation there are all cases of its schema's parts (right and wrong ones, one at a time) and some random
ones. HS_FUZZ_EXAMPLES sets the number of random ones, HS_FUZZ_RANDOM=1 makes other ones each time.
"""

import inspect
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.meta import CoverageScenario, TestPhase

from hs.matrix import errors
from tests import openapi
from tests.fuzz.served_document import request_of, served_document
from tests.fuzz.world import CLIENT, TIMEOUT_S, World
from tests.server_process import ServerProcess

if not openapi.SPEC.exists():
    pytest.skip(f"the specification is not at {openapi.SPEC}", allow_module_level=True)

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

EXAMPLES = int(os.environ.get("HS_FUZZ_EXAMPLES", "15"))
IS_RANDOM = os.environ.get("HS_FUZZ_RANDOM", "") not in ("", "0")

ERRCODES = {
    kind.errcode for _, kind in inspect.getmembers(errors, inspect.isclass) if hasattr(kind, "errcode")
}

# After these, who has called them needs a new token or a new room to get deep again.
SPENDING = {
    f"POST {CLIENT}/logout",
    f"POST {CLIENT}/logout/all",
    f"POST {CLIENT}/account/password",
    f"POST {CLIENT}/account/deactivate",
    f"POST {CLIENT}/delete_devices",
    f"DELETE {CLIENT}/devices/{{}}",
    f"POST {CLIENT}/refresh",
    f"POST {CLIENT}/knock/{{}}",
    f"POST {CLIENT}/register",
    f"POST {CLIENT}/rooms/{{}}/invite",
    f"POST {CLIENT}/rooms/{{}}/unban",
    f"POST {CLIENT}/rooms/{{}}/leave",
    f"POST {CLIENT}/rooms/{{}}/forget",
    f"POST {CLIENT}/rooms/{{}}/upgrade",
    f"DELETE {CLIENT}/directory/room/{{}}",
    f"PUT {CLIENT}/directory/room/{{}}",
    f"DELETE {CLIENT}/pushrules/global/{{}}/{{}}",
}

# What may be said of a body with a wrong or missing member, beside that it is bad JSON.
BAD_MEMBERS = {
    (400, errcode)
    for errcode in ("M_BAD_JSON", "M_INVALID_PARAM", "M_MISSING_PARAM", "M_INVALID_USERNAME", "M_UNKNOWN")
}

# Members of bodies that this server does not look into: inviting by e-mail address needs an identity server.
IGNORED = {"third_party_signed", "invite_3pid"}

# Two operations share the path, and only one of them asks for a room.
OPTIONAL_IN_PROSE = {f"{CLIENT}/events"}


@dataclass
class Sender:
    """Sends the cases of one operation, and judges the answers."""

    server: ServerProcess
    session: requests.Session
    world: World

    def send(self, case: Any) -> None:
        """One request; AssertionError where its answer is not one that the specification allows."""
        method, path, body = request_of(case, self.server.base_url, self.world)
        # Waiting as long as one is asked to is right, so nobody asks for it here.
        path = re.sub(r"(?<=[?&]timeout=)\d{2,}", "5", path)
        token = self.world.admin_token if "/admin/" in path else self.world.token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = requests.Request(method, self.server.base_url, headers=headers, data=body).prepare()
        # As it is: `requests` would unquote some of it.
        request.url = self.server.base_url + path
        answer = self.session.send(request, timeout=TIMEOUT_S, allow_redirects=False)
        self._judge(case, method, path, body, answer)
        name = str(openapi.find_operation(method, path))
        is_gone = answer.status_code == 401 and "UNKNOWN_TOKEN" in answer.text
        if is_gone or (name in SPENDING and answer.status_code == 200):
            self.world.renew()

    def _judge(
        self, case: Any, method: str, path: str, body: bytes | None, answer: requests.Response
    ) -> None:
        shown = f"{method} {path} {body!r}: {answer.status_code} {answer.text[:500]}"
        status = answer.status_code
        assert status < 500, shown
        if method == "OPTIONS":
            return
        openapi.check_headers(path, answer.headers)
        content = answer.json()
        openapi.check(method, path, status, content)
        errcode = content.get("errcode") if status >= 400 else None
        expected = self._expect(case, method, path, body)
        assert expected is None or (status, errcode) in expected, shown
        if status < 400:
            return
        assert errcode in ERRCODES or (status == 401 and "flows" in content), shown

    def _expect(
        self, case: Any, method: str, path: str, body: bytes | None
    ) -> Collection[tuple[int, str]] | None:
        """The errors of which one must come; None where anything may."""
        if openapi.find_operation(method, path) is None and method not in ("PATCH", "TRACE"):
            # A case of some operation that goes somewhere else.
            return None
        if method != case.operation.method.upper():
            return {(405, "M_UNRECOGNIZED")} if method in ("PATCH", "TRACE") else None
        parts = case.meta.components
        wrong = [location.value for location, part in parts.items() if part.mode is GenerationMode.NEGATIVE]
        if "%00" in path:
            # Right for the schema, and no text for anybody else.
            return None
        if wrong == ["body"] and body is not None:
            return _expect_for_body(case, body)
        if wrong == ["query"] and _is_missing_parameter(case):
            return {(400, "M_MISSING_PARAM")}
        return None


def _expect_for_body(case: Any, body: bytes) -> Collection[tuple[int, str]] | None:
    try:
        content = json.loads(body, parse_constant=_refuse)
    except ValueError:
        return {(400, "M_NOT_JSON"), (400, "M_BAD_JSON")}
    if not isinstance(content, dict):
        return {(400, "M_BAD_JSON")}
    description = getattr(case.meta.phase.data, "description", None) or ""
    is_ignored = any(f"{name} " in description or f"{name}:" in description for name in IGNORED)
    if case.meta.phase.name is not TestPhase.COVERAGE or is_ignored or b"null" in body:
        # A random case may be wrong in something that is not looked at; null is as good as nothing.
        return None
    return BAD_MEMBERS


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _is_missing_parameter(case: Any) -> bool:
    scenario = getattr(case.meta.phase.data, "scenario", None)
    return scenario is CoverageScenario.MISSING_PARAMETER and case.operation.path not in OPTIONAL_IN_PROSE


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Connections that are kept."""
    with requests.Session() as session:
        yield session


@pytest.fixture
def sender(
    request: pytest.FixtureRequest, server: ServerProcess, session: requests.Session
) -> Iterator[Sender]:
    """Sends what one test makes; at the end the server is still there and has nothing to complain about."""
    log_before = len(server.read_log())
    name = re.sub("[^a-z]+", "-", request.node.name.lower()).strip("-")
    world = World(server.base_url, name[-60:])
    yield Sender(server, session, world)
    assert session.get(f"{server.base_url}/_matrix/client/versions", timeout=TIMEOUT_S).status_code == 200
    log = server.read_log()[log_before:]
    assert "Traceback" not in log, log[-5000:]


config = SchemathesisConfig.from_dict(
    {"generation": {"mode": "all", "max-examples": EXAMPLES, "deterministic": not IS_RANDOM}}
)
schema = schemathesis.openapi.from_dict(served_document(), config=config)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=not IS_RANDOM,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_operation_stands_what_its_schema_says_and_what_it_forbids(case: Any, sender: Sender) -> None:
    sender.send(case)
