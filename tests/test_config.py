"""The configuration: what is accepted, and that every mistake is named at once, with its place."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from hs.config import Config, ConfigError, RateLimit, default_config, example_config, load_config
from hs.config_schema import ByteSize


def _load(folder: Path, text: str) -> Config:
    path = folder / "hs.toml"
    path.write_text(text)
    return load_config(path)


def _mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        _load(folder, text)
    return raised.value.errors


def test_a_server_name_is_enough(tmp_path: Path) -> None:
    config = _load(tmp_path, 'server_name = "example.org"')
    assert config.server_name == "example.org"
    assert config.data_dir == tmp_path / "hs-data"
    assert config.signing_key == tmp_path / "hs-data" / "signing.key"
    assert not config.registration.enabled
    [listener] = config.listeners
    assert (listener.bind, listener.port, listener.apis) == (
        "127.0.0.1",
        8008,
        ("client", "federation", "admin"),
    )


def test_without_a_file_clients_may_register_on_loopback(tmp_path: Path) -> None:
    config = default_config(tmp_path)
    assert config.registration.enabled
    assert {listener.bind for listener in config.listeners} == {"127.0.0.1"}
    assert config.data_dir == tmp_path / "hs-data"


def test_every_fixed_name_is_understood(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        """
        server_name = "example.org:8448"
        data_dir = "/srv/hs"
        signing_key_path = "keys/signing.key"
        [database]
        url = "postgresql://hs@/hs?host=/run/postgresql"
        [[listeners]]
        bind = "::"
        port = 8448
        apis = ["federation"]
        tls_certificate = "cert.pem"
        tls_private_key = "/etc/key.pem"
        x_forwarded = false
        [[listeners]]
        port = 9000
        apis = ["metrics"]
        x_forwarded = true
        [federation]
        enabled = true
        ca_file = "ca.pem"
        verify_tls = false
        delegated_to = "matrix.example.org:443"
        trusted_key_servers = ["keys.example.org"]
        [network]
        ip_range_blacklist = ["10.0.0.0/8", "fe80::/10"]
        ip_range_whitelist = ["10.1.2.3"]
        nameservers = ["192.0.2.53", "[2001:db8::53]:5353"]
        connect_timeout_s = 3.5
        max_connections = 100
        max_connections_per_host = 4
        idle_connection_s = 10
        [registration]
        enabled = true
        shared_secret = "s"
        [rate_limits]
        enabled = false
        message = { per_second = 0.5, burst = 3 }
        [rate_limits.login]
        per_second = 1
        burst = 2
        [appservices]
        files = ["bridge.yaml"]
        [event_cache]
        size = "64MiB"
        [log]
        level = "warning"
        format = "json"
        """,
    )
    assert config.data_dir == Path("/srv/hs")
    assert config.signing_key == tmp_path / "keys" / "signing.key"
    assert config.listeners[0].tls_certificate == tmp_path / "cert.pem"
    assert config.listeners[0].tls_private_key == Path("/etc/key.pem")
    assert config.listeners[1].apis == ("metrics",)
    assert config.federation.ca_file == tmp_path / "ca.pem"
    assert config.rate_limits.bucket("message") == RateLimit(0.5, 3)
    assert config.rate_limits.bucket("login") == RateLimit(1, 2)
    assert config.rate_limits.bucket("not declared") == config.rate_limits.other
    assert config.rate_limits.bucket("enabled") == config.rate_limits.other
    assert config.appservices.files == (tmp_path / "bridge.yaml",)
    assert config.event_cache.size == 64 * 2**20


def test_the_example_is_valid_and_its_commented_values_are_the_defaults(tmp_path: Path) -> None:
    text = example_config()
    as_it_is = _load(tmp_path, text)
    without_value = re.sub(r"(?m)^#[a-z_]+ =$", "", text)
    all_set = re.sub(r"(?m)^#(?=[a-z_]+ = |\]|    )", "", without_value)
    assert _load(tmp_path, all_set) == as_it_is
    assert as_it_is == _load(tmp_path, 'server_name = "example.org"')


def test_the_example_documents_every_option() -> None:
    lines = example_config().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"#?[a-z_]+ =", line) or line.startswith("["):
            assert before.startswith("# "), f"{line} has no documentation"


def test_all_mistakes_come_at_once_with_their_place(tmp_path: Path) -> None:
    assert _mistakes(
        tmp_path,
        """
        server_nam = "example.org"
        data_dir = 3
        [databas]
        [event_cache]
        size = "2 foo"
        [log]
        level = "loud"
        [[listeners]]
        port = 99999
        apis = ["client", "everything"]
        [rate_limits]
        message = { per_second = 0, burst = 1 }
        state = { per_second = 1.5 }
        [federation]
        enabled = "yes"
        """,
    ) == [
        "server_nam: unknown option; did you mean server_name?",
        "data_dir: expected a path",
        "databas: unknown option; did you mean database?",
        'event_cache.size: expected a number of bytes, or a text like "256MiB"',
        "log.level: invalid enum value 'loud'",
        "listeners[0].port: expected `int` <= 65535",
        "listeners[0].apis[1]: invalid enum value 'everything'",
        "rate_limits.message.per_second: expected `float` > 0.0",
        "rate_limits.state.burst: is missing",
        "federation.enabled: expected `bool`, got `str`",
        "server_name: is missing",
    ]


def test_options_must_fit_together(tmp_path: Path) -> None:
    assert _mistakes(
        tmp_path,
        """
        server_name = "not a name"
        public_base_url = "matrix.example.org"
        [support]
        admin_matrix_id = "ops"
        [database]
        url = "mysql://x"
        [network]
        ip_range_blacklist = ["10.0.0.1/8"]
        nameservers = ["192.0.2.53", "dns.example:53"]
        [federation]
        delegated_to = "https://matrix.example.org"
        [[listeners]]
        tls_certificate = "a.pem"
        [[listeners]]
        [[listeners]]
        port = 0
        [[listeners]]
        port = 0
        """,
    ) == [
        "server_name: 'not a name' is not a server name (a DNS name or IP address, with a port or not)",
        "public_base_url: 'matrix.example.org' is not an address like https://matrix.example.org",
        "support.admin_matrix_id: 'ops' is not a user id",
        "federation.delegated_to: 'https://matrix.example.org' is not a server name",
        "database.url: must start with postgresql://",
        "listeners[0].tls_private_key: is missing; TLS needs both tls_certificate and tls_private_key",
        "listeners[1].port: 127.0.0.1:8008 is taken by listeners[0]",
        "network.nameservers: 'dns.example:53' is not the address of a nameserver",
        "network.ip_range_blacklist: 10.0.0.1/8 has host bits set",
    ]


@pytest.mark.parametrize("text", ["server_name = ", "\x00", "[a]\n[a]"])
def test_broken_toml_is_one_mistake(tmp_path: Path, text: str) -> None:
    assert len(_mistakes(tmp_path, text)) == 1


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")


def test_tables_and_lists_of_tables_are_told_apart(tmp_path: Path) -> None:
    text = 'server_name = "example.org"\nlog = "info"\nlisteners = 3\n'
    assert _mistakes(tmp_path, text) == [
        "log: must be a table, [log]",
        "listeners: must be tables, [[listeners]]",
    ]


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (4096, 4096), ("1000", 1000), ("256MiB", 2**28), ("2 GiB", 2**31), ("5kb", 5000), ("1B", 1)],
)
def test_sizes(value: object, size: int) -> None:
    assert ByteSize.parse(value) == size


@pytest.mark.parametrize("value", [-1, True, 1.5, "", "MiB", "12 apples", "-3", "1.5GiB", None])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="256MiB"):
        ByteSize.parse(value)


@pytest.mark.parametrize("text", ["256MiB", "1KiB", "3GiB", "1000"])
def test_sizes_are_written_as_they_are_read(text: str) -> None:
    assert str(ByteSize.parse(text)) == text
