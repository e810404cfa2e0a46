"""matrix-js-sdk goes through the groups of the client API, one script each, against the real server process."""

from typing import Any

import pytest

from tests.conversation.conftest import MakeJs
from tests.js_client import JsClient, JsError

pytestmark = pytest.mark.interop


async def meet(first: JsClient, second: JsClient, **options: Any) -> str:
    """A room that the first has made and the second has joined; both have seen it."""
    options.setdefault("preset", "private_chat")
    room_id: str = (await first.call("createRoom", {"invite": [second.user_id], **options}))["room_id"]
    await second.do("waitForMembership", roomId=room_id, membership="invite")
    await second.call("joinRoom", room_id)
    await second.do("waitForMembership", roomId=room_id, membership="join")
    await first.do("waitForRoom", roomId=room_id, wanted={"joined": 2})
    return room_id


async def test_accounts_and_devices(js_user: MakeJs) -> None:
    anna = await js_user("jsg-account")
    assert (await anna.call("whoami"))["user_id"] == anna.user_id
    assert "v1.1" in (await anna.call("getVersions"))["versions"]
    assert (await anna.call("getCapabilities"))["m.change_password"]["enabled"]
    [device] = (await anna.call("getDevices"))["devices"]
    await anna.call("setDeviceDetails", device["device_id"], {"display_name": "the only one"})
    assert (await anna.call("getDevice", device["device_id"]))["display_name"] == "the only one"
    with pytest.raises(JsError) as asked:
        await anna.call("deleteDevice", device["device_id"])
    assert asked.value.status == 401
    await anna.call("logout", True)
    with pytest.raises(JsError) as gone:
        await anna.call("whoami")
    assert gone.value.errcode == "M_UNKNOWN_TOKEN"


async def test_profiles(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-face"), await js_user("jsg-onlooker")
    room_id = await meet(anna, ben)
    await anna.call("setDisplayName", "Anna of the Script")
    await anna.call("setAvatarUrl", "mxc://example.org/js")
    profile = await ben.call("getProfileInfo", anna.user_id)
    assert profile == {"displayname": "Anna of the Script", "avatar_url": "mxc://example.org/js"}
    await ben.do(
        "waitForEvent",
        roomId=room_id,
        type="m.room.member",
        sender=anna.user_id,
        content={"avatar_url": "mxc://example.org/js"},
    )
    assert await anna.call("doesServerSupportExtendedProfiles")
    await anna.call("setExtendedProfileProperty", "m.tz", "Europe/Berlin")
    assert await ben.call("getExtendedProfileProperty", anna.user_id, "m.tz") == "Europe/Berlin"
    await anna.call("deleteExtendedProfileProperty", "m.tz")
    assert "m.tz" not in await ben.call("getExtendedProfile", anna.user_id)


async def test_rooms_their_state_and_their_members(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-host"), await js_user("jsg-guest")
    room_id = await meet(anna, ben, name="Hall")
    await anna.call("setRoomName", room_id, "Great Hall")
    await ben.do("waitForRoom", roomId=room_id, wanted={"name": "Great Hall"})
    await anna.call("setPowerLevel", room_id, ben.user_id, 50)
    await ben.do("waitForEvent", roomId=room_id, type="m.room.power_levels")
    await ben.call("sendStateEvent", room_id, "m.room.topic", {"topic": "by ben"}, "")
    assert (await anna.call("getStateEvent", room_id, "m.room.topic", ""))["topic"] == "by ben"
    assert {event["type"] for event in await anna.call("roomState", room_id)} >= {
        "m.room.create",
        "m.room.topic",
    }
    joined = (await anna.call("getJoinedRoomMembers", room_id))["joined"]
    assert set(joined) == {anna.user_id, ben.user_id}
    assert (await ben.call("getJoinedRooms"))["joined_rooms"] == [room_id]

    alias = "#jsg-hall:" + anna.user_id.partition(":")[2]
    await anna.call("createAlias", alias, room_id)
    assert (await ben.call("getLocalAliases", room_id))["aliases"] == [alias]
    await anna.call("setRoomDirectoryVisibility", room_id, "public")
    assert (await ben.call("getRoomDirectoryVisibility", room_id))["visibility"] == "public"
    listed = (await ben.call("publicRooms", {"filter": {"generic_search_term": "Great Hall"}}))["chunk"]
    assert [room["room_id"] for room in listed] == [room_id]
    await anna.call("deleteAlias", alias)

    await anna.call("kick", room_id, ben.user_id, "out")
    await ben.do("waitForMembership", roomId=room_id, membership="leave")
    await anna.call("ban", room_id, ben.user_id, "for good")
    await ben.do("waitForMembership", roomId=room_id, membership="ban")
    with pytest.raises(JsError) as refused:
        await ben.call("joinRoom", room_id)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
    await anna.call("unban", room_id, ben.user_id)
    await ben.call("forget", room_id)


async def test_a_knock_and_an_upgrade(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-porter"), await js_user("jsg-knocker")
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    created = await anna.call("createRoom", {"initial_state": [rules], "room_version": "10", "name": "Old"})
    room_id = created["room_id"]
    await ben.call("knockRoom", room_id, {"reason": "please"})
    await anna.do(
        "waitForEvent",
        roomId=room_id,
        type="m.room.member",
        sender=ben.user_id,
        content={"membership": "knock"},
    )
    await anna.call("invite", room_id, ben.user_id)
    await ben.do("waitForMembership", roomId=room_id, membership="invite")
    await ben.call("joinRoom", room_id)
    await ben.do("waitForMembership", roomId=room_id, membership="join")

    replacement = (await anna.call("upgradeRoom", room_id, "12"))["replacement_room"]
    tombstone = await ben.do("waitForEvent", roomId=room_id, type="m.room.tombstone")
    assert tombstone["content"]["replacement_room"] == replacement
    create = await anna.call("getStateEvent", replacement, "m.room.create", "")
    assert create["predecessor"]["room_id"] == room_id


async def test_history_context_and_relations(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-writer"), await js_user("jsg-historian")
    room_id = await meet(anna, ben)
    ids = [await anna.say(room_id, f"line {number}") for number in range(40)]
    await ben.wait_for_text(room_id, anna.user_id, "line 39")
    assert await ben.do("history", roomId=room_id) == [f"line {number}" for number in range(40)]
    event = await ben.call("fetchRoomEvent", room_id, ids[3])
    assert event["content"]["body"] == "line 3"
    closest = await ben.call("timestampToEvent", room_id, event["origin_server_ts"], "f")
    assert closest["origin_server_ts"] >= event["origin_server_ts"]

    reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": ids[3], "key": "👍"}}
    sent = await ben.call("sendEvent", room_id, "m.reaction", reaction)
    with pytest.raises(JsError) as twice:
        await ben.call("sendEvent", room_id, "m.reaction", reaction)
    assert twice.value.errcode == "M_DUPLICATE_ANNOTATION"
    related = await anna.call("fetchRelations", room_id, ids[3], "m.annotation", "m.reaction")
    assert [found["event_id"] for found in related["chunk"]] == [sent["event_id"]]


async def test_unread_counts_receipts_and_typing(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-talker"), await js_user("jsg-listener")
    room_id = await meet(anna, ben)
    await anna.call("sendTyping", room_id, True, 20_000)
    await ben.do("waitForRoom", roomId=room_id, wanted={"typing": [anna.user_id]})
    await anna.say(room_id, "one")
    # Whoever sends has stopped typing.
    await ben.do("waitForRoom", roomId=room_id, wanted={"typing": [], "unread": 1, "highlights": 0})
    mention = {"msgtype": "m.text", "body": "two", "m.mentions": {"user_ids": [ben.user_id]}}
    second = (await anna.call("sendEvent", room_id, "m.room.message", mention))["event_id"]
    await ben.do("waitForRoom", roomId=room_id, wanted={"unread": 2, "highlights": 1})

    await ben.do("sendReceipt", roomId=room_id, eventId=second, receiptType="m.read")
    await ben.do("waitForRoom", roomId=room_id, wanted={"unread": 0, "highlights": 0})
    seen = await anna.do("waitForRoom", roomId=room_id, wanted={})
    if seen["readBy"][ben.user_id] != second:
        readers = {anna.user_id: seen["readBy"][anna.user_id], ben.user_id: second}
        await anna.do("waitForRoom", roomId=room_id, wanted={"readBy": readers})

    third = await anna.say(room_id, "three")
    await ben.do("waitForRoom", roomId=room_id, wanted={"unread": 1})
    await ben.do("sendReceipt", roomId=room_id, eventId=third, receiptType="m.read.private")
    await ben.do("waitForRoom", roomId=room_id, wanted={"unread": 0})
    await ben.call("setRoomReadMarkers", room_id, third)
    await ben.do("waitForRoom", roomId=room_id, wanted={"fullyRead": third})


async def test_account_data_tags_and_push_rules(js_user: MakeJs) -> None:
    anna = await js_user("jsg-keeper")
    room_id = (await anna.call("createRoom", {}))["room_id"]
    await anna.do("waitForMembership", roomId=room_id, membership="join")
    await anna.call("setAccountData", "org.example.theme", {"dark": True})
    await anna.do("waitForAccountData", type="org.example.theme", content={"dark": True})
    await anna.call("setRoomAccountData", room_id, "org.example.scroll", {"at": 7})
    await anna.call("setRoomTag", room_id, "m.favourite", {"order": 0.25})
    await anna.do("waitForRoom", roomId=room_id, wanted={"tags": {"m.favourite": {"order": 0.25}}})
    await anna.call("deleteRoomTag", room_id, "m.favourite")
    await anna.do("waitForRoom", roomId=room_id, wanted={"tags": {}})

    rule = {"actions": ["notify"], "pattern": "cake"}
    await anna.call("addPushRule", "global", "content", "cake", rule)
    await anna.call("setPushRuleEnabled", "global", "content", "cake", False)
    [found] = (await anna.call("getPushRules"))["global"]["content"]
    assert (found["rule_id"], found["enabled"], found["pattern"]) == ("cake", False, "cake")
    await anna.call("deletePushRule", "global", "content", "cake")
    assert (await anna.call("getPushRules"))["global"]["content"] == []


async def test_presence(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-present"), await js_user("jsg-watcher")
    await meet(anna, ben)
    await anna.call("setSyncPresence", "unavailable")
    await anna.call("setPresence", {"presence": "unavailable", "status_msg": "thinking"})
    seen = await ben.do("waitForPresence", userId=anna.user_id, presence="unavailable")
    assert seen["status"] == "thinking"
    asked = await ben.call("getPresence", anna.user_id)
    assert (asked["presence"], asked["status_msg"]) == ("unavailable", "thinking")


async def test_threads(js_user: MakeJs) -> None:
    anna, ben = await js_user("jsg-thread-a"), await js_user("jsg-thread-b")
    room_id = await meet(anna, ben)
    root = await anna.say(room_id, "root")
    for number in range(3):
        content = {
            "msgtype": "m.text",
            "body": f"in the thread {number}",
            "m.relates_to": {"rel_type": "m.thread", "event_id": root},
        }
        await ben.call("sendEvent", room_id, "m.room.message", content)
    related = await anna.call("fetchRelations", room_id, root, "m.thread", None)
    bodies = [event["content"]["body"] for event in related["chunk"]]
    assert bodies == ["in the thread 2", "in the thread 1", "in the thread 0"]
    bundled = (await anna.call("fetchRoomEvent", room_id, root))["unsigned"]["m.relations"]["m.thread"]
    assert (bundled["count"], bundled["current_user_participated"]) == (3, True)
    assert bundled["latest_event"]["content"]["body"] == "in the thread 2"
