"""What endpoints declare: mistakes do not import, and what is open to everybody is listed here for review."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.http.router import Router
from hs.matrix.errors import InvalidParam
from tests.fuzz.hostile import list_endpoints

# Whoever adds a line here says why it needs no token.
OPEN_TO_EVERYBODY = {
    "GET /.well-known/matrix/client",
    "GET /.well-known/matrix/support",
    "GET /_matrix/client/versions",
    "GET /_matrix/client/v3/login",
    "POST /_matrix/client/v3/login",
    # Proven with the refresh token.
    "POST /_matrix/client/v3/refresh",
    "POST /_matrix/client/v3/register",
    "GET /_matrix/client/v3/register/available",
    "GET /_matrix/client/v1/register/m.login.registration_token/validity",
    "GET /_matrix/client/v3/directory/room/{alias}",
    "GET /_matrix/client/v3/directory/list/room/{room_id}",
    # Proven with a MAC.
    "GET /_synapse/admin/v1/register",
    "POST /_synapse/admin/v1/register",
}

# Answers that cost nothing, and those that count against a limit themselves.
UNLIMITED = {
    "GET /.well-known/matrix/client",
    "GET /.well-known/matrix/support",
    "GET /_matrix/client/versions",
    "GET /_synapse/admin/v1/register",
    "POST /_synapse/admin/v1/register",
}

# Anybody gets an answer, who has a token another one: rooms that everybody may enter, knock at or look into.
OPEN_IN_PART = {
    "GET /_matrix/client/v1/room_summary/{room_id_or_alias}",
    "GET /_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}",
    # Other servers are asked for users only.
    "GET /_matrix/client/v3/publicRooms",
    "GET /_matrix/client/v3/profile/{user_id}",
    "GET /_matrix/client/v3/profile/{user_id}/{field}",
}


def test_endpoints_open_to_everybody_are_reviewed() -> None:
    for auth, reviewed in (Auth.NONE, OPEN_TO_EVERYBODY), (Auth.OPTIONAL_USER, OPEN_IN_PART):
        found = {f"{e.method} {e.paths[0]}" for e in list_endpoints() if e.auth is auth}
        assert found == reviewed


def test_endpoints_without_a_limit_are_reviewed() -> None:
    found = {f"{e.method} {e.paths[0]}" for e in list_endpoints() if e.limit is None}
    assert found == UNLIMITED


def test_old_clients_find_every_endpoint_that_r0_had() -> None:
    for declared in list_endpoints():
        path = declared.paths[0]
        if path.startswith("/_matrix/client/v3/"):
            assert path.replace("/v3/", "/r0/", 1) in declared.paths, path


async def _no_caller(self: object, caller: Caller) -> Empty:
    return Empty()


async def _no_origin(self: object, origin: str) -> Empty:
    return Empty()


async def _nothing(self: object) -> Empty:
    return Empty()


async def _extra(self: object, room_id: str, surprise: str) -> Empty:
    return Empty()


@pytest.mark.parametrize(
    ("method", "paths", "auth", "handler"),
    [
        ("PATCH", ("/a",), Auth.NONE, _nothing),
        ("GET", ("/a",), Auth.NONE, _no_caller),
        ("GET", ("/a",), Auth.SERVER, _no_caller),
        ("GET", ("/a",), Auth.USER, _no_origin),
        ("GET", ("/a/{room_id}",), Auth.NONE, _nothing),
        ("GET", ("/a/{room_id}",), Auth.NONE, _extra),
        ("GET", ("/a", "/b/{room_id}"), Auth.NONE, _nothing),
    ],
)
def test_wrong_declarations_do_not_import(
    method: str, paths: tuple[str, ...], auth: Auth, handler: Callable[..., Awaitable[Any]]
) -> None:
    with pytest.raises(TypeError):
        endpoint(method, *paths, auth=auth, limit=None)(handler)


def test_auth_and_limit_must_be_said() -> None:
    with pytest.raises(TypeError):
        endpoint("GET", "/a")  # type: ignore[call-arg]


class _Api:
    @endpoint("GET", "/a/{one}/b", "/x/{one}", auth=Auth.NONE, limit=None)
    async def get_it(self, one: str) -> dict[str, str]:
        """Some endpoint."""
        return {"one": one}


def test_literals_win_and_dead_ends_are_left() -> None:
    router, api = Router(), _Api()
    declared = _Api.get_it.__endpoint__  # type: ignore[attr-defined]
    router.add(declared, api.get_it)
    found = router.find("/a/b/b")
    assert found is not None
    assert found.values == ("b",)
    assert router.find("/a/b") is None
    assert router.find("/a/b/b/") is None
    with pytest.raises(InvalidParam):
        router.find("/x/%FF")
    with pytest.raises(ValueError, match="twice"):
        router.add(declared, api.get_it)
