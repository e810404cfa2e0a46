"""A real Synapse as a peer: installed from PyPI once, on SQLite, with a federation listener on TLS.

    synapse = SynapseServer(folder, authority)
    synapse.start()
    town = ForeignTown(session, synapse.base_url, synapse.server_name)

Its name is the address of its federation listener, "127.0.0.1:PORT".
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import synapse_venv
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
        self._config_path = folder / "homeserver.yaml"
        # Every JSON document is YAML.
        self._config_path.write_text(json.dumps(self._document(authority) | dict(settings or {})))
        (folder / "log.yaml").write_text(json.dumps(_LOG_CONFIG))
        (folder / "signing.key").write_text(f"ed25519 s {b64encode(os.urandom(32)).decode().rstrip('=')}\n")

    def _document(self, authority: Authority) -> dict[str, Any]:
        return {
            "server_name": self.server_name,
            "signing_key_path": str(self.folder / "signing.key"),
            "media_store_path": str(self.folder / "media"),
            "pid_file": str(self.folder / "synapse.pid"),
            "log_config": str(self.folder / "log.yaml"),
            "macaroon_secret_key": "only for tests",
            "form_secret": "only for tests",
            "registration_shared_secret": "only for tests",
            "report_stats": False,
            "suppress_key_server_warning": True,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "bcrypt_rounds": 4,
            "database": {"name": "sqlite3", "args": {"database": str(self.folder / "synapse.db")}},
            "listeners": [
                _listener(self.port, "client", tls=False),
                _listener(self.federation_port, "federation", tls=True),
            ],
            "tls_certificate_path": str(authority.local.chain),
            "tls_private_key_path": str(authority.local.key),
            "federation_custom_ca_list": [str(authority.ca_file)],
            "trusted_key_servers": [],
            "ip_range_blacklist": [],
            "ip_range_whitelist": ["127.0.0.0/8", "::1/128"],
            # After a failure it asks again at once, and not only in ten minutes.
            "federation": {
                "client_timeout": "20s",
                "destination_min_retry_interval": "1s",
                "destination_max_retry_interval": "1s",
            },
            "allow_public_rooms_over_federation": True,
            "allow_public_rooms_without_auth": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "default_room_version": "12",
            "presence": {"enabled": True},
            "caches": {"global_factor": 1.0},
            **dict.fromkeys(_SIMPLE_LIMITS, _UNLIMITED),
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _UNLIMITED),
            "rc_joins": dict.fromkeys(("local", "remote"), _UNLIMITED),
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), _UNLIMITED),
            "rc_federation": {
                "window_size": 1000,
                "sleep_limit": 1_000_000,
                "sleep_delay": 1,
                "reject_limit": 1_000_000,
                "concurrent": 50,
            },
        }

    def start(self) -> None:
        """Start it and return once it answers; AssertionError with its log where it does not come up."""
        assert self._process is None, "it runs already"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._python), "-m", "synapse.app.homeserver", "--config-path", str(self._config_path)],
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


def _listener(port: int, resource: str, *, tls: bool) -> dict[str, Any]:
    return {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "type": "http",
        "tls": tls,
        "resources": [{"names": [resource], "compress": False}],
    }


_UNLIMITED = {"per_second": 1e6, "burst_count": 1_000_000}

_SIMPLE_LIMITS = (
    "rc_message",
    "rc_registration",
    "rc_registration_token_validity",
    "rc_joins_per_room",
    "rc_room_creation",
    "rc_third_party_invite",
    "rc_admin_redaction",
    "rc_presence",
    "rc_user_directory",
)

_LOG_CONFIG = {
    "version": 1,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": os.environ.get("HS_TEST_SYNAPSE_LOG", "WARNING"), "handlers": ["console"]},
    "disable_existing_loggers": False,
}
