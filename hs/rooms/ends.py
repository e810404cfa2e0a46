"""How tasks that wait for other servers end when this server does."""

import asyncio
from collections.abc import Iterable
from typing import Any

# Longer than a commit takes; other servers may hold up a task for many minutes.
GRACE_S = 5.0


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait a while for the tasks, then cut what still goes on: as a crash would, which each of them must stand."""
    running = list(tasks)
    if running:
        _, late = await asyncio.wait(running, timeout=GRACE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
