"""A room engine over a real database, without HTTP."""

from collections.abc import AsyncIterator

import pytest
from signedjson.key import generate_signing_key

from hs.engine import Engine, build_engine
from hs.rooms.build import Signer
from hs.storage.database import Database

SERVER = "hs.test"
ALICE, BOB, CAROL = (f"@{name}:{SERVER}" for name in ("alice", "bob", "carol"))


class TurnableClock:
    """A clock that stands where the test sets it."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.time_ms


class PlainProfiles:
    """Users whose display name is their localpart."""

    async def member_fields(self, user_id: str) -> dict[str, str]:
        """The fields of a member event."""
        return {"displayname": user_id[1:].partition(":")[0]}


class OpenGate:
    """Everybody can be invited."""

    def check_invite(self, target: str) -> None:
        """Never refuses."""


@pytest.fixture(scope="session")
def signer() -> Signer:
    """The key of the test server."""
    return Signer(SERVER, generate_signing_key("test"))


async def make_engine(database: Database, signer: Signer) -> Engine:
    """An engine as after a start of the process."""
    return await build_engine(database, signer, TurnableClock(), PlainProfiles(), OpenGate(), 2**20)


@pytest.fixture
async def engine(database: Database, signer: Signer) -> AsyncIterator[Engine]:
    """A fresh engine."""
    engine = await make_engine(database, signer)
    yield engine
    await engine.writer.close()
