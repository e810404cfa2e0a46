"""Who is in which room: what is read while a commit changes it is not remembered."""

import asyncio
from typing import cast

from hs.matrix.room_versions import get_room_version
from hs.matrix.tokens import RoomPosition
from hs.rooms.drafts import Committed, MembershipChange
from hs.storage.members import MemberStore, UserRoomRow
from hs.storage.rooms import RoomInfo
from hs.sync.user_rooms import UserRooms

ALICE = "@alice:a"
ROOM = RoomInfo(1, "!room:a", get_room_version("12"))


class SlowTable:
    """Answers with the memberships of when it was asked, once it is told to."""

    def __init__(self) -> None:
        self.rows: list[UserRoomRow] = []
        self.asked: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def list_rooms_of(self, user_id: str) -> list[UserRoomRow]:
        found, answer = list(self.rows), asyncio.Event()
        self.asked.put_nowait(answer)
        await answer.wait()
        return found


async def test_two_who_read_at_once_do_not_hide_a_commit_from_each_other() -> None:
    table = SlowTable()
    rooms = UserRooms(cast(MemberStore, table))
    early = asyncio.create_task(rooms.get(ALICE))
    early_answer = await table.asked.get()
    # The commit comes between the two.
    table.rows.append(UserRoomRow(1, "join", 5, 7, ALICE))
    change = MembershipChange(ALICE, "join", 5, 7, ALICE)
    rooms.on_commit(Committed(ROOM, RoomPosition("main", 7), 1, (), membership_changes=(change,)))
    late = asyncio.create_task(rooms.get(ALICE))
    late_answer = await table.asked.get()
    early_answer.set()
    for _ in range(3):
        await asyncio.sleep(0)
    # What it has read is too old: it asks again.
    assert not early.done()
    late_answer.set()
    (await table.asked.get()).set()
    assert (await late).keys() == {1}
    assert (await early).keys() == {1}
