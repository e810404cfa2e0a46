"""CPU time of a process and all that it started, from the kernel's clocks."""

import asyncio
import os
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Less than this share of one core over the window counts as being at rest: timers go on in any server.
_REST_SHARE = 0.03
_REST_WINDOW_S = 0.15


def _clock_of(pid: int) -> float:
    """CPU seconds (user and system) of all threads of a process, also of those that ended; in nanoseconds' steps."""
    # How clock_getcpuclockid(3) makes a clock of a process id; /proc/PID/stat has the same in steps of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


def _stat_of(pid: int) -> list[str]:
    # The name in parentheses may hold anything; what follows it does not.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children_by_parent() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                children.setdefault(int(_stat_of(int(entry.name))[1]), []).append(int(entry.name))
            except OSError:
                continue  # ended meanwhile
    return children


class ProcessTree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu_s(self) -> float:
        """CPU seconds since the start, with those of children that ended."""
        children = _children_by_parent()
        pids, total = [self._pid], 0.0
        for pid in pids:
            try:
                # Children that were waited for: only to be had in ticks.
                total += sum(map(int, _stat_of(pid)[13:15])) / _TICKS_PER_S + _clock_of(pid)
            except OSError:
                continue
            pids += children.get(pid, ())
        return total

    def forget_peak(self) -> None:
        """Let `peak_mb` begin anew."""
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")

    def peak_mb(self) -> float:
        """The most memory that the first process had at any time, in MB."""
        status = Path(f"/proc/{self._pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 / 1e6

    async def rest(self, limit_s: float = 10.0) -> None:
        """Return once it has nothing to do any more, or after `limit_s`."""
        deadline = time.monotonic() + limit_s
        before = self.cpu_s()
        while time.monotonic() < deadline:
            await asyncio.sleep(_REST_WINDOW_S)
            now = self.cpu_s()
            if now - before < _REST_SHARE * _REST_WINDOW_S:
                return
            before = now
