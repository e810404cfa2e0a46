"""Checks of what other servers send leave others their turn, whatever it is."""

import asyncio
from collections.abc import Mapping

from hs.matrix.keys import ServerKey
from hs.matrix.room_versions import get_room_version
from hs.rooms.checks import PduChecker


class NoKeys:
    """Knows no keys."""

    async def get_keys(
        self, wanted: Mapping[str, Mapping[str, int]]
    ) -> Mapping[str, Mapping[str, ServerKey]]:
        """None."""
        return {}


async def test_others_have_their_turn_while_what_is_no_event_is_refused() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    checked = await PduChecker(NoKeys()).check([{}] * 200, get_room_version("12"), "!room")
    running.cancel()
    assert checked.events == []
    assert turns >= 3
