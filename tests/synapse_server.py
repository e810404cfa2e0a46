"""A real Synapse as a peer: installed from PyPI once, on SQLite, with a federation listener on TLS.

    synapse = SynapseServer(folder, authority)
    synapse.start()
    town = ForeignTown(session, synapse.base_url, synapse.server_name)

Its name is the address of its federation listener, "127.0.0.1:PORT".
"""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import synapse_config, synapse_venv
from tests.certificates import Authority
from tests.people import Answer, Person, Town, Visitor
from tests.server_process import find_free_ports

_READY_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 30.0


def find_synapse() -> Path:
    """The interpreter that has Synapse; skips the test where it cannot be installed."""
    try:
        return synapse_venv.find_or_make()
    except synapse_venv.CannotInstall as error:
        pytest.skip(str(error))


class SynapseServer:
    """One Synapse process with its own folder; `settings` go into its configuration.

    `switch_port` is where others reach it, if that is not its own listener.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        settings: Mapping[str, Any] | None = None,
        switch_port: int | None = None,
    ) -> None:
        self.folder = folder
        self.port, self.federation_port = find_free_ports(2)
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.server_name = f"127.0.0.1:{switch_port or self.federation_port}"
        self.log_path = folder / "synapse.log"
        self._python = find_synapse()
        self._process: subprocess.Popen[bytes] | None = None
        document = self._document(authority) | dict(settings or {})
        log_level = os.environ.get("HS_TEST_SYNAPSE_LOG", "WARNING")
        self._arguments = synapse_config.write_files(folder, document, log_level)

    def _document(self, authority: Authority) -> dict[str, Any]:
        return {
            **synapse_config.base_document(self.folder, self.server_name),
            **synapse_config.LOCAL_NETWORKS,
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "synapse.db")}},
            "listeners": [
                synapse_config.listener(self.port, "client"),
                synapse_config.listener(self.federation_port, "federation", tls=True),
            ],
            "tls_certificate_path": str(authority.local.chain),
            "tls_private_key_path": str(authority.local.key),
            "federation_custom_ca_list": [str(authority.ca_file)],
            # After a failure it asks again at once, and not only in ten minutes.
            "federation": {
                "client_timeout": "20s",
                "destination_min_retry_interval": "1s",
                "destination_max_retry_interval": "1s",
            },
            "rc_federation": synapse_config.FEDERATION_LIMITS,
            "allow_public_rooms_over_federation": True,
            "allow_public_rooms_without_auth": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "default_room_version": "12",
            "presence": {"enabled": True},
            "caches": {"global_factor": 1.0},
        }

    def start(self) -> None:
        """Start it and return once it answers; AssertionError with its log where it does not come up."""
        assert self._process is None, "it runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._python), *self._arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"Synapse did not come up:\n{self.read_log()[-5000:]}")
            # Nothing announces that a port is open; a refused connection costs next to nothing.
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/_matrix/client/versions", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

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

    def read_log(self) -> str:
        """All that it has written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class ForeignVisitor(Visitor):
    """Somebody without an account on a server whose answers are not ours to judge."""

    async def raw(self, method: str, url_path: str, data: bytes | None = None, **options: Any) -> Answer:
        """Any request; `url_path` is escaped already."""
        return await self.ask_raw(method, url_path, data, **options)


class ForeignPerson(ForeignVisitor, Person):
    """Somebody with an account there."""


class ForeignTown(Town):
    """Makes people there."""

    visitor_type = ForeignVisitor
    person_type = ForeignPerson
