"""Every served endpoint stands what a hostile client sends: no 5xx, no hang, errors in the spec's shape."""

import asyncio
import inspect
from itertools import islice
from urllib.parse import quote

import pytest

from hs.http.endpoint import Endpoint
from hs.matrix import errors
from tests.fuzz.hostile import bodies_for, list_endpoints, paths_for, queries_for
from tests.people import Answer, Person, Town
from tests.server_process import ServerProcess

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

ERRCODES = {
    kind.errcode for _, kind in inspect.getmembers(errors, inspect.isclass) if hasattr(kind, "errcode")
}

# The longest any answer may take on a busy machine; a hang is longer.
TIMEOUT_S = 60
CONCURRENT = 8
# Enough for every value in every field of the endpoints there are; what has more gets the first ones.
MAX_REQUESTS = 900


def check(answer: Answer, request: str) -> None:
    """The answer is one that the spec allows for bad input."""
    assert answer.status < 500, (request, answer)
    kind = answer.headers.get("Content-Type", "")
    assert kind.startswith("application/json"), (request, kind, answer)
    assert isinstance(answer.body, dict | list), (request, answer)
    if answer.status >= 400:
        # 401 of the interactive registration describes its flows; it has an errcode only after a failed stage.
        is_flow = answer.status == 401 and "flows" in answer.body
        assert is_flow or answer.body.get("errcode") in ERRCODES, (request, answer)
        assert is_flow or isinstance(answer.body.get("error"), str), (request, answer)


async def make_known(person: Person) -> dict[str, str]:
    """Right values for the parameters of paths, so that one wrong value at a time is judged."""
    room_id = await person.create_room()
    event_id = await person.say(room_id, "target")
    known = {
        "room_id": room_id,
        "room_id_or_alias": room_id,
        "user_id": person.user_id,
        "event_id": event_id,
        "event_type": "org.example.type",
        "type": "org.example.type",
        "state_key": "key",
        "txn_id": "txn",
        "alias": "#unheardof:test.example",
        "device_id": person.device_id,
        "scope": "global",
        "kind": "override",
        "rule_id": "org.example.rule",
    }
    return {name: quote(value, safe="") for name, value in known.items()}


@pytest.mark.parametrize("endpoint", list_endpoints(), ids=lambda e: f"{e.method} {e.paths[0]}")
async def test_bad_input_is_answered_with_an_error_of_the_spec(
    town: Town, server: ServerProcess, endpoint: Endpoint
) -> None:
    log_before = len(server.read_log())
    person = await town.person("fuzz")
    known = await make_known(person)
    good_path = endpoint.paths[0].format(**{name: known.get(name, "x") for name in endpoint.path_names})
    requests = [
        *((path, b"{}") for path in paths_for(endpoint, known)),
        *((good_path + query, b"{}") for query in queries_for(endpoint)),
        *((good_path, body) for body in bodies_for(endpoint)),
    ]
    gate = asyncio.Semaphore(CONCURRENT)

    async def throw(path: str, body: bytes) -> None:
        nonlocal person
        async with gate, asyncio.timeout(TIMEOUT_S):
            data = None if endpoint.method == "GET" and body in (b"", b"{}") else body
            answer = await person.raw(endpoint.method, path, data)
            check(answer, f"{endpoint.method} {path[:300]} {body[:300]!r}")
            if answer.errcode == "M_UNKNOWN_TOKEN":
                # The endpoint has logged the person out, as it should.
                person = await town.person("fuzz")

    await asyncio.gather(*(throw(path, body) for path, body in islice(requests, MAX_REQUESTS)))
    assert (await town.visitor.get("login")).status == 200
    log = server.read_log()[log_before:]
    assert "Traceback" not in log, log[-5000:]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_every_method_on_every_path_has_an_answer(town: Town, method: str) -> None:
    paths = {path for endpoint in list_endpoints() for path in endpoint.paths}
    for path in sorted(paths):
        url = path.replace("{", "").replace("}", "")
        answer = await town.visitor.raw(method, url, headers={"Origin": "https://client.example"})
        assert answer.status < 500, (method, path, answer)
        if method == "PATCH":
            assert answer.error == (405, "M_UNRECOGNIZED"), (path, answer)
