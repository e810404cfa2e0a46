"""The database before anything else uses it: our own or the configured one, with its schema up to date.

    with prepared_database(config) as url:
        ...

What takes long shows on a terminal and otherwise goes to the log.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from hs.config import Config
from hs.storage.embedded import EmbeddedPostgres
from hs.storage.embedded_user import EmbeddedError
from hs.storage.migrate import migrate

logger = logging.getLogger(__name__)

_BAR_WIDTH = 30


class Progress:
    """One line on a terminal that says what goes on, with a bar where there are steps; log lines elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._is_shown = False

    def say(self, text: str) -> None:
        """Something has begun that takes a moment."""
        if self._is_terminal:
            self._show(f"{text} ...")
        else:
            logger.info("%s", text)

    def step(self, done: int, total: int, name: str) -> None:
        """Step `done` of `total` begins."""
        if self._is_terminal:
            filled = _BAR_WIDTH * done // total
            self._show(f"[{'#' * filled}{'-' * (_BAR_WIDTH - filled)}] {done}/{total} {name}")

    def clear(self) -> None:
        """Take the line away."""
        if self._is_shown:
            self._show("")
            self._is_shown = False

    def _show(self, text: str) -> None:
        self._stream.write(f"\r\x1b[2K{text}")
        self._stream.flush()
        self._is_shown = True


@contextmanager
def prepared_database(config: Config, progress: Progress | None = None) -> Iterator[str]:
    """The URL of the server's database, migrated; an embedded one stops when the block ends.

    Call it outside an event loop, in the thread that lives as long as the server. Where the embedded
    PostgreSQL ends by itself we get a SIGTERM, and an EmbeddedError at the end. Raises StorageError.
    """
    shown = progress or Progress()
    try:
        if config.database.url:
            asyncio.run(migrate(config.database.url, progress=shown.step))
            shown.clear()
            yield config.database.url
            return
        with EmbeddedPostgres.start(config.data_dir, shown.say) as postgres:
            asyncio.run(migrate(postgres.url, progress=shown.step))
            shown.clear()
            # Every request would fail from then on; whoever supervises us starts both again.
            postgres.watch(lambda: os.kill(os.getpid(), signal.SIGTERM))
            yield postgres.url
            if not postgres.is_running():
                raise EmbeddedError(f"PostgreSQL ended by itself; see {config.data_dir}/postgres.log")
    finally:
        shown.clear()
