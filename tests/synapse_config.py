"""What each Synapse that we start is configured with: a peer in the tests, a rival in the benchmarks."""

import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

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

# For `rc_federation`: everybody comes from one address here.
FEDERATION_LIMITS = {
    "window_size": 1000,
    "sleep_limit": 1_000_000,
    "sleep_delay": 1,
    "reject_limit": 1_000_000,
    "concurrent": 50,
}

# Networks that it may reach although they are private.
LOCAL_NETWORKS = {"ip_range_blacklist": [], "ip_range_whitelist": ["127.0.0.0/8", "::1/128"]}


def base_document(folder: Path, server_name: str) -> dict[str, Any]:
    """All that does not depend on the purpose: files in the folder, which `write_files` writes, and no rate limits."""
    return {
        "server_name": server_name,
        "signing_key_path": str(folder / "signing.key"),
        "media_store_path": str(folder / "media"),
        "pid_file": str(folder / "synapse.pid"),
        "log_config": str(folder / "log.yaml"),
        "macaroon_secret_key": "no secret",
        "form_secret": "no secret",
        "report_stats": False,
        "suppress_key_server_warning": True,
        "trusted_key_servers": [],
        "enable_registration": True,
        "enable_registration_without_verification": True,
        # Hundreds of people may be registered before anything is looked at.
        "bcrypt_rounds": 4,
        **dict.fromkeys(_SIMPLE_LIMITS, _UNLIMITED),
        "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _UNLIMITED),
        "rc_joins": dict.fromkeys(("local", "remote"), _UNLIMITED),
        "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), _UNLIMITED),
    }


def listener(port: int, *resources: str, tls: bool = False) -> dict[str, Any]:
    """One on 127.0.0.1."""
    return {
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "type": "http",
        "tls": tls,
        "resources": [{"names": list(resources), "compress": False}],
    }


def write_files(folder: Path, document: dict[str, Any], log_level: str = "WARNING") -> list[str]:
    """Write its files, a signing key where there is none yet; the arguments that start it, after the interpreter."""
    config, key = folder / "homeserver.yaml", folder / "signing.key"
    # Every JSON document is YAML.
    config.write_text(json.dumps(document, indent=1))
    if not key.exists():
        key.write_text(f"ed25519 s {b64encode(os.urandom(32)).decode().rstrip('=')}\n")
    log = {
        "version": 1,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": log_level, "handlers": ["console"]},
        "disable_existing_loggers": False,
    }
    (folder / "log.yaml").write_text(json.dumps(log))
    return ["-m", "synapse.app.homeserver", "--config-path", str(config)]
