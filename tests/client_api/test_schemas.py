"""One long conversation that asks for everything this server serves: each success fits the specification's schemas.

Answers hold events of every kind here, all sent as the specification has them, so the events inside are checked too.
"""

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests import openapi
from tests.admins import make_admin
from tests.fuzz.hostile import list_endpoints
from tests.people import Person, Town

pytestmark = pytest.mark.skipif(
    not openapi.SPEC.exists(), reason=f"the specification is not at {openapi.SPEC}"
)

V1, V3 = "/_matrix/client/v1", "/_matrix/client/v3"

# What must be served, by the specification's files: rooms and what people do in them every day.
NAMED = {
    "account-data", "account_deactivation", "banning", "capabilities", "create_room", "device_management",
    "directory", "event_context", "filter", "joining", "kicking", "knocking", "leaving",
    "list_joined_rooms", "list_public_rooms", "login", "logout", "message_pagination", "old_sync",
    "peeking_events", "profile", "pushrules", "read_markers", "receipts", "redaction", "room_initial_sync",
    "room_send", "room_state", "rooms", "sync", "tags", "third_party_membership", "typing", "versions",
    "wellknown", "whoami",
}  # fmt: skip

# Not asked for here, with the reason.
ELSEWHERE = {
    # Needs an identity server.
    "POST /_matrix/client/v3/account/3pid",
    # There only where the operator has set it.
    "GET /.well-known/matrix/support",
    # Needs a bridge.
    "GET /_matrix/client/v3/thirdparty/protocol/{}",
}


def served() -> set[str]:
    """All operations of the specification that have an endpoint."""
    declared = {(e.method, openapi.without_names(path)) for e in list_endpoints() for path in e.paths}
    return {str(openapi.operations()[key]) for key in declared & openapi.operations().keys()}


def test_what_is_named_is_served() -> None:
    named = {str(o) for o in openapi.operations().values() if o.file.stem in NAMED}
    assert {o.file.stem for o in openapi.operations().values()} >= NAMED
    missing = sorted(named - served())
    assert not missing, "not served:\n" + "\n".join(missing)


class Talk:
    """Asks for things, and remembers which operations have answered well."""

    def __init__(self) -> None:
        self.served = served()
        self.done: set[str] = set()

    async def ask(self, who: Any, method: str, path: str, body: Any = None, /, **names: str) -> Any:
        """The body of a success; {} for what is not served. The path's names are filled in and escaped."""
        url = path.format(**{name: quote(value, safe="") for name, value in names.items()})
        operation = str(openapi.find_operation(method, url))
        if operation not in self.served:
            return {}
        data = None if body is None else json.dumps(body).encode()
        answer = await who.raw(method, url, data)
        assert answer.status == 200, (method, url, answer)
        wrong = list(openapi.wrong_events(answer.body))
        assert not wrong, f"{method} {url}: {wrong}"
        self.done.add(operation)
        return answer.body


async def accounts(talk: Talk, town: Town, alice: Person) -> None:
    ask = talk.ask
    password = "a long secret of hers"
    for path in ("/_matrix/client/versions", "/.well-known/matrix/client", f"{V3}/login"):
        await ask(town.visitor, "GET", path)
    await ask(town.visitor, "GET", f"{V3}/register/available?username=still-free")
    await ask(town.visitor, "GET", f"{V1}/register/m.login.registration_token/validity?token=nobodys")
    dummy = {"type": "m.login.dummy"}
    request = {"username": "schemas", "password": password, "auth": dummy, "refresh_token": True}
    made = await ask(town.visitor, "POST", f"{V3}/register", request)
    if "refresh_token" in made:
        made |= await ask(town.visitor, "POST", f"{V3}/refresh", {"refresh_token": made["refresh_token"]})
    dora = Person(town.session, town.base_url, made)
    identifier = {"type": "m.id.user", "user": "schemas"}
    login = {"type": "m.login.password", "identifier": identifier, "password": password}

    async def log_in(**more: Any) -> Person:
        return Person(
            town.session, town.base_url, await ask(town.visitor, "POST", f"{V3}/login", login | more)
        )

    phone = await log_in(initial_device_display_name="Phone", refresh_token=True)
    tablet, watch, gone = await log_in(), await log_in(), await log_in(device_id="GONE")
    await ask(dora, "GET", f"{V3}/account/whoami")
    await ask(dora, "GET", f"{V3}/capabilities")
    await ask(dora, "GET", f"{V3}/account/3pid")
    await ask(dora, "GET", f"{V3}/pushers")
    await ask(dora, "GET", f"{V3}/voip/turnServer")
    alias, user = quote("#room:test.example"), quote(dora.user_id)
    for what in ("protocols", f"location?alias={alias}", "location/irc", f"user?userid={user}", "user/irc"):
        await ask(dora, "GET", f"{V3}/thirdparty/{what}")
    await ask(dora, "POST", f"{V1}/login/get_token", {"auth": login})
    await ask(dora, "GET", f"{V3}/devices")
    await ask(dora, "PUT", f"{V3}/devices/{{device}}", {"display_name": "My phone"}, device=phone.device_id)
    await ask(dora, "GET", f"{V3}/devices/{{device}}", device=phone.device_id)
    await ask(dora, "DELETE", f"{V3}/devices/{{device}}", {"auth": login}, device=gone.device_id)
    await ask(dora, "POST", f"{V3}/delete_devices", {"devices": [watch.device_id], "auth": login})
    await ask(dora, "POST", f"{V3}/user_directory/search", {"search_term": "alice"})
    await ask(dora, "GET", f"{V3}/notifications")
    await ask(dora, "POST", f"{V3}/user/{{user}}/openid/request_token", {}, user=dora.user_id)
    await ask(phone, "POST", f"{V3}/logout", {})
    changed = {"new_password": password + "!", "auth": login, "logout_devices": False}
    await ask(dora, "POST", f"{V3}/account/password", changed)
    await ask(tablet, "POST", f"{V3}/logout/all", {})
    login["password"] += "!"
    await ask(await log_in(), "POST", f"{V3}/account/deactivate", {"auth": login})
    for field, value in (
        ("displayname", "Alice"),
        ("avatar_url", "mxc://test.example/alice"),
        ("m.tz", "Europe/London"),
    ):
        names = {"user": alice.user_id, "field": field}
        await ask(alice, "PUT", f"{V3}/profile/{{user}}/{{field}}", {field: value}, **names)
        await ask(town.visitor, "GET", f"{V3}/profile/{{user}}/{{field}}", **names)
    await ask(town.visitor, "GET", f"{V3}/profile/{{user}}", user=alice.user_id)
    await ask(alice, "DELETE", f"{V3}/profile/{{user}}/{{field}}", user=alice.user_id, field="m.tz")
    status = {"presence": "online", "status_msg": "here"}
    await ask(alice, "PUT", f"{V3}/presence/{{user}}/status", status, user=alice.user_id)
    await ask(alice, "GET", f"{V3}/presence/{{user}}/status", user=alice.user_id)


async def moderation(talk: Talk, town: Town) -> None:
    admin, user = await make_admin(town), {"user": (await town.person("moderated")).user_id}
    for what, body in (("suspend", "suspended"), ("lock", "locked")):
        for state in (True, False):
            await talk.ask(admin, "PUT", f"{V1}/admin/{what}/{{user}}", {body: state}, **user)
            await talk.ask(admin, "GET", f"{V1}/admin/{what}/{{user}}", **user)
    await talk.ask(admin, "GET", f"{V3}/admin/whois/{{user}}", **user)


async def own_data(talk: Talk, alice: Person, bob: Person, room_id: str) -> None:
    ask, mine = talk.ask, {"user": alice.user_id}
    in_room = mine | {"room": room_id}
    await ask(alice, "PUT", f"{V3}/user/{{user}}/account_data/m.direct", {bob.user_id: [room_id]}, **mine)
    await ask(alice, "GET", f"{V3}/user/{{user}}/account_data/m.direct", **mine)
    data = f"{V3}/user/{{user}}/rooms/{{room}}/account_data/m.marked_unread"
    await ask(alice, "PUT", data, {"unread": True}, **in_room)
    await ask(alice, "GET", data, **in_room)
    tags = f"{V3}/user/{{user}}/rooms/{{room}}/tags"
    await ask(alice, "PUT", f"{tags}/m.favourite", {"order": 0.5}, **in_room)
    await ask(alice, "PUT", f"{tags}/u.work", {}, **in_room)
    await ask(alice, "GET", tags, **in_room)
    await ask(alice, "DELETE", f"{tags}/u.work", **in_room)
    made = await ask(
        alice, "POST", f"{V3}/user/{{user}}/filter", {"room": {"timeline": {"limit": 3}}}, **mine
    )
    await ask(alice, "GET", f"{V3}/user/{{user}}/filter/{{filter}}", filter=made["filter_id"], **mine)

    await ask(alice, "GET", f"{V3}/pushrules/")
    await ask(alice, "GET", f"{V3}/pushrules/global/")
    rules = {
        "override": {"conditions": [{"kind": "room_member_count", "is": "2"}], "actions": ["notify"]},
        "content": {"pattern": "cake", "actions": ["notify", {"set_tweak": "sound", "value": "default"}]},
        "room": {"actions": []},
        "sender": {"actions": ["notify", {"set_tweak": "highlight"}]},
    }
    for kind, rule in rules.items():
        rule_id = {"room": room_id, "sender": bob.user_id}.get(kind, f"org.example.{kind}")
        path, names = f"{V3}/pushrules/global/{kind}/{{rule}}", {"rule": rule_id}
        await ask(alice, "PUT", path, rule, **names)
        await ask(alice, "GET", path, **names)
        await ask(alice, "GET", path + "/actions", **names)
        await ask(alice, "PUT", path + "/actions", {"actions": ["notify"]}, **names)
        await ask(alice, "PUT", path + "/enabled", {"enabled": True}, **names)
        await ask(alice, "GET", path + "/enabled", **names)
    await ask(alice, "GET", f"{V3}/pushrules/")
    await ask(alice, "DELETE", f"{V3}/pushrules/global/override/org.example.override")


# Type, state key, content: what clients set, as the specification has it.
STATE: list[tuple[str, str, dict[str, Any]]] = [
    ("m.room.name", "", {"name": "Schemas"}),
    ("m.room.topic", "", {"topic": "Shapes", "m.topic": {"m.text": [{"body": "Shapes"}]}}),
    ("m.room.avatar", "", {"url": "mxc://test.example/room", "info": {"mimetype": "image/png", "w": 1, "h": 1}}),
    ("m.room.pinned_events", "", {"pinned": []}),
    ("m.room.guest_access", "", {"guest_access": "can_join"}),
    ("m.room.history_visibility", "", {"history_visibility": "world_readable"}),
    ("m.room.server_acl", "", {"allow": ["*"], "deny": ["evil.example"], "allow_ip_literals": False}),
    ("m.space.parent", "!space:test.example", {"via": ["test.example"], "canonical": True}),
    ("m.policy.rule.user", "rule", {"entity": "@spam*:*", "recommendation": "m.ban", "reason": "spam"}),
]  # fmt: skip


async def rooms(talk: Talk, town: Town, alice: Person, bob: Person) -> str:
    ask = talk.ask
    carol = await town.person("carol")
    request = {
        "preset": "public_chat",
        "name": "Before",
        "room_alias_name": "schemas",
        "visibility": "public",
        "invite": [bob.user_id],
        "initial_state": [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
        "power_level_content_override": {"users_default": 0},
    }
    room_id: str = (await ask(alice, "POST", f"{V3}/createRoom", request))["room_id"]
    in_room = {"room": room_id}
    room = f"{V3}/rooms/{{room}}"
    await ask(bob, "GET", f"{V3}/sync")
    await ask(bob, "POST", f"{V3}/join/{{room}}", {}, room="#schemas:test.example")
    await ask(carol, "POST", f"{V3}/knock/{{room}}", {"reason": "please"}, **in_room)
    await ask(carol, "GET", f"{V3}/sync")
    await ask(alice, "POST", f"{room}/invite", {"user_id": carol.user_id}, **in_room)
    await ask(carol, "POST", f"{room}/join", {}, **in_room)
    await ask(carol, "POST", f"{room}/leave", {"reason": "bye"}, **in_room)
    await ask(carol, "POST", f"{room}/forget", {}, **in_room)
    await ask(alice, "POST", f"{room}/invite", {"user_id": carol.user_id, "reason": "again"}, **in_room)
    await ask(alice, "POST", f"{room}/kick", {"user_id": carol.user_id, "reason": "no"}, **in_room)
    await ask(alice, "POST", f"{room}/ban", {"user_id": carol.user_id}, **in_room)
    await ask(carol, "GET", f"{V3}/sync?full_state=true")
    await ask(alice, "POST", f"{room}/unban", {"user_id": carol.user_id}, **in_room)
    for type, key, content in STATE:
        names = in_room | {"type": type, "key": key}
        await ask(alice, "PUT", f"{room}/state/{{type}}/{{key}}", content, **names)
        await ask(alice, "GET", f"{room}/state/{{type}}/{{key}}", **names)
        await ask(alice, "GET", f"{room}/state/{{type}}/{{key}}?format=event", **names)
    for path in ("state", "members", "joined_members", "aliases", "initialSync"):
        await ask(alice, "GET", f"{room}/{path}", **in_room)
    await ask(alice, "GET", f"{V3}/joined_rooms")
    await ask(alice, "GET", f"{V1}/mutual_rooms?user_id={{other}}", other=bob.user_id)
    alias = {"alias": "#schemas-too:test.example"}
    await ask(alice, "PUT", f"{V3}/directory/room/{{alias}}", {"room_id": room_id}, **alias)
    await ask(town.visitor, "GET", f"{V3}/directory/room/{{alias}}", **alias)
    both = {"alias": "#schemas:test.example", "alt_aliases": [alias["alias"]]}
    await ask(alice, "PUT", f"{room}/state/m.room.canonical_alias/", both, **in_room)
    await ask(alice, "DELETE", f"{V3}/directory/room/{{alias}}", **alias)
    await ask(alice, "PUT", f"{V3}/directory/list/room/{{room}}", {"visibility": "public"}, **in_room)
    await ask(alice, "GET", f"{V3}/directory/list/room/{{room}}", **in_room)
    await ask(town.visitor, "GET", f"{V3}/publicRooms?limit=5")
    await ask(alice, "POST", f"{V3}/publicRooms", {"filter": {"generic_search_term": "Schem"}})
    await ask(alice, "GET", f"{V1}/room_summary/{{room}}", **in_room)
    await ask(alice, "GET", f"{V1}/rooms/{{room}}/hierarchy", **in_room)
    return room_id


async def events(talk: Talk, alice: Person, bob: Person, room_id: str) -> None:
    ask, in_room, room = talk.ask, {"room": room_id}, f"{V3}/rooms/{{room}}"
    numbers = iter(range(100))
    since = (await ask(alice, "GET", f"{V3}/sync"))["next_batch"]

    async def send(who: Person, type: str, content: Any) -> str:
        names = in_room | {"type": type, "txn": f"t{next(numbers)}"}
        event_id: str = (await ask(who, "PUT", f"{room}/send/{{type}}/{{txn}}", content, **names))["event_id"]
        return event_id

    def text(body: str, **more: Any) -> dict[str, Any]:
        return {"msgtype": "m.text", "body": body, **more}

    root = await send(bob, "m.room.message", text("root", **{"m.mentions": {"user_ids": [alice.user_id]}}))
    relation = {"event_id": root}
    await send(alice, "m.reaction", {"m.relates_to": relation | {"rel_type": "m.annotation", "key": "👍"}})
    edit = {"m.new_content": text("changed"), "m.relates_to": relation | {"rel_type": "m.replace"}}
    await send(bob, "m.room.message", text("* changed") | edit)
    answer = text("in a thread", **{"m.relates_to": relation | {"rel_type": "m.thread"}})
    threaded = await send(alice, "m.room.message", answer)
    await send(bob, "m.room.message", answer)
    reference = {"m.relates_to": relation | {"rel_type": "m.reference"}}
    await send(bob, "m.room.message", text("see there") | reference)
    reply = {"m.relates_to": {"m.in_reply_to": relation}}
    await send(bob, "m.room.message", {"msgtype": "m.emote", "body": "nods"} | reply)
    image = {"mimetype": "image/png", "w": 1, "h": 1, "size": 9}
    await send(bob, "m.sticker", {"body": "sticker", "url": "mxc://test.example/sticker", "info": image})
    await ask(alice, "GET", f"{V3}/sync?since={since}")
    mistake = await send(alice, "m.room.message", text("mistake"))
    names = in_room | {"event": mistake, "txn": "redaction"}
    await ask(alice, "PUT", f"{room}/redact/{{event}}/{{txn}}", {"reason": "oops"}, **names)
    for event_id in (root, threaded, mistake):
        await ask(alice, "GET", f"{room}/event/{{event}}", **in_room, event=event_id)
        await ask(alice, "GET", f"{room}/context/{{event}}?limit=20", **in_room, event=event_id)
    await ask(alice, "GET", f"{V3}/events/{{event}}", event=root)
    start = (await ask(alice, "GET", f"{room}/messages?dir=f&limit=5", **in_room))["end"]
    await ask(alice, "GET", f"{room}/messages?dir=f&from={start}", **in_room)
    await ask(alice, "GET", f"{room}/messages?dir=b&limit=100", **in_room)
    await ask(alice, "GET", f"{V1}/rooms/{{room}}/timestamp_to_event?ts=1&dir=f", **in_room)
    relations = f"{V1}/rooms/{{room}}/relations/{{event}}"
    for path in ("", "/m.thread", "/m.thread/m.room.message", "/m.annotation/m.reaction"):
        await ask(alice, "GET", relations + path, **in_room, event=root)
    await ask(alice, "GET", f"{V1}/rooms/{{room}}/threads?include=all", **in_room)

    await ask(
        bob, "PUT", f"{room}/typing/{{user}}", {"typing": True, "timeout": 9000}, **in_room, user=bob.user_id
    )
    receipt = f"{room}/receipt/{{kind}}/{{event}}"
    for kind, event_id, body in (
        ("m.read", root, {}),
        ("m.read", threaded, {"thread_id": root}),
        ("m.read.private", root, {"thread_id": "main"}),
        ("m.fully_read", root, {}),
    ):
        for who in (alice, bob):
            await ask(who, "POST", receipt, body, **in_room, kind=kind, event=event_id)
    markers = {"m.fully_read": threaded, "m.read": root, "m.read.private": threaded}
    await ask(alice, "POST", f"{room}/read_markers", markers, **in_room)
    body: dict[str, Any] = {"reason": "spam"}
    await ask(alice, "POST", f"{room}/report", body, **in_room)
    await ask(alice, "POST", f"{room}/report/{{event}}", body, **in_room, event=root)
    await ask(alice, "POST", f"{V3}/users/{{user}}/report", body, user=bob.user_id)
    await ask(alice, "POST", f"{V3}/search", {"search_categories": {"room_events": {"search_term": "root"}}})


async def old_and_new_sync(talk: Talk, alice: Person, room_id: str, since: str) -> None:
    ask, in_room = talk.ask, {"room": room_id}
    lazy = quote(
        '{"room":{"state":{"lazy_load_members":true},"timeline":{"unread_thread_notifications":true}}}'
    )
    for query in (
        f"since={since}",
        "full_state=true",
        f"filter={lazy}",
        "use_state_after=true",
        "set_presence=unavailable",
    ):
        synced = await ask(alice, "GET", f"{V3}/sync?{query}")
        assert synced == {} or room_id in synced["rooms"]["join"]
    first = await ask(alice, "GET", f"{V3}/initialSync?limit=5")
    await ask(alice, "GET", f"{V3}/initialSync?archived=true")
    await ask(alice, "GET", f"{V3}/rooms/{{room}}/initialSync", **in_room)
    await ask(alice, "GET", f"{V3}/events?from={first.get('end', since)}&timeout=0")
    await ask(alice, "GET", f"{V3}/events?room_id={{room}}&timeout=0", **in_room)


async def test_every_served_operation_answers_as_the_specification_says(town: Town) -> None:
    talk = Talk()
    alice, bob = await town.people("alice", "bob")
    await accounts(talk, town, alice)
    await moderation(talk, town)
    since = (await alice.sync())["next_batch"]
    room_id = await rooms(talk, town, alice, bob)
    await own_data(talk, alice, bob, room_id)
    await events(talk, alice, bob, room_id)
    await old_and_new_sync(talk, alice, room_id, since)
    await talk.ask(alice, "POST", f"{V3}/rooms/{{room}}/upgrade", {"new_version": "11"}, room=room_id)
    await talk.ask(alice, "GET", f"{V3}/sync")
    missing = sorted(talk.served - talk.done - ELSEWHERE)
    assert not missing, "no success of these was seen:\n" + "\n".join(missing)
