"""What is declared for other servers against the specification's server-server files, and against what is served."""

import re
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
import pytest

import hs.federation_api
from hs.http.endpoint import Auth, Endpoint
from tests import openapi
from tests.fuzz.hostile import list_endpoints
from tests.openapi import without_names
from tests.people import Town

_API = openapi.SPEC / "api" / "server-server"

pytestmark = pytest.mark.skipif(not _API.exists(), reason=f"the specification is not at {_API}")

# Served though no file of the specification has these paths.
BEYOND = {
    # One of our keys by its id, as old servers ask for it.
    "GET /_matrix/key/v2/server/{}",
    "GET /_matrix/key/v2/query/{}/{}",
    # The first version, which the specification has dropped and old servers fall back to.
    "PUT /_matrix/federation/v1/send_join/{}/{}",
    "PUT /_matrix/federation/v1/send_leave/{}/{}",
    # The method that identity servers use.
    "POST /_matrix/federation/v1/3pid/onbind",
    # By the path from before it was accepted.
    "GET /_matrix/federation/unstable/org.matrix.msc3030/timestamp_to_event/{}",
}

# Whoever adds a line here says why it needs no signature.
OPEN_TO_EVERYBODY = {
    # Needed to check signatures.
    "GET /_matrix/key/v2/server",
    "GET /_matrix/key/v2/server/{}",
    "GET /_matrix/key/v2/query/{}",
    "GET /_matrix/key/v2/query/{}/{}",
    "POST /_matrix/key/v2/query",
    # Asked before anything is known of this server.
    "GET /.well-known/matrix/server",
    # Said by the specification.
    "GET /_matrix/federation/v1/version",
    # Said by identity servers, which have no keys; each invite is proven by who has signed it.
    "PUT /_matrix/federation/v1/3pid/onbind",
    "POST /_matrix/federation/v1/3pid/onbind",
    # Proven with the token that it is about; other services ask, which have no keys.
    "GET /_matrix/federation/v1/openid/userinfo",
}


@cache
def operations() -> dict[str, Any]:
    """The operations of the server-server API by method and path, with their parameters of all kinds."""
    found = {}
    for file in sorted(_API.glob("*.yaml")):
        document = openapi.read(file)
        base = document["servers"][0]["variables"]["basePath"]["default"]
        for path, methods in document["paths"].items():
            for method in methods.keys() & {"get", "put", "post", "delete"}:
                node = methods[method]
                parameters = [*methods.get("parameters", []), *node.get("parameters", ())]
                parameters = openapi.expand(parameters, file)
                found[f"{method.upper()} {without_names(_snake(base + path.strip()))}"] = node | {
                    "parameters": parameters,
                    "file": file,
                }
    return found


def _snake(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{x}", path)


def names_of(endpoint: Endpoint) -> list[str]:
    return [f"{endpoint.method} {without_names(path)}" for path in endpoint.paths]


def declared() -> list[Endpoint]:
    return list_endpoints(hs.federation_api)


def test_every_path_is_one_of_the_specification() -> None:
    ours = {name for endpoint in declared() for name in names_of(endpoint)}
    assert ours - set(operations()) <= BEYOND


def test_signatures_are_asked_for_where_the_specification_does() -> None:
    wrong = []
    for endpoint in declared():
        assert endpoint.auth in (Auth.SERVER, Auth.NONE), endpoint.name
        for name in names_of(endpoint):
            operation = operations().get(name)
            if operation is not None and bool(operation.get("security")) != (endpoint.auth is Auth.SERVER):
                wrong.append(name)
    assert not wrong


def test_what_is_open_to_everybody_is_reviewed() -> None:
    found = {name for endpoint in declared() if endpoint.auth is Auth.NONE for name in names_of(endpoint)}
    assert found <= OPEN_TO_EVERYBODY


def test_every_endpoint_has_a_limit() -> None:
    assert {endpoint.name for endpoint in declared() if endpoint.limit is None} <= {"get_version"}


def test_bodies_and_queries_are_those_of_the_specification() -> None:
    wrong = []
    for endpoint in declared():
        fields = msgspec.structs.fields(endpoint.query_type) if endpoint.query_type else ()
        by_name = {field.encode_name: field for field in fields}
        for name in names_of(endpoint):
            operation = operations().get(name)
            if operation is None:
                continue
            if operation.get("requestBody") and endpoint.body_type is None:
                wrong.append(f"{name}: has a body")
            known = {p["name"]: p for p in operation["parameters"] if p["in"] == "query"}
            wrong += [f"{name}: lacks {missing}" for missing in known.keys() - by_name.keys()]
            wrong += [f"{name}: has {more}" for more in by_name.keys() - known.keys()]
    assert not wrong


def test_served_operations_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    done = {name for endpoint in declared() for name in names_of(endpoint)} & set(operations())
    with capsys.disabled():
        sys.stdout.write(f" {len(done)} of {len(operations())} served; `pytest -s` lists them ")
    for name, operation in sorted(operations().items(), key=lambda item: (item[1]["file"].name, item[0])):
        mark = "served" if name in done else "-"
        sys.stdout.write(f"{mark:7}{operation['file'].name:28}{name}\n")
    assert done


async def test_whatever_is_declared_is_served_to_who_signs_only(
    make_local_town: Callable[..., Awaitable[Town]],
) -> None:
    town = await make_local_town()
    for endpoint in declared():
        for path in endpoint.paths:
            url = town.base_url + re.sub(r"\{\w+\}", "x", path)
            body: Any = None if endpoint.method == "GET" else {}
            async with town.session.request(endpoint.method, url, json=body) as answer:
                told = await answer.json()
                if endpoint.auth is Auth.SERVER:
                    assert (answer.status, told["errcode"]) == (401, "M_UNAUTHORIZED"), path
                else:
                    assert told.get("errcode") != "M_UNRECOGNIZED", path
