"""What is declared against the specification's OpenAPI files: paths, methods, authentication, bodies, queries."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import pytest

from hs.http.endpoint import Auth, Endpoint
from tests import openapi
from tests.fuzz.hostile import list_endpoints
from tests.openapi import without_names

pytestmark = pytest.mark.skipif(
    not openapi.SPEC.exists(), reason=f"the specification is not at {openapi.SPEC}"
)

# Served though no file of the specification has these paths.
BEYOND = {
    # With an empty state key; the prose says that the slash before it may be left out.
    "GET /_matrix/client/v3/rooms/{}/state/{}",
    "PUT /_matrix/client/v3/rooms/{}/state/{}",
    # Without a transaction id, as peers take it: scripts and older test suites do.
    "POST /_matrix/client/v3/rooms/{}/send/{}",
    "POST /_matrix/client/v3/rooms/{}/redact/{}",
    # By the paths from before they were accepted; since then they are of v1.
    "GET /_matrix/client/unstable/org.matrix.msc3030/rooms/{}/timestamp_to_event",
    "GET /_matrix/client/unstable/im.nheko.summary/summary/{}",
    "GET /_matrix/client/unstable/im.nheko.summary/rooms/{}/summary",
    "GET /_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
    # Clients leave the last slash out.
    "GET /_matrix/client/v3/pushrules",
    "GET /_matrix/client/v3/pushrules/global",
}

# The token may be missing there for who proves an e-mail address, which nobody can here.
STRICTER = {"POST /_matrix/client/v3/account/password", "POST /_matrix/client/v3/account/deactivate"}
# The prose allows to leave the token out.
LOOSER = {"GET /_matrix/client/v1/room_summary/{}"}

# Query parameters that served operations know by the name they had before, too.
OLD_QUERIES = {
    "POST /_matrix/client/v3/join/{}: server_name",
    "POST /_matrix/client/v3/knock/{}: server_name",
    "GET /_matrix/client/v3/sync: org.matrix.msc4222.use_state_after",
    "GET /_matrix/client/v1/rooms/{}/relations/{}: org.matrix.msc3981.recurse",
    "GET /_matrix/client/v1/rooms/{}/relations/{}/{}: org.matrix.msc3981.recurse",
    "GET /_matrix/client/v1/rooms/{}/relations/{}/{}/{}: org.matrix.msc3981.recurse",
}


_OLD_PREFIX = re.compile(r"/client/(r0|unstable/uk\.tcpip\.msc4133)/")


@dataclass(frozen=True)
class Operation:
    """An operation of the specification; the names in its path are left out."""

    method: str
    path: str
    file: str
    needs_token: bool
    body: Any
    queries: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@cache
def operations() -> dict[tuple[str, str], Operation]:
    """All operations of the client-server API, by method and path."""
    found = {}
    for key, described in openapi.operations().items():
        security = described.node.get("security", [])
        parameters = openapi.expand(described.node["parameters"], described.file)
        found[key] = Operation(
            *key,
            described.file.name,
            needs_token=bool(security) and {} not in security,
            body=openapi.expand(described.node.get("requestBody"), described.file),
            queries={p["name"]: p for p in parameters if p["in"] == "query"},
        )
    return found


def served() -> Iterator[tuple[Endpoint, Operation]]:
    """Each declared endpoint that the specification has, with its operation."""
    for endpoint in list_endpoints():
        for path in endpoint.paths:
            operation = operations().get((endpoint.method, without_names(path)))
            if operation is not None:
                yield endpoint, operation


def test_every_path_is_one_of_the_specification() -> None:
    declared = {f"{e.method} {without_names(path)}" for e in list_endpoints() for path in e.paths}
    # Prefixes that v3 had before version 1.1, and that profiles with any field had before they were
    # accepted; what is ours alone says so in its path.
    current = {_OLD_PREFIX.sub("/client/v3/", text, 1) for text in declared if "/_synapse/" not in text}
    assert current - set(map(str, operations().values())) == BEYOND


def test_tokens_are_asked_for_where_the_specification_does() -> None:
    wrong = []
    for endpoint, operation in served():
        asks = endpoint.auth in (Auth.USER, Auth.LOCKED_USER, Auth.ADMIN)
        if asks != operation.needs_token and str(operation) not in STRICTER | LOOSER:
            wrong.append(f"{operation}: {endpoint.auth.name}, security in {operation.file} differs")
    assert not wrong, "\n".join(wrong)


def test_bodies_are_read_where_the_specification_has_them() -> None:
    wrong = [
        f"{operation}: the specification has {'a' if operation.body else 'no'} body"
        for endpoint, operation in served()
        if operation.body and endpoint.body_type is None
    ]
    assert not wrong, "\n".join(wrong)


def test_queries_have_the_fields_of_the_specification() -> None:
    missing: dict[str, set[str]] = {}
    invented = []
    for endpoint, operation in served():
        fields = msgspec.structs.fields(endpoint.query_type) if endpoint.query_type else ()
        by_name = {field.encode_name: field for field in fields}
        if lacking := set(operation.queries) - set(by_name):
            missing[str(operation)] = lacking
        for name, declared in by_name.items():
            described = operation.queries.get(name)
            if described is None:
                invented.append(f"{operation}: {name}")
            elif declared.required and not described.get("required"):
                invented.append(f"{operation}: {name} is not required")
    assert not missing
    assert set(invented) == OLD_QUERIES


def test_served_operations_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    done = {str(operation) for _, operation in served()}
    with capsys.disabled():
        sys.stdout.write(f" {len(done)} of {len(operations())} served; `pytest -s` lists them ")
    by_file = sorted(operations().values(), key=lambda o: (o.file, o.path, o.method))
    for operation in by_file:
        mark = "served" if str(operation) in done else "-"
        sys.stdout.write(f"{mark:7}{operation.file:32}{operation}\n")
    assert done
