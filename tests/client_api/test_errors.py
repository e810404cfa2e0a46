"""Mistakes that are the same on every endpoint: each has the code that the specification gives it.

All declared endpoints are gone through, so what is served from tomorrow on is covered too.
"""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from hs.http.app import MAX_BODY_BYTES
from hs.http.endpoint import Auth, Endpoint
from tests.fuzz.hostile import list_endpoints
from tests.people import Answer, Person, Town, Visitor

MakeTown = Callable[..., Awaitable[Town]]

ALL = list_endpoints()
WITH_TOKEN = [e for e in ALL if e.auth in (Auth.USER, Auth.LOCKED_USER, Auth.ADMIN)]
WITH_BODY = [e for e in ALL if e.body_type is not None]

# Right in shape, and of nobody.
VALUES = {
    "user_id": "@nobody:test.example",
    "room_id": "!nowhere:test.example",
    "room_id_or_alias": "#nowhere:test.example",
    "alias": "#nowhere:test.example",
    "event_id": "$nothing",
    "scope": "global",
    "kind": "override",
    "rule_id": "org.example.rule",
    "receipt_type": "m.read",
}


def fill(path: str, **values: str) -> str:
    """The path with a value for each of its names."""
    known = VALUES | values
    names = [part.partition("}")[0] for part in path.split("{")[1:]]
    return path.format(**{name: quote(known.get(name, "x"), safe="") for name in names})


async def find_wrong(
    asked: Iterable[tuple[str, Awaitable[Answer]]], is_right: Callable[[Answer], bool]
) -> list[str]:
    """Each request with its answer, where that is not right."""
    gate = asyncio.Semaphore(8)

    async def ask(name: str, coming: Awaitable[Answer]) -> str | None:
        async with gate:
            answer = await coming
        return None if is_right(answer) else f"{name}: {answer.status} {str(answer.body)[:200]}"

    done = await asyncio.gather(*(ask(name, coming) for name, coming in asked))
    return [wrong for wrong in done if wrong is not None]


def every(
    who: Visitor, endpoints: list[Endpoint], data: bytes | None = None, suffix: str = "", **options: Any
) -> Iterator[tuple[str, Awaitable[Answer]]]:
    """A request to each path of each endpoint."""
    for endpoint in endpoints:
        for path in endpoint.paths:
            sent = b"{}" if data is None and endpoint.method != "GET" else data
            yield (
                f"{endpoint.method} {path}",
                who.raw(endpoint.method, fill(path) + suffix, sent, **options),
            )


async def test_who_has_no_token_is_told_so(town: Town) -> None:
    wrong = await find_wrong(
        every(town.visitor, WITH_TOKEN), lambda answer: answer.error == (401, "M_MISSING_TOKEN")
    )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("is_query", [True, False], ids=["query", "header"])
async def test_who_has_a_wrong_token_is_told_so(town: Town, is_query: bool) -> None:
    token = "syt_bm9ib2R5_nobodys"
    if is_query:
        asked = every(town.visitor, WITH_TOKEN, suffix=f"?access_token={token}")
    else:
        asked = every(Visitor(town.session, town.base_url, token), WITH_TOKEN)
    wrong = await find_wrong(asked, lambda answer: answer.error == (401, "M_UNKNOWN_TOKEN"))
    assert not wrong, "\n".join(wrong)


async def test_a_token_in_the_query_is_as_good_as_one_in_the_header(town: Town) -> None:
    """Nothing is said about the token, whatever else is wrong with the requests."""
    asked = []
    for endpoint in WITH_TOKEN:
        # Each has a token of its own: some take it away.
        person = await town.person("query")
        visitor = Visitor(town.session, town.base_url)
        asked += every(visitor, [endpoint], suffix=f"?access_token={person.token}&timeout=0")
    wrong = await find_wrong(asked, lambda answer: answer.errcode != "M_MISSING_TOKEN")
    assert not wrong, "\n".join(wrong)


async def in_own_name(
    town: Town, endpoints: list[Endpoint], data: bytes
) -> list[tuple[str, Awaitable[Answer]]]:
    """A request to each endpoint's first path by somebody who may ask for it, where that is known."""
    person = await town.person("erring")
    room_id = await person.create_room()
    values = {"user_id": person.user_id, "room_id": room_id, "room_id_or_alias": room_id}
    return [
        (f"{e.method} {e.paths[0]}", person.raw(e.method, fill(e.paths[0], **values), data))
        for e in endpoints
        if e.auth is not Auth.ADMIN
    ]


@pytest.mark.parametrize("data", [b"{", b"{'a': 1}", b"\x00", b"a=b"], ids=repr)
async def test_what_is_no_json_is_called_so(town: Town, data: bytes) -> None:
    wrong = await find_wrong(
        await in_own_name(town, WITH_BODY, data), lambda answer: answer.error == (400, "M_NOT_JSON")
    )
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("data", [b"[]", b"null", b'"text"', b"1"], ids=repr)
async def test_json_that_is_no_object_is_bad(town: Town, data: bytes) -> None:
    wrong = await find_wrong(
        await in_own_name(town, WITH_BODY, data), lambda answer: answer.error == (400, "M_BAD_JSON")
    )
    assert not wrong, "\n".join(wrong)


def _required(body_type: Any) -> list[str]:
    is_struct = isinstance(body_type, type) and issubclass(body_type, msgspec.Struct)
    return [f.encode_name for f in msgspec.structs.fields(body_type) if f.required] if is_struct else []


async def test_what_must_be_there_is_missed(town: Town) -> None:
    """M_BAD_JSON, or M_MISSING_PARAM: the specification uses both for this."""
    demanding = [endpoint for endpoint in WITH_BODY if _required(endpoint.body_type)]
    wrong = await find_wrong(
        await in_own_name(town, demanding, b"{}"),
        lambda answer: answer.error in {(400, "M_BAD_JSON"), (400, "M_MISSING_PARAM")},
    )
    assert not wrong, "\n".join(wrong)


async def test_large_bodies_are_refused(town: Town) -> None:
    data = b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}'
    wrong = []
    for endpoint in WITH_BODY:
        asked = await in_own_name(town, [endpoint], io.BytesIO(data))
        wrong += await find_wrong(asked, lambda answer: answer.error == (413, "M_TOO_LARGE"))
    assert not wrong, "\n".join(wrong)


async def test_other_methods_are_refused_and_the_right_ones_named(town: Town) -> None:
    methods: dict[str, set[str]] = {}
    for endpoint in ALL:
        for path in endpoint.paths:
            methods.setdefault(fill(path), set()).add(endpoint.method)
    wrong = []
    for path, right in methods.items():
        for method in {"GET", "PUT", "POST", "DELETE", "PATCH"} - right:
            answer = await town.visitor.raw(method, path)
            allowed = set(answer.headers.get("Allow", "").split(", "))
            if answer.error != (405, "M_UNRECOGNIZED") or not right <= allowed or method in allowed:
                wrong.append(f"{method} {path}: {answer}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_unknown_paths_are_unrecognized(town: Town, method: str) -> None:
    """With and without a token: there is nothing to be authorised for."""
    person = await town.person("lost")
    for who in (town.visitor, person):
        for path in (
            "/_matrix/client/v3/nothing",
            "/_matrix/client/v99/sync",
            "/_matrix/client/unstable/org.example/sync",
            "/_matrix/client/v3/rooms",
            "/_matrix/client/v3/sync/",
            "/_matrix/federation/v1/version/more",
            "/_matrix",
            "/_matrix/",
        ):
            assert (await who.raw(method, path)).error == (404, "M_UNRECOGNIZED"), path


async def test_browsers_may_ask_first_without_a_token_and_nothing_happens(town: Town) -> None:
    person = await town.person("browser")
    room_id = await person.create_room()
    asking = {
        "Origin": "https://client.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for endpoint in ALL:
        path = fill(endpoint.paths[0], room_id=room_id, room_id_or_alias=room_id, user_id=person.user_id)
        for who in (town.visitor, person):
            answer = await who.raw("OPTIONS", path, headers=asking)
            assert answer.status in (200, 204), path
            assert answer.headers["Access-Control-Allow-Origin"] == "*", path
            assert endpoint.method in answer.headers["Access-Control-Allow-Methods"].split(", "), path
            assert "Authorization" in answer.headers["Access-Control-Allow-Headers"], path
    # Neither left, nor logged out.
    assert room_id in (await person.get("joined_rooms")).body["joined_rooms"]


async def test_old_paths_answer_like_the_new_ones(town: Town) -> None:
    """The same request to r0 and v3; what counts up or runs out is not compared."""
    person = await town.person("old")
    room_id = await person.create_room(room_alias_name="old-paths")
    event_id = await person.say(room_id, "hello")
    values = {
        "user_id": person.user_id,
        "room_id": room_id,
        "room_id_or_alias": room_id,
        "event_id": event_id,
        "alias": f"#old-paths:{town.server_name}",
        "device_id": person.device_id,
        "event_type": "m.room.name",
        "field": "displayname",
    }

    async def ask(who: Person, endpoint: Endpoint, path: str) -> tuple[int, Any]:
        answer = await who.raw(endpoint.method, fill(path, **values) + "?dir=b&timeout=0&limit=3")
        if isinstance(answer.body, list):
            return answer.status, [event["event_id"] for event in answer.body]
        return answer.status, answer.errcode or sorted(answer.body)

    compared = 0
    for endpoint in ALL:
        old = [path for path in endpoint.paths if "/client/r0/" in path]
        if endpoint.method == "GET" and old:
            compared += 1
            new = old[0].replace("/client/r0/", "/client/v3/", 1)
            assert await ask(person, endpoint, old[0]) == await ask(person, endpoint, new)
    assert compared > 10


async def test_limits_say_when_to_come_back(make_local_town: MakeTown) -> None:
    once = {"per_second": 0.0001, "burst": 1}
    town = await make_local_town(rate_limits={"enabled": True, "other": once})
    assert (await town.visitor.get("login")).status == 200
    answer = await town.visitor.get("login")
    assert answer.error == (429, "M_LIMIT_EXCEEDED")
    assert answer.body["retry_after_ms"] > 0
    assert int(answer.headers["Retry-After"]) * 1000 >= answer.body["retry_after_ms"] > 0
    # A browser's script sees the header only where it may.
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
