"""The end of the server while others take their time: nothing is begun any more, and nobody is waited for."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hs.federation import build_room_apis, build_room_federation
from hs.rooms import ends, staging
from hs.rooms.inbound import InboundTransactions
from hs.storage.embedded import EmbeddedPostgres
from tests.certificates import Authority
from tests.federation.test_backfill_points import Rig, rig
from tests.federation_town import FederationTown
from tests.remote_server import RemoteServer

__all__ = ["rig"]

pytestmark = pytest.mark.timeout(60)


async def no_edus(origin: str, kind: str, content: Mapping[str, Any]) -> None:
    """None are sent."""


def make_inbound(rig: Rig) -> InboundTransactions:
    """Transactions wait for an hour for what is before their events."""
    federation = build_room_federation(rig.engine, rig.database, rig.signer, rig.clock, rig.network)
    budget = rig.network.budget
    inbound, _ = build_room_apis(
        rig.engine, rig.database, rig.signer, rig.clock, federation, budget, no_edus, 3600.0
    )
    return inbound


@pytest.mark.parametrize("places", [1, 0])
async def test_a_transaction_under_way_does_not_hold_up_the_end(
    rig: Rig,
    remote: RemoteServer,
    monkeypatch: pytest.MonkeyPatch,
    places: int,
) -> None:
    monkeypatch.setattr(staging, "_MAX_KEPT_OF_ROOM", places)
    inbound = make_inbound(rig)
    room, _ = await rig.enter(remote)
    room.say(remote.user("alice"), "missing")
    last = room.say(remote.user("alice"), "last")
    await inbound.close()
    answer = await inbound.receive(remote.name, "late", [last.pdu], [])
    assert (answer[last.event_id] is None) == bool(places)
    assert await rig.database.fetchval("SELECT count(*) FROM staged_events") == places
    assert not remote.received("POST", "/get_missing_events/")


async def test_a_transaction_that_waits_for_keys_is_cut(
    rig: Rig, remote: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends, "GRACE_S", 0.01)
    inbound = make_inbound(rig)
    room, _ = await rig.enter(remote)
    stall = remote.stall("GET", "/_matrix/key/")
    sent = room.say(remote.user("alice"), "hello")
    receiving = asyncio.create_task(inbound.receive(remote.name, "slow", [sent.pdu], []))
    await stall.reached()
    # Nothing of the database is held meanwhile.
    assert not await rig.database.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    await inbound.close()
    await asyncio.wait([receiving])
    assert receiving.cancelled()
    stall.release()


@pytest.mark.timeout(30)
async def test_a_join_that_another_server_holds_up_is_cut(
    authority: Authority,
    postgres: EmbeddedPostgres,
    tmp_path: Path,
    remote: RemoteServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "GRACE_S", 0.01)
    room, stall = remote.make_room(), remote.stall("PUT", "/send_join/")
    async with FederationTown.start(authority, postgres.url, tmp_path, count=1) as federation:
        bob = await federation.towns[0].person("bob")
        joining = asyncio.create_task(bob.ask("POST", "join", room.room_id, query={"via": remote.name}))
        await stall.reached()
    stall.release()
    [outcome] = await asyncio.gather(joining, return_exceptions=True)
    assert isinstance(outcome, Exception)
