"""Things that exist on a server, for programs that fill them into what they send."""

import asyncio
import itertools
from typing import Any
from urllib.parse import quote

import aiohttp
import requests

from tests.admins import make_admin
from tests.people import Town

CLIENT = "/_matrix/client/v3"
TIMEOUT_S = 60

_numbers = itertools.count(1)


class World:
    """What there is, by name (`known`), and the token of the user whom it belongs to; all new after `renew`."""

    def __init__(self, base_url: str, name: str) -> None:
        self._base_url = base_url
        self._name = name
        self.token = ""
        self.known: dict[str, str] = {}
        self._admin_token = ""

    @property
    def admin_token(self) -> str:
        """The token of an administrator, who is made when first asked for."""
        if not self._admin_token:
            self._admin_token = asyncio.run(self._make_admin())
        return self._admin_token

    def renew(self) -> None:
        """Make new people, rooms that they are in, and something in the rooms."""
        name = f"{self._name}-{next(_numbers)}"
        password = f"the secret of {name}"
        this, other = (self._register(one, password) for one in (name, f"{name}-other"))
        self.token = this["access_token"]
        server_name = this["user_id"].partition(":")[2]
        self.known = {
            "self": this["user_id"],
            "other": other["user_id"],
            "stranger": f"@{name}-stranger:{server_name}",
            "free": f"{name}-free",
            "device": this["device_id"],
            "password": password,
            "refresh": this.get("refresh_token", "none"),
            "server": server_name,
            "alias": f"#{name}:{server_name}",
            "freealias": f"#{name}-free:{server_name}",
            **self._make_rooms(name, other["access_token"]),
        }
        self.known |= self._make_room_content(other["access_token"])
        self.known |= self._make_own_data()

    async def _make_admin(self) -> str:
        async with aiohttp.ClientSession() as session:
            admin = await make_admin(Town(session, self._base_url, ""))
        assert admin.token is not None
        return admin.token

    def _register(self, name: str, password: str) -> Any:
        body = {"username": name, "password": password, "auth": {"type": "m.login.dummy"}}
        return self._call("POST", "/register", "", refresh_token=True, **body)

    def _make_rooms(self, name: str, other: str) -> dict[str, str]:
        rooms = {
            "room": self._call("POST", "/createRoom", preset="public_chat", room_alias_name=name, topic="a"),
            "left": self._call("POST", "/createRoom"),
            "knock": self._call(
                "POST",
                "/createRoom",
                other,
                initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
            ),
        }
        room_ids = {key: made["room_id"] for key, made in rooms.items()}
        self._call("POST", f"/rooms/{quote(room_ids['left'])}/leave")
        return room_ids

    def _make_room_content(self, other: str) -> dict[str, str]:
        room = f"/rooms/{quote(self.known['room'])}"
        self._call("POST", f"{room}/join", other)
        banned = self.known["self"].replace(":", "-banned:", 1)
        self._call("POST", f"{room}/ban", user_id=banned)
        message: dict[str, Any] = {"msgtype": "m.text", "body": "hello"}
        event_id = self._call("PUT", f"{room}/send/m.room.message/1", **message)["event_id"]
        for number, relation in enumerate(("m.thread", "m.reference", "m.annotation")):
            message["m.relates_to"] = {"rel_type": relation, "event_id": event_id, "key": "+"}
            self._call("PUT", f"{room}/send/m.room.message/{number}", other, **message)
        return {
            "banned": banned,
            "event": event_id,
            "state": self._call("PUT", f"{room}/state/m.room.topic/", topic="now")["event_id"],
            "token": self._call("GET", f"{room}/messages?dir=b&limit=1")["start"],
        }

    def _make_own_data(self) -> dict[str, str]:
        user = f"/user/{quote(self.known['self'])}"
        self._call("PUT", f"{user}/account_data/org.example.data", number=1)
        room = quote(self.known["room"])
        self._call("PUT", f"{user}/rooms/{room}/account_data/org.example.data", number=1)
        self._call("PUT", "/pushrules/global/override/org.example.rule", conditions=[], actions=["notify"])
        return {
            "filter": self._call("POST", f"{user}/filter")["filter_id"],
            "since": self._call("GET", "/sync")["next_batch"],
        }

    def _call(self, method: str, path: str, token: str | None = None, **body: Any) -> Any:
        """The body of an answer that must be a success."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self._base_url + CLIENT + path
        answer = requests.request(method, url, json=body, headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, (method, path, answer.text)
        return answer.json()
