"""Passwords: argon2id in a few threads of their own, so that neither the event loop nor memory suffers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hs.matrix.errors import InvalidParam, LimitExceeded

# One hash takes MEMORY_KIB for some 30 ms; more threads than this only fight for memory bandwidth.
THREADS = 2
# The first choice of OWASP's password storage cheat sheet for argon2id where memory is not free: 19 MiB.
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1
# Waiting longer than this many hashes take is longer than clients wait.
MAX_WAITING = 500
MAX_PASSWORD_BYTES = 4096

_T = TypeVar("_T")


class Passwords:
    """Hashes and verifies passwords."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._waiting = 0
        self._nobodys_hash: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to store, with its salt and parameters; InvalidParam for a password of absurd length."""
        check_length(password)
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; without a hash it is not, which takes as long to find out."""
        if len(password.encode()) > MAX_PASSWORD_BYTES:
            return False
        if password_hash is None:
            await self._run(lambda: self._verify(self._hash_of_nobody(), password))
            return False
        return await self._run(lambda: self._verify(password_hash, password))

    def close(self) -> None:
        """Let the threads end; what waits is given up."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= MAX_WAITING:
            raise LimitExceeded("too many logins at once", retry_after_ms=5_000)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _hash_of_nobody(self) -> str:
        # Two threads may both make one; either will do.
        if self._nobodys_hash is None:
            self._nobodys_hash = self._hasher.hash("nobody has this password")
        return self._nobodys_hash

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def check_length(password: str) -> None:
    """InvalidParam for a password of absurd length."""
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise InvalidParam(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
