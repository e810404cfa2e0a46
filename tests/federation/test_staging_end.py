"""Events that come in while the server ends: nothing is begun any more, and nobody waits for it."""

from collections.abc import Mapping
from typing import Any

import pytest

from hs.federation import build_room_apis, build_room_federation
from hs.rooms import staging
from tests.federation.test_backfill_points import Rig, rig
from tests.remote_server import RemoteServer

__all__ = ["rig"]

pytestmark = pytest.mark.timeout(60)


async def no_edus(origin: str, kind: str, content: Mapping[str, Any]) -> None:
    """None are sent."""


@pytest.mark.parametrize("places", [1, 0])
async def test_a_transaction_under_way_does_not_hold_up_the_end(
    rig: Rig,
    remote: RemoteServer,
    monkeypatch: pytest.MonkeyPatch,
    places: int,
) -> None:
    monkeypatch.setattr(staging, "_MAX_KEPT_OF_ROOM", places)
    engine, database, signer, clock, network = rig.engine, rig.database, rig.signer, rig.clock, rig.network
    federation = build_room_federation(engine, database, signer, clock, network)
    inbound, _ = build_room_apis(
        engine, database, signer, clock, federation, network.budget, no_edus, patience_s=3600.0
    )
    room, _ = await rig.enter(remote)
    room.say(remote.user("alice"), "missing")
    last = room.say(remote.user("alice"), "last")
    await inbound.close()
    answer = await inbound.receive(remote.name, "late", [last.pdu], [])
    assert (answer[last.event_id] is None) == bool(places)
    assert await database.fetchval("SELECT count(*) FROM staged_events") == places
    assert not remote.received("POST", "/get_missing_events/")
