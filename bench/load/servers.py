"""The programs under test: how each is configured, started, and which processes are its own.

Each has a PostgreSQL cluster to itself, made and started as `hs serve` does it, with the same settings.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.load.processes import ProcessTree
from tests import synapse_config
from tests.server_process import find_free_ports, to_toml

SERVER_NAME = "load.example"

_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 60.0


class Server(ABC):
    """A homeserver on 127.0.0.1 with rate limits off; `database_pid` is its PostgreSQL's first process."""

    name: str

    def __init__(
        self, folder: Path, database_url: str, database_pid: int, python: str, *, presence: bool = False
    ) -> None:
        self.folder = folder
        self.database = ProcessTree(database_pid)
        [self.port] = find_free_ports(1)
        self._database_url = database_url
        self._python = python
        self._presence = presence
        self._log_path = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _prepare(self, settings: dict[str, Any]) -> list[str]:
        """Write the configuration, with these settings instead of the usual ones; the command that starts."""

    @abstractmethod
    def _folder_of_run(self) -> Path:
        """The current folder of the process."""

    @abstractmethod
    def federation_settings(self, ca_file: Path) -> dict[str, Any]:
        """Settings for `start`: it federates, over its one port, with servers of this machine that the CA knows."""

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def tree(self) -> ProcessTree:
        """The server's processes, without those of the database."""
        return ProcessTree(self.pid)

    def start(self, settings: dict[str, Any] | None = None) -> None:
        """Start it and return once it answers; RuntimeError with the end of its log where it does not come up."""
        command = self._prepare(settings or {})
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder_of_run(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            )
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log_end = self._log_path.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self.name} did not come up:\n{log_end}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self, settings: dict[str, Any] | None = None) -> None:
        """Stop and start it."""
        self.stop()
        self.start(settings)

    def _answers(self) -> bool:
        url = f"http://127.0.0.1:{self.port}/_matrix/client/versions"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


class Hs(Server):
    """Our own: the working tree, or an installed build where `python` is another interpreter."""

    name = "hs"

    def _prepare(self, settings: dict[str, Any]) -> list[str]:
        document: dict[str, Any] = {
            "server_name": SERVER_NAME,
            "data_dir": str(self.folder / "data"),
            "listeners": [{"bind": "127.0.0.1", "port": self.port, "apis": ["client"]}],
            "database": {"url": self._database_url},
            "federation": {"enabled": False},
            "registration": {"enabled": True},
            "rate_limits": {"enabled": False},
            "log": {"level": "warning"},
        }
        if not self._presence:
            document["presence"] = {"enabled": False}
        config = self.folder / "hs.toml"
        config.write_text(to_toml(document | settings))
        return [self._python, "-m", "hs", "serve", "--config", str(config)]

    def federation_settings(self, ca_file: Path) -> dict[str, Any]:
        """It federates."""
        return {
            "listeners": [{"bind": "127.0.0.1", "port": self.port, "apis": ["client", "federation"]}],
            "federation": {"ca_file": str(ca_file), "trusted_key_servers": []},
            "network": {"ip_range_whitelist": ["127.0.0.0/8"]},
        }

    def _folder_of_run(self) -> Path:
        # Python puts the current folder first: another interpreter must not find our working tree in it.
        return Path(__file__).parents[2] if self._python == sys.executable else self.folder


class Synapse(Server):
    """matrix-synapse, one process, with the defaults of its sample configuration otherwise."""

    name = "synapse"

    def _prepare(self, settings: dict[str, Any]) -> list[str]:
        return [self._python, *synapse_config.write_files(self.folder, self._document() | settings)]

    def _document(self) -> dict[str, Any]:
        address = urlsplit(self._database_url)
        query = parse_qs(address.query)
        return {
            **synapse_config.base_document(self.folder, SERVER_NAME),
            "federation_domain_whitelist": [],
            "presence": {"enabled": self._presence},
            "listeners": [synapse_config.listener(self.port, "client")],
            "database": {
                "name": "psycopg2",
                "args": {
                    "user": address.username,
                    "database": address.path.lstrip("/"),
                    "host": query["host"][0],
                    "port": int(query["port"][0]),
                    "cp_min": 5,
                    "cp_max": 10,
                },
            },
        }

    def federation_settings(self, ca_file: Path) -> dict[str, Any]:
        """It federates."""
        return {
            **synapse_config.LOCAL_NETWORKS,
            "listeners": [synapse_config.listener(self.port, "client", "federation")],
            "federation_domain_whitelist": None,
            "federation_custom_ca_list": [str(ca_file)],
            "rc_federation": synapse_config.FEDERATION_LIMITS,
        }

    def _folder_of_run(self) -> Path:
        return self.folder
