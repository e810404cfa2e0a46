"""Writes receipts in groups: those that come up while a transaction runs go together in the next."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cachetools import LRUCache

from hs.storage.database import Database
from hs.storage.receipts import Receipt, ReceiptKey, ReceiptStore
from hs.storage.streams import StreamIds

# Receipts of one transaction at most.
MAX_BATCH = 500
# About 350 bytes each.
_KNOWN_POSITIONS = 50_000


@dataclass(frozen=True, slots=True)
class ReceiptNews:
    """What came of a transaction, in stream order; where `is_uncertain`, it may also not have happened."""

    receipts: Sequence[Receipt]
    upto: int
    is_uncertain: bool = False


OnReceipts = Callable[[ReceiptNews], None]


class ReceiptWriter:
    """The only writer of receipts: what it finds to be ahead of the stored ones stays so until written."""

    def __init__(self, database: Database, store: ReceiptStore, stream: StreamIds) -> None:
        self._database = database
        self._store = store
        self._stream = stream
        self._waiting: list[tuple[Receipt, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._on_receipts: list[OnReceipts] = []
        # Where the stored receipts are.
        self._positions: LRUCache[ReceiptKey, int] = LRUCache(_KNOWN_POSITIONS)

    def on_receipts(self, tell: OnReceipts) -> None:
        """Call `tell` after each transaction."""
        self._on_receipts.append(tell)

    async def write(self, receipt: Receipt) -> None:
        """Return once the receipt, or one that is further ahead, is committed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((receipt, done))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="receipts")
        await done

    async def close(self) -> None:
        """Wait until everything is written."""
        while self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                try:
                    await self._write([receipt for receipt, _ in batch])
                except BaseException as error:  # whatever went wrong must reach the waiting callers
                    for _, done in batch:
                        if not done.done() and isinstance(error, Exception):
                            done.set_exception(error)
                        else:
                            done.cancel()
                    if not isinstance(error, Exception):
                        raise
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)
        finally:
            self._worker = None
            for _, done in self._waiting:
                done.cancel()

    async def _write(self, receipts: Sequence[Receipt]) -> None:
        # One statement cannot change a row twice.
        furthest: dict[ReceiptKey, Receipt] = {}
        for receipt in receipts:
            known = furthest.get(receipt.key)
            if known is None or known.position < receipt.position:
                furthest[receipt.key] = receipt
        # Looked up beforehand, so that every id that is given out is stored: after a restart the stream goes
        # on after the newest stored one, and tokens must not be ahead of that.
        ahead = await self._list_ahead(furthest)
        if not ahead:
            return
        with self._stream.reserve(len(ahead)) as ids:
            numbered = [replace(receipt, stream_id=ids.first + i) for i, receipt in enumerate(ahead)]
            ids.on_failed(lambda: self._tell(ReceiptNews(numbered, ids.last, is_uncertain=True)))
            ids.on_published(lambda: self._tell(ReceiptNews(numbered, ids.last)))
            for receipt in numbered:
                self._positions.pop(receipt.key, None)
            async with self._database.write_once() as writer:
                await self._store.set_receipts(writer, numbered)
            for receipt in numbered:
                self._positions[receipt.key] = receipt.position

    async def _list_ahead(self, receipts: Mapping[ReceiptKey, Receipt]) -> list[Receipt]:
        """Those of the receipts that are new or ahead of what is stored."""
        known = {key: at for key in receipts if (at := self._positions.get(key)) is not None}
        unknown = [receipt for key, receipt in receipts.items() if key not in known]
        ahead = {receipt.key for receipt in await self._store.list_ahead(unknown)} if unknown else set()
        return [
            receipt
            for key, receipt in receipts.items()
            if (known[key] < receipt.position if key in known else key in ahead)
        ]

    def _tell(self, news: ReceiptNews) -> None:
        for tell in self._on_receipts:
            tell(news)
