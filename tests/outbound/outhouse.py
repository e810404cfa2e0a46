"""What sends, on a real database and over real HTTP, with a clock that tests turn; rooms without endpoints."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web

from hs.engine import Engine
from hs.matrix.keys import signing_key_from_seed
from hs.net.backoff import Backoff
from hs.net.bounds import Bounds
from hs.net.errors import Unreachable
from hs.net.federation_client import FederationClient
from hs.net.own_keys import OwnKeys
from hs.net.server_http import ServerHttp
from hs.outbound.catch_up import CatchUp
from hs.outbound.deliveries import Deliveries
from hs.outbound.ephemeral import EphemeralSender
from hs.outbound.progress import SendProgress
from hs.outbound.room_servers import RoomServers
from hs.outbound.sender import FederationSender
from hs.outbound.stored_edus import StoredEdus
from hs.rooms.drafts import Committed
from hs.storage.database import Database
from hs.storage.destinations import DestinationStore
from hs.storage.outbound import OutboundStore
from hs.storage.outbound_edus import OutboundEduStore
from hs.storage.rooms import RoomInfo
from tests.listening import listening
from tests.rooms.conftest import SERVER, TurnableClock
from tests.rooms.making import message
from tests.server_process import find_free_ports

_WAIT_S = 15


@dataclass(frozen=True)
class Sent:
    """A transaction as it arrived."""

    txn_id: str
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        """The bodies of its messages."""
        return [pdu["content"]["body"] for pdu in self.body["pdus"] if pdu["type"] == "m.room.message"]


# What a server answers; None for what it answers otherwise.
Strange = Callable[[web.BaseRequest, Sent], Awaitable[web.StreamResponse | None]]


class Receivers:
    """Any number of servers behind one port, told apart by the Host header."""

    def __init__(self, port: int) -> None:
        self.port = port
        # By server, what arrived and was taken.
        self.taken: dict[str, list[Sent]] = {}
        self.attempts = 0
        self.down: set[str] = set()
        self.refusing: set[str] = set()
        self.stalled: set[str] = set()
        # What servers do instead of answering as they should.
        self.strange: dict[str, Strange] = {}
        self.stalling = 0
        self._changed = asyncio.Condition()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take a transaction, or not."""
        name, sent = (
            request.headers["Host"],
            Sent(unquote(request.path.rsplit("/", 1)[1]), json.loads(await request.read())),
        )
        self.attempts += 1
        if name in self.stalled:
            self.stalling += 1
            await self._tell()
            await self.wait_until(lambda: name not in self.stalled)
        await self._tell()
        if (strange := self.strange.get(name)) is not None:
            answer = await strange(request, sent)
            if answer is not None:
                return answer
        if name in self.down:
            return web.json_response({"errcode": "M_UNKNOWN", "error": "down"}, status=503)
        if name in self.refusing:
            return web.json_response({"errcode": "M_FORBIDDEN", "error": "no"}, status=403)
        self.taken.setdefault(name, []).append(sent)
        await self._tell()
        return web.json_response({"pdus": {}})

    async def release(self, *names: str) -> None:
        """Let stalled servers go on."""
        self.stalled -= set(names)
        await self._tell()

    def edus(self, name: str, edu_type: str) -> list[Any]:
        """The contents of the EDUs of this type that a server has taken, in order."""
        taken = self.taken.get(name, ())
        return [edu["content"] for sent in taken for edu in sent.body["edus"] if edu["edu_type"] == edu_type]

    def texts(self, name: str) -> list[str]:
        """The messages that a server has taken, in order."""
        return [text for sent in self.taken.get(name, ()) for text in sent.texts]

    async def wait_until(self, is_so: Callable[[], Any]) -> None:
        """Return once it is so; looked at after each request."""
        async with asyncio.timeout(_WAIT_S), self._changed:
            await self._changed.wait_for(lambda: bool(is_so()))

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class PlainRequests:
    """Requests without TLS to the one port, and its finder: every server is there."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._port = port
        # Where servers are that are not there.
        self.elsewhere: dict[str, int] = {}

    async def find(self, server_name: str) -> Sequence[str]:
        """There."""
        return [server_name]

    def forget(self, server_name: str) -> None:
        """It is there all the same."""

    async def request(
        self,
        method: str,
        target_or_url: str,
        bounds: Bounds,
        *,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        is_timed_by_caller: bool,
    ) -> "PlainAnswer":
        """The answer."""
        url = f"http://127.0.0.1:{self.elsewhere.get(target_or_url, self._port)}{path}"
        try:
            async with self._session.request(
                method, url, data=body, headers={**headers, "Host": target_or_url}
            ) as answer:
                return PlainAnswer(answer.status, answer.headers, await answer.read())
        except aiohttp.ClientError as error:
            raise Unreachable(str(error)) from error


@dataclass(frozen=True)
class PlainAnswer:
    """Status, headers and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class OutHouse:
    """A server's sending half; `crash` and `start` again for a restart."""

    database: Database
    engine: Engine
    requests: PlainRequests
    receivers: Receivers
    clock: TurnableClock = field(default_factory=TurnableClock)

    def __post_init__(self) -> None:
        self.is_deaf = False
        self.engine.committer.on_commit(self._on_commit)

    def _on_commit(self, committed: Committed) -> None:
        self.last = committed
        if not self.is_deaf:
            self.sender.on_commit(committed)

    async def start(self) -> None:
        """As after a start of the process."""
        now_ms = self.clock.now_ms
        self.backoff = Backoff(DestinationStore(self.database), now_ms, lambda: 0.5)
        await self.backoff.load()
        own = OwnKeys(SERVER, [signing_key_from_seed("k", b"\x01" * 32)], [], now_ms)
        client = FederationClient(ServerHttp(self.requests, self.requests), own, self.backoff, now_ms)
        store = OutboundStore(self.database, SERVER)
        self.room_servers = room_servers = RoomServers(store, SERVER)
        self.progress = SendProgress(store, lambda: self.deliveries.queues)
        catch_up = CatchUp(store, self.engine.events, self.progress)
        self.stored_edus = StoredEdus(OutboundEduStore(self.database), SERVER)
        await self.stored_edus.load()
        self.deliveries = Deliveries(
            client, self.backoff, self.clock, self.progress, catch_up, self.stored_edus, slow_s=0.3
        )
        self.sender = FederationSender(
            room_servers, self.engine.heads, self.engine.events, self.progress, self.deliveries, SERVER
        )
        self.ephemeral = EphemeralSender(
            self.deliveries, room_servers, self.engine.rooms, self.sender.settle, SERVER
        )
        await self.sender.start(self.engine.stream.current)

    async def crash(self) -> None:
        """End without writing anything down."""
        await self.progress._saver.close(waits=False)
        await self.ephemeral.close()
        await self.deliveries.close()

    async def add_members(self, room: RoomInfo, *servers: str) -> None:
        """A user of each of the servers is in the room, as far as the member table says."""
        async with self.database.write() as writer:
            await writer.execute(
                "INSERT INTO memberships (room_nid, user_id, membership, event_nid) "
                "SELECT $1, '@bob:' || s, 'join', 0 FROM unnest($2::text[]) AS s "
                "ON CONFLICT (room_nid, user_id) DO UPDATE SET membership = 'join'",
                room.room_nid,
                list(servers),
            )
        await self.sender.settle()
        self.room_servers.forget()

    async def say(self, room: RoomInfo, text: str) -> str:
        """Alice says something; it is in queues when this returns."""
        sent = await self.engine.writer.send(room, message(body=text))
        await self.sender.settle()
        return sent.event_id

    async def behind(self) -> dict[str, int]:
        """Servers that are written down as behind."""
        return await OutboundStore(self.database, SERVER).list_behind()

    async def fail_until_given_up(self) -> None:
        """Turn the clock until nothing is kept for servers that do not answer."""
        for _ in range(50):
            if not list(self.deliveries.queues):
                return
            before = self.receivers.attempts
            self.clock.time_ms += 120_000
            self.deliveries.look()
            await self.receivers.wait_until(lambda before=before: self.receivers.attempts > before)
            await idle(self.deliveries)
        raise AssertionError("queues are kept")


async def idle(deliveries: Deliveries) -> None:
    """Return when no transaction is under way."""
    while deliveries.counts[2]:
        await asyncio.gather(*deliveries._tasks, return_exceptions=True)
        # What follows from it has a turn of its own.
        await asyncio.sleep(0)


@asynccontextmanager
async def open_outhouse(database: Database, engine: Engine) -> AsyncIterator[OutHouse]:
    """Sends and receives until the end."""
    [port] = find_free_ports(1)
    receivers = Receivers(port)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        listening(receivers.handle, "127.0.0.1", port, None),
        aiohttp.ClientSession(connector=connector) as session,
    ):
        house = OutHouse(database, engine, PlainRequests(session, port), receivers)
        await house.start()
        yield house
        receivers.stalled.clear()
        await receivers.release()
        await house.ephemeral.close()
        await house.sender.close()
