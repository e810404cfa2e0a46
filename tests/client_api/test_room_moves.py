"""What users have set for a room goes with them to the one that replaces it."""

from tests.people import Person, Town


async def set_up(person: Person, room_id: str) -> None:
    for kind in ("override", "room"):
        conditions = [{"kind": "event_match", "key": "room_id", "pattern": room_id}]
        body = {"actions": [], **({"conditions": conditions} if kind == "override" else {})}
        answer = await person.put("pushrules", "global", kind, room_id, body=body)
        assert answer.status == 200, answer
    tag = await person.put(
        "user",
        person.user_id,
        "rooms",
        room_id,
        "account_data",
        "m.tag",
        body={"tags": {"u.work": {"order": 0.5}}},
    )
    assert tag.status == 200, tag
    direct = {"@friend:example.org": [room_id, "!other:example.org"], "odd": {"not": "a list"}}
    answer = await person.put("user", person.user_id, "account_data", "m.direct", body=direct)
    assert answer.status == 200


async def assert_same(person: Person, old: str, new: str) -> None:
    rules = (await person.get("pushrules", "")).body["global"]
    [override] = [rule for rule in rules["override"] if rule["rule_id"] == new]
    assert override["conditions"][0]["pattern"] == new
    assert {rule["rule_id"] for rule in rules["room"]} == {old, new}
    assert (await person.get("user", person.user_id, "rooms", new, "account_data", "m.tag")).body["tags"] == {
        "u.work": {"order": 0.5}
    }
    direct = (await person.get("user", person.user_id, "account_data", "m.direct")).body
    assert direct == {"@friend:example.org": [old, "!other:example.org", new], "odd": {"not": "a list"}}


async def test_whoever_upgrades_and_whoever_follows_keep_their_settings(town: Town) -> None:
    anna, ben = await town.people("anna", "ben")
    old = await anna.create_room(preset="public_chat", room_version="10")
    await ben.join(old)
    for person in (anna, ben):
        await set_up(person, old)
    new = (await anna.post("rooms", old, "upgrade", body={"new_version": "11"})).body["replacement_room"]
    await assert_same(anna, old, new)
    for _ in range(2):
        await ben.join(new)
        await assert_same(ben, old, new)
        assert (await ben.post("rooms", new, "leave")).status == 200


async def test_a_room_that_replaces_none_gets_nothing(town: Town) -> None:
    anna = await town.person("anna")
    odd = await anna.create_room(preset="public_chat", creation_content={"predecessor": {"room_id": 7}})
    ben = await town.person("ben")
    await ben.join(odd)
    assert (await ben.get("pushrules", "global", "room")).status in (200, 404)
    assert (await ben.sync())["rooms"]["join"].keys() == {odd}
