"""Work that is done by one task at a time, however often it is asked for, and tried again where it fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 5.0


class Worker:
    """Calls `work` once it is woken: after `delay_s` seconds, once for all who ask until then.

    `work` does all there is to do, and takes what it does out of its list only when it is done: where it fails it
    is called again `retry_after_s` seconds later. This is the one place for that, so that a failure of ours (the
    database, or a bug) is always in the log, with where it came from, and never ends what must go on.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        *,
        delay_s: float = 0.0,
        retry_after_s: float = RETRY_AFTER_S,
    ) -> None:
        self._name = name
        self._work = work
        self._delay_s = delay_s
        self._retry_after_s = retry_after_s
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Somebody has asked while it worked.
        self._is_wanted = False
        self._is_closed = False

    @property
    def is_working(self) -> bool:
        """Whether it does something now."""
        return self._task is not None

    @property
    def is_planned(self) -> bool:
        """Whether it will do something after a while."""
        return self._timer is not None

    def wake(self) -> None:
        """Have it work, after the delay."""
        if self._task is not None:
            self._is_wanted = True
        elif self._timer is None and not self._is_closed:
            self._plan(self._delay_s)

    def hurry(self) -> None:
        """Have it work now."""
        if self._task is not None:
            self._is_wanted = True
        elif not self._is_closed:
            self._start()

    async def settle(self) -> None:
        """Return when it does not work; it goes on when one who waits for it goes away."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def close(self, *, waits: bool = True) -> None:
        """Do nothing any more; what it does now is waited for, or else cancelled."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            if not waits:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _plan(self, delay_s: float) -> None:
        if delay_s:
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._start)
        else:
            self._start()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_wanted = False
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def _run(self) -> None:
        delay_s = self._delay_s
        try:
            await self._work()
        except Exception:
            logger.exception("%s: failed, and is tried again later", self._name)
            delay_s, self._is_wanted = self._retry_after_s, True
        finally:
            self._task = None
        if self._is_wanted and not self._is_closed:
            self._plan(delay_s)
