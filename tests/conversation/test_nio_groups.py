"""matrix-nio goes through the groups of the client API, one script each, against the real server process."""

from typing import Any

import nio
import pytest

from tests.conversation.conftest import MakeNio
from tests.nio_client import NioClient

pytestmark = pytest.mark.interop


def expect(response: Any, kind: type[Any]) -> Any:
    """The response, which is of this kind."""
    assert isinstance(response, kind), response
    return response


async def meet(first: NioClient, second: NioClient, **options: Any) -> str:
    """A room that the first has made and the second has joined; both have seen it."""
    created = expect(
        await first.client.room_create(invite=[second.user_id], **options), nio.RoomCreateResponse
    )
    room_id = str(created.room_id)
    await second.wait_for_invite(room_id)
    expect(await second.client.join(room_id), nio.JoinResponse)
    await second.wait_until(lambda: room_id in second.client.rooms, "the room")
    await first.wait_until(
        lambda: room_id in first.client.rooms and second.user_id in first.client.rooms[room_id].users,
        "the other in the room",
    )
    return room_id


async def test_accounts_and_devices(nio_user: MakeNio) -> None:
    anna = await nio_user("group-account")
    client = anna.client
    assert "m.login.password" in expect(await client.login_info(), nio.LoginInfoResponse).flows
    expect(await client.discovery_info(), nio.DiscoveryInfoResponse)
    who = expect(await client.whoami(), nio.WhoamiResponse)
    assert (who.user_id, who.device_id) == (anna.user_id, client.device_id)

    laptop = nio.AsyncClient(client.homeserver, anna.user_id)
    expect(await laptop.login("group-account says friend", device_name="laptop"), nio.LoginResponse)
    devices = expect(await client.devices(), nio.DevicesResponse).devices
    assert {device.id for device in devices} >= {client.device_id, laptop.device_id}
    renamed = await client.update_device(laptop.device_id, {"display_name": "old laptop"})
    expect(renamed, nio.UpdateDeviceResponse)
    asked = expect(await client.delete_devices([laptop.device_id]), nio.DeleteDevicesAuthResponse)
    auth = {
        "type": "m.login.password",
        "session": asked.session,
        "identifier": {"type": "m.id.user", "user": anna.user_id},
        "password": "group-account says friend",
    }
    expect(await client.delete_devices([laptop.device_id], auth), nio.DeleteDevicesResponse)
    assert expect(await laptop.whoami(), nio.WhoamiError).status_code == "M_UNKNOWN_TOKEN"
    await laptop.close()


async def test_logging_out_everywhere(nio_user: MakeNio) -> None:
    anna = await nio_user("group-logout")
    other = nio.AsyncClient(anna.client.homeserver, anna.user_id)
    expect(await other.login("group-logout says friend"), nio.LoginResponse)
    token = other.access_token
    expect(await other.logout(all_devices=True), nio.LogoutResponse)
    other.access_token = token
    assert expect(await other.whoami(), nio.WhoamiError).status_code == "M_UNKNOWN_TOKEN"
    await other.close()


async def test_profiles_reach_the_rooms(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-face"), await nio_user("group-onlooker")
    room_id = await meet(anna, ben)
    expect(await anna.client.set_displayname("Anna the First"), nio.ProfileSetDisplayNameResponse)
    expect(await anna.client.set_avatar("mxc://example.org/face"), nio.ProfileSetAvatarResponse)
    profile = expect(await ben.client.get_profile(anna.user_id), nio.ProfileGetResponse)
    assert (profile.displayname, profile.avatar_url) == ("Anna the First", "mxc://example.org/face")
    users = ben.client.rooms[room_id].users
    await ben.wait_until(lambda: users[anna.user_id].avatar_url == "mxc://example.org/face", "the new face")
    assert users[anna.user_id].display_name == "Anna the First"


async def test_presence_and_typing(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-typist"), await nio_user("group-reader")
    room_id = await meet(anna, ben)
    expect(await anna.client.room_typing(room_id), nio.RoomTypingResponse)
    room = ben.client.rooms[room_id]
    await ben.wait_until(lambda: room.typing_users == [anna.user_id], "the typing notice")
    expect(await anna.client.room_typing(room_id, typing_state=False), nio.RoomTypingResponse)
    await ben.wait_until(lambda: room.typing_users == [], "the end of the typing notice")

    expect(await anna.client.set_presence("unavailable", "at lunch"), nio.PresenceSetResponse)
    user = room.users[anna.user_id]
    await ben.wait_until(
        lambda: user.presence == "unavailable" and user.status_msg == "at lunch", "the presence"
    )
    seen = expect(await ben.client.get_presence(anna.user_id), nio.PresenceGetResponse)
    # Which of the two she is depends on whether her next sync has said "online" meanwhile.
    assert seen.status_msg == "at lunch"


async def test_what_is_unread_and_who_has_read(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-writer"), await nio_user("group-lurker")
    room_id = await meet(anna, ben)
    room = ben.client.rooms[room_id]
    await anna.say(room_id, "first")
    await anna.client.room_send(
        room_id,
        "m.room.message",
        {"msgtype": "m.text", "body": "ben!", "m.mentions": {"user_ids": [ben.user_id]}},
    )
    await ben.wait_until(lambda: (room.unread_notifications, room.unread_highlights) == (2, 1), "two unread")
    last = (await ben.wait_for_text(room_id, anna.user_id, "ben!")).event_id
    marked = await ben.client.room_read_markers(room_id, fully_read_event=last, read_event=last)
    expect(marked, nio.RoomReadMarkersResponse)
    await ben.wait_until(
        lambda: (room.unread_notifications, room.unread_highlights) == (0, 0), "nothing unread"
    )
    await ben.wait_until(lambda: room.fully_read_marker == last, "the marker")
    receipts = anna.client.rooms[room_id].read_receipts
    await anna.wait_until(lambda: ben.user_id in receipts, "the receipt")
    assert receipts[ben.user_id].event_id == last

    newer = await anna.say(room_id, "third")
    await ben.wait_until(lambda: room.unread_notifications == 1, "one unread")
    private = await ben.client.update_receipt_marker(room_id, newer, nio.ReceiptType.read_private)
    expect(private, nio.UpdateReceiptMarkerResponse)
    await ben.wait_until(lambda: room.unread_notifications == 0, "nothing unread")
    await anna.say(room_id, "to have a sync")
    await anna.wait_for_text(room_id, anna.user_id, "to have a sync")
    assert receipts[ben.user_id].event_id == last


async def test_rooms_in_the_directory(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-host"), await nio_user("group-guest")
    created = await anna.client.room_create(
        visibility=nio.RoomVisibility.public,
        alias="group-hall",
        name="Hall",
        preset=nio.RoomPreset.public_chat,
    )
    room_id = created.room_id
    alias = "#group-hall:" + anna.user_id.partition(":")[2]
    resolved = expect(await ben.client.room_resolve_alias(alias), nio.RoomResolveAliasResponse)
    assert resolved.room_id == room_id
    visibility = expect(await ben.client.room_get_visibility(room_id), nio.RoomGetVisibilityResponse)
    assert visibility.visibility == "public"
    second = alias.replace("hall", "annexe")
    expect(await anna.client.room_put_alias(second, room_id), nio.RoomPutAliasResponse)
    assert expect(await ben.client.join(second), nio.JoinResponse).room_id == room_id
    expect(await anna.client.room_delete_alias(second), nio.RoomDeleteAliasResponse)
    assert (
        expect(await ben.client.room_resolve_alias(second), nio.RoomResolveAliasError).status_code
        == "M_NOT_FOUND"
    )
    assert expect(await ben.client.joined_rooms(), nio.JoinedRoomsResponse).rooms == [room_id]


async def test_knocking_and_being_let_in(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-porter"), await nio_user("group-knocker")
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    created = await anna.client.room_create(initial_state=[rules])
    room_id = created.room_id
    expect(await ben.client.room_knock(room_id, reason="it rains"), nio.RoomKnockResponse)
    await anna.wait_until(
        lambda: any(
            isinstance(event, nio.RoomMemberEvent)
            and event.membership == "knock"
            and event.sender == ben.user_id
            for _, event in anna.seen
        ),
        "the knock",
    )
    expect(await anna.client.room_invite(room_id, ben.user_id), nio.RoomInviteResponse)
    await ben.wait_for_invite(room_id)
    expect(await ben.client.join(room_id), nio.JoinResponse)


async def test_state_context_and_filters(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-clerk"), await nio_user("group-auditor")
    room_id = await meet(anna, ben)
    set_topic = await anna.client.room_put_state(room_id, "m.room.topic", {"topic": "Minutes"})
    expect(set_topic, nio.RoomPutStateResponse)
    topic = expect(
        await ben.client.room_get_state_event(room_id, "m.room.topic"), nio.RoomGetStateEventResponse
    )
    assert topic.content["topic"] == "Minutes"
    state = expect(await ben.client.room_get_state(room_id), nio.RoomGetStateResponse).events
    assert {event["type"] for event in state} >= {"m.room.create", "m.room.topic", "m.room.member"}
    members = expect(await ben.client.joined_members(room_id), nio.JoinedMembersResponse).members
    assert {member.user_id for member in members} == {anna.user_id, ben.user_id}

    ids = [await anna.say(room_id, f"line {number}") for number in range(7)]
    context = expect(await ben.client.room_context(room_id, ids[3], limit=4), nio.RoomContextResponse)
    assert context.event.event_id == ids[3]
    assert [event.event_id for event in context.events_before] == [ids[2], ids[1]]
    assert [event.event_id for event in context.events_after] == [ids[4], ids[5]]

    uploaded = await ben.client.upload_filter(room={"timeline": {"limit": 2, "types": ["m.room.message"]}})
    filter_id = expect(uploaded, nio.UploadFilterResponse).filter_id
    fresh = nio.AsyncClient(ben.client.homeserver, ben.user_id)
    expect(await fresh.login("group-auditor says friend"), nio.LoginResponse)
    first = expect(await fresh.sync(sync_filter=filter_id, full_state=True), nio.SyncResponse)
    timeline = first.rooms.join[room_id].timeline
    assert timeline.limited
    assert [event.event_id for event in timeline.events] == ids[-2:]
    await fresh.close()


async def test_push_rules(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-loud"), await nio_user("group-quiet")
    room_id = await meet(anna, ben)
    kind = nio.PushRuleKind
    set_rule = await ben.client.set_pushrule(
        "global",
        kind.content,
        "cake",
        actions=[nio.PushNotify(), nio.PushSetTweak("highlight", True)],
        pattern="cake",
    )
    expect(set_rule, nio.SetPushRuleResponse)
    expect(
        await ben.client.set_pushrule_actions("global", kind.room, room_id, []), nio.SetPushRuleActionsError
    )
    expect(await ben.client.set_pushrule("global", kind.room, room_id, actions=[]), nio.SetPushRuleResponse)

    await anna.say(room_id, "nothing of interest")
    await anna.say(room_id, "there is CAKE")
    room = ben.client.rooms[room_id]
    await ben.wait_until(lambda: (room.unread_notifications, room.unread_highlights) == (1, 1), "the cake")
    expect(
        await ben.client.enable_pushrule("global", kind.content, "cake", False), nio.EnablePushRuleResponse
    )
    expect(await ben.client.delete_pushrule("global", kind.content, "cake"), nio.DeletePushRuleResponse)
    await anna.say(room_id, "more cake")
    await ben.wait_for_text(room_id, anna.user_id, "more cake")
    assert room.unread_notifications == 1


async def test_a_room_is_upgraded(nio_user: MakeNio) -> None:
    anna, ben = await nio_user("group-builder"), await nio_user("group-tenant")
    room_id = await meet(anna, ben, name="House", room_version="10")
    # nio does by hand what POST /upgrade does at once: both must lead to a room with a predecessor.
    upgraded = expect(await anna.client.room_upgrade(room_id, "11"), nio.responses.RoomUpgradeResponse)
    await ben.wait_until(
        lambda: any(isinstance(event, nio.RoomUpgradeEvent) for _, event in ben.seen), "the tombstone"
    )
    create = expect(
        await anna.client.room_get_state_event(upgraded.room_id, "m.room.create"),
        nio.RoomGetStateEventResponse,
    )
    assert create.content["predecessor"]["room_id"] == room_id
