"""People who use the server through its HTTP interface: a thin client for tests of endpoints."""

import itertools
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from tests import openapi

CLIENT = "/_matrix/client/v3"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """Status and JSON body of a response."""

    status: int
    body: Any
    headers: Any = None

    @property
    def errcode(self) -> str | None:
        """The error code, None for a success."""
        return self.body.get("errcode") if isinstance(self.body, dict) and self.status >= 400 else None

    @property
    def error(self) -> tuple[int, str | None]:
        """Status and error code, for one comparison."""
        return self.status, self.errcode


def path(*parts: str) -> str:
    """A path of the client API with every part escaped."""
    return CLIENT + "".join("/" + quote(part, safe="") for part in parts)


class Visitor:
    """Somebody without an account."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, token: str | None = None) -> None:
        self.session = session
        self.base_url = base_url
        self.token = token

    async def raw(self, method: str, url_path: str, data: bytes | None = None, **options: Any) -> Answer:
        """Any request; `url_path` is escaped already. AssertionError for an answer that the spec does not allow."""
        answer = await self.ask_raw(method, url_path, data, **options)
        openapi.check(method, url_path, answer.status, answer.body)
        openapi.check_headers(url_path, answer.headers)
        return answer

    async def ask_raw(self, method: str, url_path: str, data: bytes | None = None, **options: Any) -> Answer:
        """The same, whatever is answered."""
        headers = dict(options.pop("headers", {}))
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        # A plain string would be quoted again.
        from yarl import URL

        url = URL(self.base_url + url_path, encoded=True)
        async with self.session.request(method, url, data=data, headers=headers, **options) as response:
            text = await response.text()
            try:
                body = json.loads(text)
            except ValueError:
                body = text
            return Answer(response.status, body, response.headers)

    async def ask(
        self, method: str, *parts: str, body: Any = None, query: dict[str, str] | None = None
    ) -> Answer:
        """A request to `CLIENT/part/part...`; `body` is sent as JSON."""
        data = None if body is None else json.dumps(body).encode()
        suffix = "?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in query.items()) if query else ""
        return await self.raw(method, path(*parts) + suffix, data)

    async def get(self, *parts: str, **query: str) -> Answer:
        """GET."""
        return await self.ask("GET", *parts, query=query)

    async def post(self, *parts: str, body: Any = None) -> Answer:
        """POST, by default with an empty object."""
        return await self.ask("POST", *parts, body={} if body is None else body)

    async def put(self, *parts: str, body: Any = None) -> Answer:
        """PUT, by default with an empty object."""
        return await self.ask("PUT", *parts, body={} if body is None else body)

    async def delete(self, *parts: str) -> Answer:
        """DELETE."""
        return await self.ask("DELETE", *parts)


class Person(Visitor):
    """Somebody with an account and a device."""

    user_id: str
    device_id: str

    def __init__(self, session: aiohttp.ClientSession, base_url: str, account: dict[str, str]) -> None:
        super().__init__(session, base_url, account["access_token"])
        self.user_id = account["user_id"]
        self.device_id = account["device_id"]

    async def create_room(self, **request: Any) -> str:
        """The id of a new room."""
        answer = await self.post("createRoom", body=request)
        assert answer.status == 200, answer
        room_id: str = answer.body["room_id"]
        return room_id

    async def say(self, room_id: str, text: str, txn: str | None = None) -> str:
        """The event id of a message."""
        txn = txn or f"txn{next(_numbers)}"
        content = {"msgtype": "m.text", "body": text}
        answer = await self.put("rooms", room_id, "send", "m.room.message", txn, body=content)
        assert answer.status == 200, answer
        event_id: str = answer.body["event_id"]
        return event_id

    async def set_state(
        self, room_id: str, type: str, content: dict[str, Any], state_key: str = ""
    ) -> Answer:
        """The answer to a state event."""
        return await self.put("rooms", room_id, "state", type, state_key, body=content)

    async def state(self, room_id: str, type: str, state_key: str = "") -> Any:
        """The content of a current state event, or None."""
        answer = await self.get("rooms", room_id, "state", type, state_key)
        return answer.body if answer.status == 200 else None

    async def join(self, room_id: str) -> None:
        """Be in the room."""
        answer = await self.post("join", room_id)
        assert answer.status == 200, answer

    async def invite(self, room_id: str, user_id: str) -> None:
        """Have somebody invited."""
        answer = await self.post("rooms", room_id, "invite", body={"user_id": user_id})
        assert answer.status == 200, answer

    async def sync(self, since: str | None = None, timeout_ms: int = 0) -> Any:
        """The body of one /sync."""
        query = {"timeout": str(timeout_ms)} | ({} if since is None else {"since": since})
        answer = await self.get("sync", **query)
        assert answer.status == 200, answer
        return answer.body


class Town:
    """Makes people on one server; names are never used twice."""

    visitor_type = Visitor
    person_type = Person

    def __init__(self, session: aiohttp.ClientSession, base_url: str, server_name: str) -> None:
        self.session = session
        self.base_url = base_url
        self.server_name = server_name
        self.visitor = self.visitor_type(session, base_url)

    async def person(self, name: str = "person") -> Person:
        """A newly registered user with one device."""
        username = f"{name}-{next(_numbers)}"
        body = {
            "username": username,
            "password": f"{username} has a secret",
            "auth": {"type": "m.login.dummy"},
        }
        answer = await self.visitor.post("register", body=body)
        assert answer.status == 200, answer
        return self.person_type(self.session, self.base_url, answer.body)

    async def people(self, *names: str) -> list[Person]:
        """Several newly registered users."""
        return [await self.person(name) for name in names]
