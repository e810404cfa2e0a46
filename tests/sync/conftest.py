"""The read side over a room engine, without HTTP."""

from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.filters import NO_FILTER, compile_filter, parse_filter
from hs.matrix.tokens import StreamToken
from hs.readers import Readers, build_readers
from hs.storage.database import Database
from hs.storage.members import MemberStore
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore
from hs.sync.client_events import Viewer
from hs.sync.news import Notifier
from hs.sync.sync_request import SyncRequest
from hs.sync.sync_v2 import SyncV2
from hs.sync.user_rooms import UserRooms
from tests.rooms.conftest import TurnableClock, engine, signer

__all__ = ["engine", "signer"]


class Client:
    """A user's device: syncs, and keeps its token."""

    def __init__(self, sync: SyncV2, user_id: str, device_id: str = "DEVICE") -> None:
        self._sync = sync
        self.viewer = Viewer(user_id, device_id)
        self.since: StreamToken | None = None

    async def sync(self, filter: dict[str, Any] | None = None, timeout_ms: int = 0, **options: Any) -> Any:
        """The answer to the next sync."""
        wanted = compile_filter(NO_FILTER if filter is None else parse_filter(msgspec.json.encode(filter)))
        request = SyncRequest(self.viewer, wanted, self.since, timeout_ms, **options)
        answer = msgspec.json.decode(await self._sync.sync(request))
        self.since = StreamToken.parse(answer["next_batch"])
        return answer


@pytest.fixture
async def readers(engine: Engine, database: Database) -> Readers:
    """The read side of the engine."""
    stream, notifier = StreamIds(0), Notifier(UserRooms(MemberStore(database)))
    account_data = AccountDataStore(database, stream, lambda user_id, stream_id: None)
    return build_readers(engine, database, TurnableClock(), account_data, stream, StreamIds(0), notifier)
