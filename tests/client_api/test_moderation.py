"""Accounts that administrators suspend and lock, and what their users may still do."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from hs.http.suspension import BARRED
from tests.admins import make_admin
from tests.fuzz.hostile import list_endpoints
from tests.people import Answer, Person, Town

SUSPENDED = (403, "M_USER_SUSPENDED")


def url(mark: str, user_id: str) -> str:
    return f"/_matrix/client/v1/admin/{mark}/{quote(user_id, safe='')}"


async def set_mark(admin: Person, user_id: str, mark: str, value: Any = True) -> Answer:
    field = {"suspend": "suspended", "lock": "locked"}[mark]
    return await admin.raw("PUT", url(mark, user_id), json.dumps({field: value}).encode())


async def suspend(admin: Person, person: Person) -> None:
    answer = await set_mark(admin, person.user_id, "suspend")
    assert (answer.status, answer.body) == (200, {"suspended": True})


def test_every_barred_endpoint_is_there() -> None:
    assert {endpoint.name for endpoint in list_endpoints()} >= BARRED


def test_whoever_is_suspended_may_send_by_no_way_that_there_is() -> None:
    # Redactions are judged one by one: those of one's own events are allowed.
    sending = {one.name for one in list_endpoints() if one.limit in ("message", "state")}
    assert sending - BARRED == {"put_redact", "post_redact"}


async def test_suspended_users_can_do_nothing_that_others_see(town: Town) -> None:
    admin = await make_admin(town)
    alice, bob = await town.people("alice", "bob")
    room = await alice.create_room(preset="public_chat")
    other = await bob.create_room(preset="public_chat")
    invited = await bob.create_room(invite=[alice.user_id])
    await bob.join(room)
    await suspend(admin, alice)
    text = {"msgtype": "m.text", "body": "hello"}
    refused = [
        await alice.post("createRoom"),
        await alice.post("join", other),
        await alice.post("join", invited),
        await alice.post("rooms", other, "join"),
        await alice.post("knock", other),
        await alice.post("rooms", room, "invite", body={"user_id": admin.user_id}),
        await alice.post("rooms", room, "kick", body={"user_id": bob.user_id}),
        await alice.post("rooms", room, "ban", body={"user_id": bob.user_id}),
        await alice.post("rooms", room, "unban", body={"user_id": bob.user_id}),
        await alice.put("presence", alice.user_id, "status", body={"presence": "online", "status_msg": "x"}),
        await alice.put("rooms", room, "typing", alice.user_id, body={"typing": True, "timeout": 1000}),
        await alice.post("rooms", room, "upgrade", body={"new_version": "12"}),
        await alice.put("rooms", room, "send", "m.room.message", "t", body=text),
        await alice.post("rooms", room, "send", "m.room.message", body=text),
        await alice.put("rooms", room, "state", "m.room.topic", "", body={"topic": "x"}),
        await alice.put("rooms", room, "state", "m.room.topic", body={"topic": "x"}),
        await alice.put("profile", alice.user_id, "displayname", body={"displayname": "x"}),
        await alice.delete("profile", alice.user_id, "displayname"),
        await alice.put("directory", "room", "#x:test.example", body={"room_id": room}),
        await alice.put("directory", "list", "room", room, body={"visibility": "public"}),
    ]
    assert [answer.error for answer in refused] == [SUSPENDED] * len(refused)


async def test_suspended_users_read_leave_and_take_back_what_they_said(town: Town) -> None:
    admin = await make_admin(town)
    alice, bob = await town.people("alice", "bob")
    room = await alice.create_room(preset="public_chat")
    invited = await bob.create_room(invite=[alice.user_id])
    await bob.join(room)
    mine, theirs = await alice.say(room, "mine"), await bob.say(room, "theirs")
    await suspend(admin, alice)
    assert room in (await alice.sync())["rooms"]["join"]
    assert (await alice.get("rooms", room, "messages", dir="b")).status == 200
    assert (await alice.put("rooms", room, "redact", mine, "t1")).status == 200
    assert (await alice.put("rooms", room, "redact", theirs, "t2")).error == SUSPENDED
    assert (await alice.put("rooms", room, "redact", "$" + "x" * 43, "t3")).error == SUSPENDED
    assert (await alice.put("devices", alice.device_id, body={"display_name": "Phone"})).status == 200
    assert (await alice.post("rooms", invited, "leave")).status == 200
    assert (await alice.post("rooms", room, "leave")).status == 200
    name = alice.user_id[1:].partition(":")[0]
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": name},
        "password": f"{name} has a secret",
    }
    second = Person(town.session, town.base_url, (await town.visitor.post("login", body=login)).body)
    assert (await second.post("createRoom")).error == SUSPENDED
    assert (await second.post("logout")).status == 200


async def test_a_suspension_ends(town: Town) -> None:
    admin = await make_admin(town)
    alice = await town.person("alice")
    room = await alice.create_room()
    assert (await admin.raw("GET", url("suspend", alice.user_id))).body == {"suspended": False}
    await suspend(admin, alice)
    assert (await admin.raw("GET", url("suspend", alice.user_id))).body == {"suspended": True}
    assert (await set_mark(admin, alice.user_id, "suspend", False)).body == {"suspended": False}
    await alice.say(room, "again")


async def test_a_locked_account_can_be_unlocked(town: Town) -> None:
    admin = await make_admin(town)
    alice = await town.person("alice")
    since = (await alice.sync())["next_batch"]
    assert (await set_mark(admin, alice.user_id, "lock")).body == {"locked": True}
    locked = await alice.get("sync", since=since)
    assert locked.error == (401, "M_USER_LOCKED")
    assert locked.body["soft_logout"] is True
    assert (await admin.raw("GET", url("lock", alice.user_id))).body == {"locked": True}
    assert (await set_mark(admin, alice.user_id, "lock", False)).body == {"locked": False}
    await alice.sync(since)


@pytest.mark.parametrize("mark", ["suspend", "lock"])
async def test_who_cannot_be_moderated(town: Town, mark: str) -> None:
    admin, other_admin = await asyncio.gather(make_admin(town), make_admin(town))
    alice, bob = await town.people("alice", "bob")
    for user_id, error in [
        (admin.user_id, (403, "M_FORBIDDEN")),
        (other_admin.user_id, (403, "M_FORBIDDEN")),
        ("@nobody:test.example", (404, "M_NOT_FOUND")),
        ("@alice:elsewhere.example", (400, "M_INVALID_PARAM")),
        ("alice", (400, "M_INVALID_PARAM")),
    ]:
        assert (await set_mark(admin, user_id, mark)).error == error, user_id
        assert (await admin.raw("GET", url(mark, user_id))).error == error, user_id
    # Nobody else finds out who is there.
    for user_id in (bob.user_id, "@nobody:test.example"):
        assert (await set_mark(alice, user_id, mark)).error == (403, "M_FORBIDDEN")
        assert (await alice.raw("GET", url(mark, user_id))).error == (403, "M_FORBIDDEN")
    assert (await set_mark(admin, bob.user_id, mark, "yes")).error == (400, "M_BAD_JSON")
    assert (await town.visitor.raw("GET", url(mark, bob.user_id))).status == 401


async def test_only_administrators_are_told_that_they_can(town: Town) -> None:
    admin, alice = await make_admin(town), await town.person("alice")
    capabilities = (await admin.get("capabilities")).body["capabilities"]
    assert capabilities["m.account_moderation"] == {"suspend": True, "lock": True}
    assert "m.account_moderation" not in (await alice.get("capabilities")).body["capabilities"]
