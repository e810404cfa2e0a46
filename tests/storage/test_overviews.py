"""Rooms that two users share, page by page."""

import pytest

from hs.storage.database import Database
from hs.storage.overviews import OverviewStore


@pytest.fixture
async def store(database: Database) -> OverviewStore:
    """Seven rooms: Alice is in all but the fourth, Bob in all but the sixth."""
    async with database.write() as writer:
        for nid in range(1, 8):
            await writer.execute(
                "INSERT INTO rooms (room_nid, room_id, room_version, created_ts) VALUES ($1, $2, '12', 0)",
                nid,
                f"!{nid}",
            )
            for user_id, away in (("@alice:hs", 4), ("@bob:hs", 6)):
                membership = "leave" if nid == away else "join"
                await writer.execute(
                    "INSERT INTO memberships (room_nid, user_id, membership, event_nid) VALUES ($1, $2, $3, 1)",
                    nid,
                    user_id,
                    membership,
                )
                await writer.execute(
                    "INSERT INTO local_memberships "
                    "(user_id, room_nid, membership, event_nid, stream_ordering, sender) "
                    "VALUES ($1, $2, $3, 1, 1, $1)",
                    user_id,
                    nid,
                    membership,
                )
    return OverviewStore(database)


@pytest.mark.parametrize("limit", [1, 2, 5, 9])
async def test_pages_of_shared_rooms_have_each_once(store: OverviewStore, limit: int) -> None:
    found: list[str] = []
    after = 0
    while True:
        total, page = await store.list_shared("@alice:hs", "@bob:hs", after, limit)
        assert total == 5
        if not page:
            break
        assert len(page) <= limit
        found += [room_id for _, room_id in page]
        after = page[-1][0]
    assert found == ["!1", "!2", "!3", "!5", "!7"]


async def test_who_is_in_no_room_shares_none(store: OverviewStore) -> None:
    assert await store.list_shared("@alice:hs", "@carol:hs", 0, 5) == (0, [])
    assert await store.list_nids(["!1", "!nothing", "!\x00"]) == {"!1": 1}
    assert await store.list_memberships_of("@alice:hs", ["!1", "!4", "!\x00"]) == {
        "!1": "join",
        "!4": "leave",
    }
