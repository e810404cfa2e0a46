"""GET /versions, discovery and capabilities."""

# ruff: noqa: F401, F811 (fixtures are imported)

from tests.account_server import accounts, town
from tests.people import Town


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
