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
    """What there is, by name (`world["room"]`), and the token of the user whom it belongs to.

    Each thing is made when it is first asked for; after `renew` all are new.
    """

    def __init__(self, base_url: str, name: str) -> None:
        self._base_url = base_url
        self._prefix = name
        self._admin_token = ""
        self._other_token = ""
        self._name = ""
        self._known: dict[str, str] = {}
        self.renew()

    def renew(self) -> None:
        """Leave everything behind."""
        self._name = f"{self._prefix}-{next(_numbers)}"
        self._known = {"password": f"the secret of {self._name}", "free": f"{self._name}-free"}

    def __getitem__(self, name: str) -> str:
        """The id of the thing, or the text, of this name."""
        if name not in self._known:
            make = {
                **dict.fromkeys(("self", "device", "refresh", "token of self", "server"), self._make_self),
                **dict.fromkeys(("other", "token of other"), self._make_other),
                **dict.fromkeys(("room", "alias", "freealias"), self._make_room),
                **dict.fromkeys(("event", "state", "token"), self._make_events),
                "stranger": lambda: {"stranger": self._user_id("stranger")},
                "banned": self._make_banned,
                "left": self._make_left,
                "knock": self._make_knock,
                "filter": lambda: {"filter": self._call("POST", f"{self._user}/filter")["filter_id"]},
                "rule": self._make_rule,
                "data": self._make_data,
                "since": lambda: {"since": self._call("GET", "/sync")["next_batch"]},
            }[name]
            self._known |= make()
        return self._known[name]

    @property
    def token(self) -> str:
        """The access token."""
        return self["token of self"]

    @property
    def admin_token(self) -> str:
        """The token of an administrator."""
        if not self._admin_token:
            self._admin_token = asyncio.run(self._make_admin())
        return self._admin_token

    @property
    def _user(self) -> str:
        return f"/user/{quote(self['self'])}"

    @property
    def _room(self) -> str:
        return f"/rooms/{quote(self['room'])}"

    def _user_id(self, name: str) -> str:
        return f"@{self._name}-{name}:{self['server']}"

    def _make_self(self) -> dict[str, str]:
        made = self._register(self._name)
        return {
            "self": made["user_id"],
            "device": made["device_id"],
            "token of self": made["access_token"],
            "refresh": made["refresh_token"],
            "server": made["user_id"].partition(":")[2],
        }

    def _make_other(self) -> dict[str, str]:
        made = self._register(f"{self._name}-other")
        return {"other": made["user_id"], "token of other": made["access_token"]}

    def _register(self, name: str) -> Any:
        body = {"username": name, "password": self["password"], "auth": {"type": "m.login.dummy"}}
        return self._call("POST", "/register", "", refresh_token=True, **body)

    def _make_room(self) -> dict[str, str]:
        made = self._call("POST", "/createRoom", preset="public_chat", room_alias_name=self._name, topic="a")
        room_id = quote(made["room_id"])
        self._call("POST", f"/rooms/{room_id}/join", self["token of other"])
        self._call("PUT", f"{self._user}/rooms/{room_id}/account_data/org.example.data", number=1)
        return {
            "room": made["room_id"],
            "alias": f"#{self._name}:{self['server']}",
            "freealias": f"#{self._name}-free:{self['server']}",
        }

    def _make_events(self) -> dict[str, str]:
        message: dict[str, Any] = {"msgtype": "m.text", "body": "hello"}
        event_id = self._call("PUT", f"{self._room}/send/m.room.message/1", **message)["event_id"]
        for number, relation in enumerate(("m.thread", "m.reference", "m.annotation")):
            message["m.relates_to"] = {"rel_type": relation, "event_id": event_id, "key": "+"}
            path = f"{self._room}/send/m.room.message/{number}"
            self._call("PUT", path, self["token of other"], **message)
        return {
            "event": event_id,
            "state": self._call("PUT", f"{self._room}/state/m.room.topic/", topic="now")["event_id"],
            "token": self._call("GET", f"{self._room}/messages?dir=b&limit=1")["start"],
        }

    def _make_banned(self) -> dict[str, str]:
        banned = self._user_id("banned")
        self._call("POST", f"{self._room}/ban", user_id=banned)
        return {"banned": banned}

    def _make_rule(self) -> dict[str, str]:
        rule: dict[str, Any] = {"conditions": [], "actions": ["notify"]}
        self._call("PUT", "/pushrules/global/override/org.example.rule", **rule)
        return {"rule": "org.example.rule"}

    def _make_data(self) -> dict[str, str]:
        self._call("PUT", f"{self._user}/account_data/org.example.data", number=1)
        return {"data": "org.example.data"}

    def _make_left(self) -> dict[str, str]:
        room_id = self._call("POST", "/createRoom")["room_id"]
        self._call("POST", f"/rooms/{quote(room_id)}/leave")
        return {"left": room_id}

    def _make_knock(self) -> dict[str, str]:
        rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock"}}
        other = self["token of other"]
        return {"knock": self._call("POST", "/createRoom", other, initial_state=[rules])["room_id"]}

    async def _make_admin(self) -> str:
        async with aiohttp.ClientSession() as session:
            admin = await make_admin(Town(session, self._base_url, ""))
        assert admin.token is not None
        return admin.token

    def _call(self, method: str, path: str, token: str | None = None, **body: Any) -> Any:
        """The body of an answer that must be a success."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self._base_url + CLIENT + path
        answer = requests.request(method, url, json=body, headers=headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, (method, path, answer.text)
        return answer.json()
