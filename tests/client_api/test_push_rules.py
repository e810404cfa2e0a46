"""Push rules over HTTP; what they mean is tested with `hs.matrix.push_rules`."""

# ruff: noqa: F401, F811 (fixtures are imported)

import asyncio
from typing import Any

from tests.account_server import AccountServer, accounts, town
from tests.people import Person, Town

RULE = {"actions": ["notify"], "pattern": "cake"}


async def put_content_rule(person: Person, rule_id: str, query: str = "") -> int:
    body = b'{"actions": ["notify"], "pattern": "cake"}'
    url = f"/_matrix/client/v3/pushrules/global/content/{rule_id}{query}"
    return (await person.raw("PUT", url, body)).status


async def own_content_rules(person: Person) -> list[str]:
    rules = (await person.get("pushrules", "")).body["global"]["content"]
    return [rule["rule_id"] for rule in rules if not rule["default"]]


async def test_everybody_starts_with_the_defaults(town: Town) -> None:
    alice = await town.person("alice")
    rules = (await alice.get("pushrules", "")).body
    assert rules["global"]["override"][0]["rule_id"] == ".m.rule.master"
    assert set(rules["global"]) == {"override", "content", "room", "sender", "underride"}
    assert (await alice.get("pushrules")).body == rules
    assert (await alice.get("pushrules", "global", "")).body == rules["global"]
    assert (await alice.get("pushrules", "global")).body == rules["global"]


async def test_rules_are_made_ordered_and_removed(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    assert await put_content_rule(alice, "one") == 200
    assert await put_content_rule(alice, "two", "?after=one") == 200
    assert await put_content_rule(alice, "zero", "?before=one") == 200
    assert await own_content_rules(alice) == ["zero", "one", "two"]
    rule = (await alice.get("pushrules", "global", "content", "one")).body
    assert rule == {"rule_id": "one", "default": False, "enabled": True, **RULE}
    assert (await alice.delete("pushrules", "global", "content", "one")).status == 200
    assert await own_content_rules(alice) == ["zero", "two"]
    assert (await alice.delete("pushrules", "global", "content", "one")).error == (404, "M_NOT_FOUND")
    # Changes wake syncs; the failed one may too.
    assert {user_id for user_id, _ in accounts.account_data_news} == {alice.user_id}
    assert len(accounts.account_data_news) >= 4


async def test_rules_show_up_as_account_data(accounts: AccountServer, town: Town) -> None:
    alice = await town.person("alice")
    await put_content_rule(alice, "cake")
    position = accounts.account_data_news[-1][1]
    changes = await accounts.account_data.list_changes(alice.user_id, position - 1, position)
    assert [change.type for change in changes] == ["m.push_rules"]
    assert b'"cake"' in changes[0].content_json
    assert b".m.rule.master" in changes[0].content_json


async def test_switches_and_actions_of_default_rules(town: Town) -> None:
    alice, bob = await town.people("alice", "bob")
    master = ("pushrules", "global", "override", ".m.rule.master")
    assert (await alice.get(*master, "enabled")).body == {"enabled": False}
    assert (await alice.put(*master, "enabled", body={"enabled": True})).status == 200
    assert (await alice.get(*master, "enabled")).body == {"enabled": True}
    assert (await bob.get(*master, "enabled")).body == {"enabled": False}
    call = ("pushrules", "global", "underride", ".m.rule.call")
    assert (await alice.put(*call, "actions", body={"actions": ["notify"]})).status == 200
    assert (await alice.get(*call, "actions")).body == {"actions": ["notify"]}
    assert (await alice.delete(*call)).error == (404, "M_NOT_FOUND")


async def test_wrong_requests(town: Town) -> None:
    alice = await town.person("alice")
    rule = ("pushrules", "global")
    cases: list[tuple[tuple[str, ...], Any, tuple[int, str]]] = [
        (("content", "x"), {"actions": []}, (400, "M_MISSING_PARAM")),
        (("content", ".x"), RULE, (400, "M_INVALID_PARAM")),
        (("content", "x"), {"pattern": "x"}, (400, "M_BAD_JSON")),
        (("content", "x"), {"actions": ["explode"], "pattern": "x"}, (400, "M_INVALID_PARAM")),
        (("unheard", "x"), {"actions": []}, (400, "M_INVALID_PARAM")),
        (("override", "x", "enabled"), {"enabled": "yes"}, (400, "M_BAD_JSON")),
        (("override", "x", "enabled"), {"enabled": True}, (404, "M_NOT_FOUND")),
        (("override", "x", "actions"), {"actions": []}, (404, "M_NOT_FOUND")),
    ]
    for place, body, error in cases:
        assert (await alice.put(*rule, *place, body=body)).error == error, place
    assert await put_content_rule(alice, "x", "?before=nothing") == 400
    assert (await alice.get(*rule, "override", "x")).error == (404, "M_NOT_FOUND")
    assert (await alice.get(*rule, "unheard", "x")).error == (400, "M_INVALID_PARAM")
    assert await own_content_rules(alice) == []


async def test_concurrent_changes_all_stay(town: Town) -> None:
    alice = await town.person("alice")
    names = [f"rule{n}" for n in range(20)]
    assert set(await asyncio.gather(*(put_content_rule(alice, name) for name in names))) == {200}
    assert sorted(await own_content_rules(alice)) == sorted(names)
