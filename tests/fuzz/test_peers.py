"""Every endpoint for other servers stands what a hostile one sends, rightly signed: no 5xx, no hang, errors in shape."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

import hs.federation_api
from hs.http.endpoint import Auth, Endpoint
from hs.matrix.request_auth import sign_request
from tests.certificates import Authority
from tests.eyes import Eyes
from tests.federation_fixtures import authority, make_remote, remote  # noqa: F401
from tests.fuzz.hostile import VALUES, bodies_for, list_endpoints, paths_for, queries_for
from tests.fuzz.strange_events import sign
from tests.fuzz.test_bodies import check
from tests.people import Answer, Person, Town
from tests.remote_room import RemoteRoom
from tests.remote_server import RemoteServer
from tests.server_fixtures import make_local_town  # noqa: F401

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

MakeTown = Callable[..., Awaitable[Town]]

# Enough for every value in every field of the endpoints there are.
MAX_REQUESTS = 400

ENDPOINTS = [endpoint for endpoint in list_endpoints(hs.federation_api) if endpoint.auth is Auth.SERVER]


@dataclass
class Enemy:
    """A server that shares a room with ours, and signs whatever it sends."""

    town: Town
    alice: Person
    remote: RemoteServer
    room: RemoteRoom
    known: dict[str, str]

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """The answer to a request, checked to be one that the specification allows."""
        header = sign_request(
            method, path, self.remote.name, self.town.server_name, body or None, self.remote.world.key
        )
        url = URL(self.town.base_url + path, encoded=True)
        headers = {"Authorization": header}
        async with self.town.session.request(method, url, data=body, headers=headers) as response:
            is_json = response.content_type == "application/json"
            told = await response.json() if is_json else await response.text()
            answer = Answer(response.status, told, response.headers)
        check(answer, f"{method} {path} {body!r:.300}")
        return answer

    async def send(self, pdu: Any, number: int) -> None:
        """One PDU in a transaction of its own."""
        body = {"origin": self.remote.name, "origin_server_ts": 1, "pdus": [pdu]}
        path = f"/_matrix/federation/v1/send/fuzz{number}"
        await self.ask("PUT", path, json.dumps(body, ensure_ascii=True, allow_nan=False).encode())


@pytest.fixture
async def enemy(
    make_local_town: MakeTown,  # noqa: F811
    authority: Authority,  # noqa: F811
    remote: RemoteServer,  # noqa: F811
) -> AsyncIterator[Enemy]:
    """An enemy, let in by one of our users."""
    town = await make_local_town(
        federation={"ca_file": str(authority.ca_file)}, network={"ip_range_whitelist": ["127.0.0.0/8"]}
    )
    remote.trust(town.server_name, town.base_url)
    alice = await town.person("alice")
    user_id = remote.user("mallory")
    # Who may do nearly anything there, so that little is refused before it is kept.
    power = {"users": {user_id: 99}}
    room_id = await alice.create_room(preset="public_chat", power_level_content_override=power)
    event_id = await alice.say(room_id, "hello")
    room = await remote.join(town.server_name, room_id, user_id)
    known = {
        "room_id": quote(room_id, safe=""),
        "event_id": quote(event_id, safe=""),
        "user_id": quote(user_id, safe=""),
        "txn_id": "txn",
    }
    yield Enemy(town, alice, remote, room, known)
    remote.verifies = False  # of what our server asks meanwhile


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda e: f"{e.method} {e.paths[0]}")
async def test_no_request_is_answered_with_a_crash(enemy: Enemy, endpoint: Endpoint) -> None:
    good_path = re.sub(r"\{(\w+)\}", lambda m: enemy.known.get(m[1], "x"), endpoint.paths[0])
    body = None if endpoint.method == "GET" else b"{}"
    requests: list[tuple[str, bytes | None]] = [
        *((path, body) for path in paths_for(endpoint, enemy.known)),
        *((good_path + query, body) for query in queries_for(endpoint)),
        *((good_path, wrong) for wrong in bodies_for(endpoint) if endpoint.method != "GET"),
    ]
    for path, content in islice(requests, MAX_REQUESTS):
        try:
            await enemy.ask(endpoint.method, path, content)
        except aiohttp.ServerDisconnectedError:
            # A keep-alive connection that the server has ended after a request it did not read to its end.
            await enemy.ask(endpoint.method, path, content)


FIELDS = ["type", "sender", "room_id", "content", "origin_server_ts", "depth", "prev_events", "auth_events",
          "state_key", "redacts", "unsigned", "origin", "membership", "event_id"]  # fmt: skip


@pytest.mark.parametrize("field", [*FIELDS, "hashes", "signatures"])
async def test_no_event_is_answered_with_a_crash(enemy: Enemy, field: str) -> None:
    user_id = enemy.remote.user("mallory")
    right = enemy.room.forge(user_id)
    for number, value in enumerate(VALUES):
        # What has no canonical JSON, and so no hash and signature, goes out with those of another event.
        pdu = right | {field: value}
        if field not in ("hashes", "signatures", "sender"):
            pdu = sign(enemy.room, pdu, enemy.remote.name)
        await enemy.send(pdu, number)
    # It still works.
    last = enemy.room.forge(user_id)
    await enemy.send(last, 1000)
    await Eyes(enemy.alice).event(enemy.room.room_id, enemy.room.parse(last).event_id)


NUL = "a\x00b"
ODD = [NUL, "\x00", 5, None, [], {}, [NUL], {NUL: NUL}, "x" * 300, True, -1]

STATE: list[tuple[str, str, list[dict[str, Any]]]] = [
    ("m.room.member", "@mallory", [
        *({"membership": value} for value in ODD),
        *({"membership": "join", "displayname": value, "avatar_url": value} for value in ODD),
        *({"membership": "join", "join_authorised_via_users_server": value} for value in ODD),
        *({"membership": "knock", "reason": value} for value in ODD),
        *({"membership": "invite", "third_party_invite": value} for value in ODD),
    ]),
    ("m.room.message", "", [{"m.relates_to": {"rel_type": v, "event_id": v, "key": v}} for v in ODD]),
    ("m.reaction", "", [{"m.relates_to": {"rel_type": "m.annotation", "event_id": v, "key": v}} for v in ODD]),
    ("m.reaction", "", [{"m.relates_to": v, "m.mentions": v} for v in ODD]),
    ("m.room.message", "", [{"m.mentions": {"user_ids": v, "room": v}, "body": v} for v in ODD]),
    ("m.room.name", "", [{"name": value} for value in ODD]),
    ("m.room.topic", "", [{"topic": value, "m.topic": value} for value in ODD]),
    ("m.room.canonical_alias", "", [{"alias": value, "alt_aliases": value} for value in ODD]),
    ("m.room.power_levels", "", [{"users": value, "events": value, "ban": value} for value in ODD]),
    ("m.room.join_rules", "", [{"join_rule": value, "allow": value} for value in ODD]),
    ("m.room.history_visibility", "", [{"history_visibility": value} for value in ODD]),
    ("m.room.server_acl", "", [{"allow": value, "deny": value} for value in ODD]),
    ("m.room.tombstone", "", [{"replacement_room": value, "body": value} for value in ODD]),
    ("m.room.create", "", [{"room_version": value, "predecessor": value, "type": value} for value in ODD]),
    ("m.room.third_party_invite", NUL, [{"display_name": value, "public_keys": value} for value in ODD]),
    ("m.space.child", "!x:y", [{"via": value, "order": value} for value in ODD]),
    ("m.room.redaction", "", [{"redacts": value, "reason": value} for value in ODD]),
    (NUL, NUL, [{NUL: NUL}]),
]  # fmt: skip


@pytest.mark.parametrize("case", STATE, ids=lambda case: repr(case[0]))
async def test_no_content_is_answered_with_a_crash(
    enemy: Enemy, case: tuple[str, str, list[dict[str, Any]]]
) -> None:
    type_, state_key, contents = case
    mallory = enemy.remote.user("mallory")
    for number, content in enumerate(contents):
        fields: dict[str, Any] = {"content": content}
        if state_key or not type_.startswith(("m.room.message", "m.reaction", "m.room.redaction")):
            fields["state_key"] = mallory if state_key == "@mallory" else state_key
        await enemy.send(enemy.room.forge(mallory, type_, **fields), number)
    # What was taken is told to clients, and they to others.
    await enemy.alice.sync()
    text = "after all of them"
    sent = await enemy.alice.put(
        "rooms",
        enemy.room.room_id,
        "send",
        "m.room.message",
        "last",
        body={"msgtype": "m.text", "body": text},
    )
    assert sent.status == 200, sent
    await enemy.remote.wait_for_pdu(lambda pdu: pdu["content"].get("body") == text)
