"""The read side over a room engine, without HTTP."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.filters import NO_FILTER, compile_filter, parse_filter
from hs.matrix.tokens import StreamToken
from hs.readers import Readers, build_readers
from hs.storage.database import Database
from hs.sync.client_events import Viewer
from hs.sync.sync_v2 import AccountDataEvent, SyncRequest, SyncV2
from tests.rooms.conftest import TurnableClock, engine, signer

__all__ = ["engine", "signer"]


class NoAccountData:
    """Users who keep nothing on the server."""

    async def list_changes(self, user_id: str, since: int | None, upto: int) -> Sequence[AccountDataEvent]:
        """Nothing."""
        return ()


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
    return build_readers(engine, database, TurnableClock(), NoAccountData(), lambda: 0)
