"""The real `hs serve` as a process of its own: started, watched, killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


def find_free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def to_toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """TOML of nested tables, lists of tables and plain values."""
    plain, nested = [], []
    for name, value in table.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            nested.append(f"[{path}]\n{to_toml(value, path + '.')}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            nested += [f"[[{path}]]\n{to_toml(item, path + '.')}" for item in value]
        else:
            plain.append(f"{name} = {_toml_value(value)}")
    return "\n".join([*plain, *nested]) + "\n"


class ServerProcess:
    """One `hs serve` with its own folder; an empty `database_url` means its embedded PostgreSQL."""

    def __init__(
        self, folder: Path, database_url: str = "", settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.server_name = "test.example"
        self.database_url = database_url
        [self.port] = find_free_ports(1)
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "server.log"
        self._config_path = folder / "hs.toml"
        self._config_path.write_text(to_toml(self._settings(database_url) | dict(settings or {})))
        self._process: subprocess.Popen[bytes] | None = None

    def _settings(self, database_url: str) -> dict[str, Any]:
        return {
            "server_name": self.server_name,
            "data_dir": str(self.folder / "data"),
            "listeners": [{"bind": "127.0.0.1", "port": self.port, "apis": ["client", "admin"]}],
            "database": {"url": database_url},
            "registration": {"enabled": True, "shared_secret": "only for tests"},
            "rate_limits": {"enabled": False},
        }

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it and return once it answers; AssertionError with its log where it does not come up."""
        assert self._process is None, "the server runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hs", "serve", "--config", str(self._config_path)],
                cwd=Path(__file__).parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, f"the server went down at its start:\n{self.read_log()}"
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the server did not come up:\n{self.read_log()}")
            # Nothing announces that a port is open; a refused connection costs next to nothing.
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/_matrix/client/versions", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> int:
        """Ask it to end, as an operator does; its exit code."""
        assert self._process is not None, "the server does not run"
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end when asked to:\n{self.read_log()}") from None
        self._process = None
        return code

    def kill(self) -> None:
        """kill -9 of the server process and nothing else."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill_everything(self) -> None:
        """kill -9 of the server and, before that can shut down, of its embedded PostgreSQL."""
        assert self._process is not None, "the server does not run"
        family = self._database_pids()
        assert family, "no embedded PostgreSQL to kill"
        self._process.kill()
        _kill_all(family)
        self._process.wait()
        self._process = None

    def kill_leftovers(self) -> None:
        """End an embedded PostgreSQL that outlived its server."""
        _kill_all(self._database_pids())

    def _database_pids(self) -> list[int]:
        pid_files = list((self.folder / "data").glob("postgres/postmaster.pid"))
        postmasters = [int(file.read_text().split()[0]) for file in pid_files]
        return [pid for postmaster in postmasters for pid in (postmaster, *_children_of(postmaster))]

    def read_log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


def _kill_all(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for pid in pids:
        _wait_until_gone(pid)


def _stat_of(pid: int) -> tuple[str, int] | None:
    """State and parent of a process, None where there is none."""
    try:
        # The name in parentheses may hold anything; what follows it does not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def _children_of(parent: int) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (stat := _stat_of(pid)) is not None and stat[1] == parent]


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while (stat := _stat_of(pid)) is not None and stat[0] != "Z":
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)  # it is not our child, so there is nothing to wait on
