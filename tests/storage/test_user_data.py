"""Account data below HTTP: changes at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hs.storage.database import Database, Writer
from hs.storage.user_data import AccountDataStore, load_account_data_stream

ALICE = "@alice:hs.test"


class GatedDatabase(Database):
    """Its writes wait for `gate`, where there is one."""

    gate: asyncio.Event | None = None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Writer]:
        if self.gate is not None:
            await self.gate.wait()
        async with super().write() as writer:
            yield writer


async def test_a_token_is_never_ahead_of_what_is_stored(database: Database) -> None:
    gated = GatedDatabase(database._pool)
    stream = await load_account_data_stream(database)
    store = AccountDataStore(gated, stream, lambda user_id, stream_id: None)
    gated.gate = gate = asyncio.Event()
    early = asyncio.create_task(store.set_account_data(ALICE, "", "a", b'{"written":"last"}'))
    await asyncio.sleep(0)  # it has its stream id, and waits
    gated.gate = None
    await store.set_account_data(ALICE, "", "a", b'{"written":"first"}')
    assert stream.current == 0
    gate.set()
    await early
    assert stream.current == 2
    # After a restart, ids go on from there: clients whose tokens say 2 must not miss what gets the next one.
    assert (await load_account_data_stream(database)).current == 2
    [event] = await store.list_account_data_since(ALICE, 0, 2)
    assert event.content_json == b'{"written":"last"}'


async def test_a_change_sees_what_was_being_stored_when_it_came(database: Database) -> None:
    store = AccountDataStore(
        database, await load_account_data_stream(database), lambda user_id, stream_id: None
    )
    await store.set_account_data(ALICE, "", "m.direct", b'{"old":[]}')
    async with database.write() as writer:
        await writer.execute("UPDATE account_data SET content = $1", b'{"new":[]}')
        change = asyncio.create_task(
            store.change_account_data(ALICE, "", "m.direct", lambda stored: (stored or b"") + b" ")
        )
        while not await database.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"
        ):
            assert not change.done()
    await change
    assert await store.find_account_data(ALICE, "", "m.direct") == b'{"new":[]} '
