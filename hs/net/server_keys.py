"""Keys of other servers: from memory, the database, the server itself, or servers that vouch for it, in this order.

Of very many servers at once, as a large room has, those that vouch for others are asked before the servers
themselves: of thousands a part is always gone, and each of these takes as long to ask as anything does.

Spec: server-server-api "Retrieving server keys"; rooms/v5 "Signing key validity period".

A server is asked by one flight at a time, which everybody joins who wants its keys. After an answer it is
left alone for half a minute, after none for longer and longer: whoever claims to be that server, or
signs with keys that nobody has, cannot make us ask again and again.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from cachetools import LRUCache

from hs.matrix.ids import is_server_name
from hs.matrix.keys import BadSignature, ServerKey
from hs.matrix.server_keys import BadKeyAnswer, KeyAnswer, KnownKey, merge_keys, read_key_answer
from hs.matrix.signing import verify_json
from hs.net.own_keys import OwnKeys

logger = logging.getLogger(__name__)

Wanted = Mapping[str, Mapping[str, int]]
"""Until when a key must be valid at least, in milliseconds, by key id, by server."""

Keys = dict[str, dict[str, ServerKey]]
"""Keys by key id, by server: what `verify_event_signatures` takes."""

# A kilobyte each: the servers of a few very large rooms.
_REMEMBERED: Final = 10_000
# Servers asked at once, and flights that wait or run in all; more than a join of the largest room needs.
_AT_ONCE: Final = 50
_STRANGERS_AT_ONCE: Final = 25
_MAX_STRANGER_FLIGHTS: Final = 250
_MAX_FLIGHTS: Final = 10_000
_NOTARIES_AT_ONCE: Final = 4
_NOTARY_BATCH: Final = 100
_GATHER_S: Final = 0.1
# Servers from which on the notaries come first.
_MANY: Final = 100
# A notary that does not answer is left alone for so long.
_NOTARY_PAUSE_MS: Final = 60_000

# Of one server; an event can name thousands that do not exist.
_MAX_KEY_IDS: Final = 20

_PAUSE_MS: Final = 30_000
_STRANGER_PAUSE_MS: Final = 10_000
_FIRST_RETRY_MS: Final = 60_000
_LAST_RETRY_MS: Final = 3600_000


class KeyStore(Protocol):
    """Where keys are kept."""

    async def list_keys(self, server_names: Collection[str]) -> list[KnownKey]:
        """All keys that we know of these servers."""

    async def list_answers(self, server_names: Collection[str]) -> dict[str, KeyAnswer]:
        """The newest answer of each of these servers that has given one; its keys are left out."""

    async def set_keys(self, changed: Iterable[KnownKey], answers: Iterable[KeyAnswer]) -> None:
        """Keep what has changed, and the answers that said so; a notary's takes no place of the server's own."""


class KeySource(Protocol):
    """Asks others; never raises for what they do."""

    @property
    def notaries(self) -> Collection[str]:
        """Servers that we believe what they say of others."""

    async def fetch(self, server_name: str) -> Any:
        """The server's answer about its own keys, decoded JSON; None where there is none."""

    async def fetch_from(self, notary: str, wanted: Wanted) -> list[Any] | None:
        """What a notary answers about the keys of others, decoded JSON; None where it does not answer."""


@dataclass(slots=True)
class _Attempts:
    """When a server, and the notaries about it, may be asked again."""

    direct_ms: int = 0
    notaries_ms: int = 0
    asked_ms: int = 0
    failures: int = 0
    # Nothing in the database either; saves strangers' made-up names a query each.
    is_unknown: bool = False

    def due_ms(self, for_stranger: bool) -> int:
        """When the server itself may be asked; sooner where something comes in its name: it may be back."""
        return min(self.direct_ms, self.asked_ms + _STRANGER_PAUSE_MS) if for_stranger else self.direct_ms


class ServerKeys:
    """Gets keys, many at once."""

    def __init__(self, store: KeyStore, source: KeySource, own: OwnKeys, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._source = source
        self._own = own
        self._now_ms = now_ms
        self._known: LRUCache[str, dict[str, KnownKey]] = LRUCache(_REMEMBERED)
        self._attempts: LRUCache[str, _Attempts] = LRUCache(_REMEMBERED)
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._stranger_slots = asyncio.Semaphore(_STRANGERS_AT_ONCE)
        self._stranger_flights = 0
        self._for_notaries: dict[str, tuple[dict[str, int], asyncio.Future[None]]] = {}
        self._is_gathering = False
        self._notary_tasks: set[asyncio.Task[None]] = set()
        # When notaries that did not answer may be asked again.
        self._notaries_due_ms: dict[str, int] = {}
        self._is_open = True

    async def get_keys(self, wanted: Wanted, for_stranger: bool = False) -> Keys:
        """All keys known of the wanted servers, once those that lack a wanted key have been asked.

        Keys that nobody has, or that are not valid for as long as wanted, are simply not there, or not for that
        long. What is wanted `for_stranger`, to find out whether to believe a request, does not hold up the rest.
        """
        own_name = self._own.server_name
        others = {name: ids for name, ids in wanted.items() if name != own_name and is_server_name(name)}
        await self._load(others)
        if not for_stranger:
            await self._ask_notaries_first(others)
        # Twice: a flight that others have begun may not have wanted the same keys.
        for _ in range(2):
            flights = [
                flight
                for name, key_ids in others.items()
                if self._missing(name, key_ids)
                and (flight := self._start_flight(name, key_ids, for_stranger)) is not None
            ]
            if not flights:
                break
            await asyncio.wait(flights)
        keys: Keys = {name: {} for name in wanted}
        for name in others:
            keys[name] = {key_id: known.key for key_id, known in self._known.get(name, {}).items()}
        if own_name in wanted:
            keys[own_name] = self._own.server_keys()
        return keys

    async def needs_fetch(self, server_name: str, key_ids: Mapping[str, int]) -> bool:
        """Whether `get_keys` for a stranger would have to ask somebody."""
        if server_name == self._own.server_name:
            return False
        await self._load([server_name])
        is_missing = bool(self._missing(server_name, key_ids))
        return is_missing and server_name not in self._flights and self._may_ask(server_name, True)

    async def refresh(self, server_names: Collection[str]) -> None:
        """Ask these servers themselves, those left out that may not be asked again yet."""
        await self._load(server_names)
        flights = [self._start_flight(name, {}, True) for name in server_names if self.may_refresh(name)]
        if running := [flight for flight in flights if flight is not None]:
            await asyncio.wait(running)

    async def close(self) -> None:
        """Cut what is under way; nobody is asked any more."""
        self._is_open = False
        for _, asked in self._for_notaries.values():
            asked.set_result(None)
        self._for_notaries.clear()
        tasks = [*self._flights.values(), *self._notary_tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, server_names: Collection[str]) -> None:
        """Bring into memory what the database has of these servers."""
        absent = [
            name
            for name in server_names
            if name not in self._known and not ((a := self._attempts.get(name)) and a.is_unknown)
        ]
        if not absent:
            return
        found: dict[str, dict[str, KnownKey]] = {}
        for known in await self._store.list_keys(absent):
            found.setdefault(known.server_name, {})[known.key.key_id] = known
        for name, keys in found.items():
            # What a flight has put there meanwhile is newer.
            self._known.setdefault(name, keys)

    def _missing(self, server_name: str, key_ids: Mapping[str, int]) -> dict[str, int]:
        known, now_ms = self._known.get(server_name, {}), self._now_ms()
        return {
            key_id: minimum_ts
            for key_id, minimum_ts in key_ids.items()
            if key_id not in known or not known[key_id].is_enough(minimum_ts, now_ms)
        }

    def may_refresh(self, server_name: str) -> bool:
        """Whether `refresh` would ask the server, or wait for those who do."""
        attempts = self._attempts.get(server_name)
        is_due = attempts is None or self._now_ms() >= attempts.direct_ms
        return is_due or server_name in self._flights

    def _may_ask(self, server_name: str, for_stranger: bool) -> bool:
        attempts = self._attempts.get(server_name)
        if attempts is None:
            return True
        return self._now_ms() >= min(attempts.due_ms(for_stranger), attempts.notaries_ms)

    def _start_flight(
        self, server_name: str, key_ids: Mapping[str, int], for_stranger: bool
    ) -> asyncio.Task[None] | None:
        """The task that asks for the keys of the server; None where nobody may be asked now."""
        flight = self._flights.get(server_name)
        if flight is not None:
            return flight
        if not self._is_open or len(self._flights) >= _MAX_FLIGHTS:
            return None
        if not self._may_ask(server_name, for_stranger):
            return None
        if for_stranger and self._stranger_flights >= _MAX_STRANGER_FLIGHTS:
            return None
        flight = asyncio.create_task(self._fly(server_name, key_ids, for_stranger))
        self._flights[server_name] = flight
        self._stranger_flights += for_stranger
        flight.add_done_callback(lambda done: self._land(server_name, done, for_stranger))
        return flight

    def _land(self, server_name: str, flight: asyncio.Task[None], for_stranger: bool) -> None:
        del self._flights[server_name]
        self._stranger_flights -= for_stranger
        if not flight.cancelled() and (error := flight.exception()) is not None:
            logger.error("getting the keys of %s failed", server_name, exc_info=error)

    async def _fly(self, server_name: str, key_ids: Mapping[str, int], for_stranger: bool) -> None:
        attempts = self._attempts.setdefault(server_name, _Attempts())
        if self._now_ms() >= attempts.due_ms(for_stranger):
            async with self._stranger_slots if for_stranger else self._slots:
                value = await self._source.fetch(server_name)
            answer = self._read(value, server_name, is_direct=True)
            self._note_attempt(attempts, answer is not None)
            if answer is not None:
                await self._learn([answer])
        missing = self._missing(server_name, key_ids)
        if missing and self._may_ask_notaries(server_name):
            await self._ask_notaries(server_name, missing)
        attempts.is_unknown = server_name not in self._known

    def _note_attempt(self, attempts: _Attempts, is_answered: bool) -> None:
        attempts.asked_ms = self._now_ms()
        if is_answered:
            attempts.failures = 0
            attempts.direct_ms = self._now_ms() + _PAUSE_MS
        else:
            wait_ms = min(_FIRST_RETRY_MS << min(attempts.failures, 20), _LAST_RETRY_MS)
            attempts.failures += 1
            attempts.direct_ms = self._now_ms() + wait_ms

    def _read(self, value: Any, server_name: str, is_direct: bool) -> KeyAnswer | None:
        if value is None:
            return None
        try:
            return read_key_answer(value, server_name, self._now_ms(), is_direct)
        except BadKeyAnswer as error:
            logger.info("the keys of %s are not believed: %s", server_name, error)
            return None

    async def _learn(self, answers: Iterable[KeyAnswer]) -> None:
        """Keep what the answers say, in memory once it is in the database."""
        changed: dict[str, dict[str, KnownKey]] = {}
        newest: dict[str, KeyAnswer] = {}
        # A notary may have several answers of one server, of different ages.
        for answer in sorted(answers, key=lambda answer: answer.valid_until_ts):
            name = answer.server_name
            so_far = changed.setdefault(name, {})
            so_far |= merge_keys(self._known.get(name, {}) | so_far, answer)
            newest[name] = answer
        rows = [key for keys in changed.values() for key in keys.values()]
        await self._store.set_keys(rows, newest.values())
        for name, keys in changed.items():
            self._known[name] = self._known.get(name, {}) | keys

    # --- notaries: one request for many servers

    async def _ask_notaries_first(self, wanted: Wanted) -> None:
        """Ask the notaries where very many servers lack keys; for those few others they come after the servers."""
        missing = {
            name: left
            for name, key_ids in wanted.items()
            if (left := self._missing(name, key_ids)) and self._may_ask_notaries(name)
        }
        if len(missing) >= _MANY and self._source.notaries:
            await asyncio.gather(*(self._ask_notaries(name, key_ids) for name, key_ids in missing.items()))

    def _may_ask_notaries(self, server_name: str) -> bool:
        attempts = self._attempts.get(server_name)
        is_due = attempts is None or self._now_ms() >= attempts.notaries_ms
        # A notary's own keys come from itself: its word for them would be worth nothing.
        return is_due and server_name not in self._source.notaries

    async def _ask_notaries(self, server_name: str, key_ids: Mapping[str, int]) -> None:
        """Return once the notaries have been asked for these keys; those asked for meanwhile go together."""
        if self._source.notaries and self._is_open:
            await self._wait_for_notaries(server_name, key_ids)
        attempts = self._attempts.setdefault(server_name, _Attempts())
        attempts.notaries_ms = max(self._now_ms() + _PAUSE_MS, attempts.direct_ms)

    async def _wait_for_notaries(self, server_name: str, key_ids: Mapping[str, int]) -> None:
        waiting = self._for_notaries.get(server_name)
        if waiting is None:
            waiting = {}, asyncio.get_running_loop().create_future()
            self._for_notaries[server_name] = waiting
        waiting[0].update(islice(key_ids.items(), _MAX_KEY_IDS - len(waiting[0])))
        self._work_for_notaries()
        # Others may wait for the same.
        await asyncio.shield(waiting[1])

    def _work_for_notaries(self) -> None:
        if self._for_notaries and not self._is_gathering and len(self._notary_tasks) < _NOTARIES_AT_ONCE:
            self._is_gathering = True
            task = asyncio.create_task(self._ask_together())
            self._notary_tasks.add(task)
            task.add_done_callback(self._end_notary_task)

    def _end_notary_task(self, task: asyncio.Task[None]) -> None:
        self._notary_tasks.discard(task)
        self._work_for_notaries()

    async def _ask_together(self) -> None:
        # Servers that went down together are given up one after the other.
        await asyncio.sleep(_GATHER_S)
        names = list(self._for_notaries)[:_NOTARY_BATCH]
        batch = {name: self._for_notaries.pop(name) for name in names}
        self._is_gathering = False
        self._work_for_notaries()
        try:
            await self._ask_batch({name: key_ids for name, (key_ids, _) in batch.items()})
        except Exception:
            logger.exception("asking the notaries for the keys of %d servers failed", len(batch))
        finally:
            for _, asked in batch.values():
                if not asked.done():
                    asked.set_result(None)

    async def _ask_batch(self, wanted: Wanted) -> None:
        for notary in self._source.notaries:
            missing = {name: left for name, ids in wanted.items() if (left := self._missing(name, ids))}
            if not missing:
                return
            if self._now_ms() < self._notaries_due_ms.get(notary, 0):
                continue
            values = await self._source.fetch_from(notary, missing)
            if values is None:
                self._notaries_due_ms[notary] = self._now_ms() + _NOTARY_PAUSE_MS
                continue
            read = [await self._read_hearsay(notary, value, missing) for value in values]
            if answers := [answer for answer in read if answer is not None]:
                await self._learn(answers)

    async def _read_hearsay(self, notary: str, value: Any, wanted: Wanted) -> KeyAnswer | None:
        """What a notary says of a wanted server, where both have signed it."""
        name = value.get("server_name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in wanted:
            return None
        answer = self._read(value, name, is_direct=False)
        if answer is None:
            return None
        # Read above: the signatures have the right shape.
        key_ids = dict.fromkeys(list(value["signatures"].get(notary, {}))[:2], self._now_ms())
        keys = (await self.get_keys({notary: key_ids}))[notary]
        for key_id in key_ids.keys() & keys.keys():
            if keys[key_id].covers(self._now_ms()):
                try:
                    verify_json(value, notary, key_id, keys[key_id].verify_key)
                except BadSignature:
                    break
                return answer
        logger.info("what %s says of the keys of %s is not signed by it", notary, name)
        return None
