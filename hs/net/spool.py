"""Bodies too large for memory: they go into a file without a name, which ends with whoever refers to it.

Spooled bodies are read like bytes; what of them is in memory the system may take back at any time. The file is where
the system has its temporary ones (TMPDIR).
"""

import asyncio
import mmap
import tempfile
from typing import IO, Final, TypeAlias

from hs.net.errors import RemoteError

Body: TypeAlias = bytes | mmap.mmap

# What is no larger stays in memory: nearly every answer.
IN_MEMORY: Final = 4 * 2**20
# Written at once, by a thread.
_BLOCK: Final = 2**20


class NoRoom(RemoteError):
    """The file could not be written."""


class Spool:
    """Takes a body in pieces."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._file: IO[bytes] | None = None

    async def add(self, chunk: bytes) -> None:
        """The next piece. Raises NoRoom."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > (IN_MEMORY if self._file is None else _BLOCK):
            await self._write()

    async def finish(self) -> Body:
        """The whole body. Raises NoRoom."""
        if self._file is None:
            return b"".join(self._chunks)
        await self._write()
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Let go of the file; what `finish` has given stays good."""
        if self._file is not None:
            self._file.close()

    async def _write(self) -> None:
        chunks, self._chunks, self._size = self._chunks, [], 0
        await asyncio.to_thread(self._write_now, chunks)

    def _write_now(self, chunks: list[bytes]) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # `close` is for it
            self._file.writelines(chunks)
            self._file.flush()
        except OSError as error:
            raise NoRoom(
                f"a large answer cannot be kept in {tempfile.gettempdir()}: {error.strerror}"
            ) from error


def leave_memory(body: Body) -> None:
    """Have the system forget what it holds of a spooled body until it is read again."""
    if isinstance(body, mmap.mmap):
        body.madvise(mmap.MADV_DONTNEED)
