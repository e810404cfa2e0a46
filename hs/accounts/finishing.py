"""Work that is done to its end, whether or not the client who asked for it still waits."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)


class Finisher:
    """Runs such work."""

    def __init__(self) -> None:
        self._left_alone: set[asyncio.Task[None]] = set()

    async def finish(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Await the work; where the caller is cancelled meanwhile it goes on, and only the log hears of a failure."""
        task = asyncio.create_task(work, name=what)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._left_alone.add(task)
                task.add_done_callback(self._end)
            raise

    def _end(self, task: asyncio.Task[None]) -> None:
        self._left_alone.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed after its client had left", task.get_name(), exc_info=error)
