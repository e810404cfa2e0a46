"""A small DNS server on this machine, for tests of what looks names up.

    async with DnsServer.start() as dns:
        dns.add("a.example", "A", "127.0.0.1")
        dns.add("_matrix-fed._tcp.a.example", "SRV", "10 5 8448 b.example.")
        resolver = Resolver(guard, now_ms, [dns.address])

Names that it does not have do not exist. `script` answers one query after another in different ways.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

SILENCE = "silence"
GARBAGE = "garbage"
# Over UDP; what asks again over TCP gets the records.
TRUNCATED = "truncated"


@dataclass(eq=False)
class DnsServer(asyncio.DatagramProtocol):
    """Answers what it has been told."""

    address: str = ""
    # "a.example A", in the order they came.
    queries: list[str] = field(default_factory=list)
    ttl: int = 60
    negative_ttl: int = 30
    _records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _scripts: dict[tuple[str, str], list[list[str] | str]] = field(default_factory=dict)
    # Set when a query arrives while answers are held back.
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    _held: asyncio.Event | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _transport: asyncio.DatagramTransport | None = None

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncIterator["DnsServer"]:
        """One that listens; its `address` has the port."""
        server = cls()
        streams, transport = await server._listen()
        try:
            yield server
        finally:
            streams.close()
            transport.close()
            for task in server._tasks:
                task.cancel()
            await asyncio.gather(*server._tasks, return_exceptions=True)
            await asyncio.sleep(0)

    async def _listen(self) -> tuple[asyncio.Server, asyncio.DatagramTransport]:
        loop = asyncio.get_running_loop()
        while True:
            streams = await asyncio.start_server(self._serve_stream, "127.0.0.1", 0)
            host, port = streams.sockets[0].getsockname()
            try:
                transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
            except OSError:
                # The same port for datagrams is somebody else's.
                streams.close()
                continue
            self._transport, self.address = transport, f"{host}:{port}"
            return streams, transport

    def add(self, name: str, kind: str, *values: str) -> None:
        """Records; a CNAME is followed to what is known of its target."""
        self._records.setdefault((name.rstrip(".").lower(), kind), []).extend(values)

    def remove(self, name: str, kind: str) -> None:
        """No such records any more."""
        self._records.pop((name.rstrip(".").lower(), kind), None)

    def script(self, name: str, kind: str, *answers: list[str] | str) -> None:
        """What the next queries are answered: records, a response code (SERVFAIL), SILENCE, GARBAGE or TRUNCATED.
        The last stays."""
        self._scripts[(name.rstrip(".").lower(), kind)] = list(answers)

    def hold(self) -> None:
        """Keep answers back until `let_go`."""
        self._held = asyncio.Event()

    def let_go(self) -> None:
        """Send them."""
        if self._held is not None:
            self._held.set()
            self._held = None

    def count(self, name: str, kind: str) -> int:
        """How often this was asked."""
        return self.queries.count(f"{name} {kind}")

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One query."""
        task = asyncio.ensure_future(self._answer_datagram(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_datagram(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = await self._answer(data)
        if answer and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    async def _serve_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One query over TCP."""
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = await self._answer(data, is_stream=True)
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()
        await writer.wait_closed()

    async def _answer(self, data: bytes, is_stream: bool = False) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append(f"{name} {kind}")
        if self._held is not None:
            self.reached.set()
            await self._held.wait()
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if scripts := self._scripts.get((name, kind)):
            answer = scripts.pop(0) if len(scripts) > 1 else scripts[0]
            if answer == SILENCE:
                return b""
            if answer == GARBAGE:
                return data[:2] + b"\xff" * 40
            if answer == TRUNCATED and not is_stream:
                response.flags |= dns.flags.TC
            elif answer == TRUNCATED:
                self._fill(response, name, kind)
            elif isinstance(answer, str):
                response.set_rcode(dns.rcode.from_text(answer))
            else:
                response.answer.append(self._rrset(name, kind, answer))
        else:
            self._fill(response, name, kind)
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        for _ in range(20):
            if values := self._records.get((name, kind)):
                response.answer.append(self._rrset(name, kind, values))
                return
            cname = self._records.get((name, "CNAME"))
            if not cname:
                break
            response.answer.append(self._rrset(name, "CNAME", cname))
            name = cname[0].rstrip(".").lower()
        if not any(known == name for known, _ in self._records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        soa = f"ns.invalid. admin.invalid. 1 60 60 60 {self.negative_ttl}"
        zone = f"{name.rpartition('.')[2]}."
        response.authority.append(dns.rrset.from_text(zone, self.negative_ttl, "IN", "SOA", soa))

    def _rrset(self, name: str, kind: str, values: list[str]) -> dns.rrset.RRset:
        return dns.rrset.from_text_list(f"{name}.", self.ttl, "IN", kind, values)
