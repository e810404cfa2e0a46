"""One server and the people who use it."""

import asyncio
import itertools
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from bench.load.connection import Answer, BadAnswer, Connection
from bench.load.servers import Server

CLIENT = "/_matrix/client/v3"
ROOM_VERSION = "12"

# Enough to keep a server busy during the set-up, and no stress for it.
_AT_ONCE = 8

_T = TypeVar("_T")


def path(*parts: str, **query: str) -> str:
    """A path of the client API with every part escaped."""
    where = CLIENT + "".join("/" + quote(part, safe="") for part in parts)
    return where + "?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in query.items()) if query else where


async def gather_gently(work: Iterable[Awaitable[_T]]) -> list[_T]:
    """All results in order, a few at a time."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Awaitable[_T]) -> _T:
        async with places:
            return await item

    return await asyncio.gather(*map(one, work))


class Visitor:
    """Somebody who sends requests; keeps connections alive and uses as many as there are requests at once."""

    def __init__(self, server: Server, token: str = "") -> None:
        self._server = server
        self._token = token
        self._idle: list[Connection] = []

    async def ask(self, method: str, where: str, body: Any = None) -> Answer:
        """The answer to a request; BadAnswer unless its status is 200."""
        data = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {where} HTTP/1.1\r\nHost: 127.0.0.1:{self._server.port}\r\n"
        if self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        connection = await self._take_connection()
        try:
            answer = await connection.ask(head.encode() + b"\r\n" + data)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if answer.status != 200:
            raise BadAnswer(f"{method} {where}: {answer.status} {answer.body[:300]!r}")
        return answer

    async def get(self, *parts: str, **query: str) -> Any:
        """The decoded answer to GET."""
        return (await self.ask("GET", path(*parts, **query))).json

    async def put(self, *parts: str, body: Any) -> Any:
        """The decoded answer to PUT."""
        return (await self.ask("PUT", path(*parts), body)).json

    async def post(self, *parts: str, body: Any) -> Any:
        """The decoded answer to POST."""
        return (await self.ask("POST", path(*parts), body)).json

    def hang_up(self) -> None:
        """Close the connections that wait for a request."""
        while self._idle:
            self._idle.pop().close()

    async def _take_connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return await Connection.open(self._server.port)


class Person(Visitor):
    """Somebody with an account."""

    def __init__(self, server: Server, user_id: str, token: str) -> None:
        super().__init__(server, token)
        self.user_id = user_id
        self._transactions = itertools.count(1)

    async def create_room(self, **options: Any) -> str:
        """The id of a new room, public unless told otherwise."""
        body = {"preset": "public_chat", "room_version": ROOM_VERSION, **options}
        return str((await self.post("createRoom", body=body))["room_id"])

    async def join(self, room_id: str) -> None:
        """Join a room."""
        await self.post("join", room_id, body={})

    async def send(self, room_id: str, text: str) -> str:
        """The id of a message sent."""
        number = next(self._transactions)
        body = {"msgtype": "m.text", "body": text}
        where = path("rooms", room_id, "send", "m.room.message", f"t{number}")
        return str((await self.ask("PUT", where, body)).json["event_id"])

    async def sync(self, **query: str) -> Answer:
        """The answer to one /sync, undecoded: it may be large."""
        return await self.ask("GET", path("sync", **query))


class Town:
    """A server, its people, and rooms that several rows use."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.visitor = Visitor(server)
        self._groups: dict[str, list[Person]] = {}
        self._rooms: dict[str, str] = {}

    async def people(self, group: str, count: int) -> list[Person]:
        """The first `count` people of a group, who are there from then on."""
        there = self._groups.setdefault(group, [])
        wanted = [f"{group}-{number}" for number in range(len(there), count)]
        there += await gather_gently(map(self._register, wanted))
        return there[:count]

    async def newcomer(self, name: str) -> Person:
        """A person of that name who has done nothing yet."""
        return await self._register(name)

    async def room(self, name: str, members: list[Person], messages: int = 0) -> str:
        """A public room of these people with some messages by turns; made once, later calls find it."""
        if name not in self._rooms:
            room_id = await members[0].create_room(name=name)
            await gather_gently(member.join(room_id) for member in members[1:])
            for number in range(messages):
                await members[number % len(members)].send(room_id, f"message {number} in {name}")
            self._rooms[name] = room_id
        return self._rooms[name]

    async def restart(self, settings: dict[str, Any] | None = None) -> None:
        """Stop and start the server, with what it had in memory gone; `settings` are for this kind of server."""
        self.hang_up()
        await asyncio.to_thread(self.server.restart, settings)

    def hang_up(self) -> None:
        """Close everybody's connections that wait for a request."""
        for person in [self.visitor, *itertools.chain(*self._groups.values())]:
            person.hang_up()

    async def _register(self, name: str) -> Person:
        body = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        answer = await self.visitor.post("register", body=body)
        return Person(self.server, answer["user_id"], answer["access_token"])


PASSWORD = "correct horse battery staple"
