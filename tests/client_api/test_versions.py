"""GET /versions, discovery and capabilities."""

# ruff: noqa: F401, F811 (fixtures are imported)

from collections.abc import Awaitable, Callable

from tests.account_server import accounts, town
from tests.people import Town
from tests.server_fixtures import make_local_town


async def test_versions_are_those_that_clients_need(town: Town) -> None:
    answer = await town.visitor.raw("GET", "/_matrix/client/versions")
    assert answer.status == 200
    assert "v1.1" in answer.body["versions"]


async def test_discovery_leads_to_where_it_was_asked(town: Town) -> None:
    answer = await town.visitor.raw("GET", "/.well-known/matrix/client")
    assert answer.body == {"m.homeserver": {"base_url": town.base_url}}
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_capabilities_list_all_room_versions(town: Town) -> None:
    alice = await town.person("alice")
    capabilities = (await alice.get("capabilities")).body["capabilities"]
    assert capabilities["m.room_versions"]["default"] == "12"
    assert set(capabilities["m.room_versions"]["available"]) == {str(n) for n in range(1, 13)}
    assert (await town.visitor.get("capabilities")).error == (401, "M_MISSING_TOKEN")


async def test_nobody_is_named_who_was_not_configured(town: Town) -> None:
    answer = await town.visitor.raw("GET", "/.well-known/matrix/support")
    assert answer.error == (404, "M_NOT_FOUND")


async def test_a_configured_address_is_told_instead(make_local_town: Callable[..., Awaitable[Town]]) -> None:
    support = {"page": "https://example.org/help", "admin_matrix_id": "@ops:local.example"}
    town = await make_local_town(
        public_base_url="https://matrix.local.example/",
        support={**support, "security_email": "security@local.example"},
    )
    server = {"m.homeserver": {"base_url": "https://matrix.local.example"}}
    assert (await town.visitor.raw("GET", "/.well-known/matrix/client")).body == server
    alice = await town.person("alice")
    name = alice.user_id[1:].partition(":")[0]
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": f"{name} has a secret",
    }
    assert (await town.visitor.post("login", body=login)).body["well_known"] == server
    answer = await town.visitor.raw("GET", "/.well-known/matrix/support")
    assert answer.body == {
        "support_page": "https://example.org/help",
        "contacts": [
            {"role": "m.role.admin", "matrix_id": "@ops:local.example"},
            {"role": "m.role.security", "email_address": "security@local.example"},
        ],
    }
