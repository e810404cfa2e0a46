"""A key is rotated with the command while the server runs, and counts from its next start on."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from signedjson.key import decode_verify_key_bytes
from signedjson.sign import verify_signed_json
from unpaddedbase64 import decode_base64

from tests.server_process import ServerProcess, find_free_ports


def _published(server: ServerProcess) -> Any:
    with urllib.request.urlopen(f"{server.base_url}/_matrix/key/v2/server", timeout=30) as answer:
        document = json.load(answer)
    for key_id, key in document["verify_keys"].items():
        verify_key = decode_verify_key_bytes(key_id, decode_base64(key["key"]))
        verify_signed_json(document, server.server_name, verify_key)
    return document


def test_a_rotated_key_is_used_and_the_old_one_published_after_a_restart(
    database_url: str, server_folder: Path
) -> None:
    [port] = find_free_ports(1)
    listeners = [{"bind": "127.0.0.1", "port": port, "apis": ["client", "federation"]}]
    server = ServerProcess(server_folder, database_url, {"listeners": listeners})
    server.port, server.base_url = port, f"http://127.0.0.1:{port}"
    server.start()
    try:
        first = _published(server)
        assert first["old_verify_keys"] == {}
        [(first_id, first_key)] = first["verify_keys"].items()
        command = [sys.executable, "-m", "hs", "keys", "rotate", "--config", str(server_folder / "hs.toml")]
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        fresh_id = told.split()[0]
        # What it signs until then must be good, so it says nothing else.
        assert set(_published(server)["verify_keys"]) == {first_id}
        assert server.stop() == 0
        server.start()
        second = _published(server)
        assert set(second["verify_keys"]) == {fresh_id}
        assert second["old_verify_keys"][first_id]["key"] == first_key["key"]
        assert first["valid_until_ts"] - 24 * 3600 * 1000 <= second["old_verify_keys"][first_id]["expired_ts"]
        assert server.stop() == 0
    finally:
        server.kill()
