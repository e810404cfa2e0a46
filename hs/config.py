"""The configuration: frozen Structs, decoded from TOML, every option documented where it is declared.

`load_config(path)` gives the whole of it or a ConfigError that lists every mistake with the option's
dotted path. `hs config example` prints what is declared here.
"""

import ipaddress
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hs.config_schema import ByteSize, Decoder, render_example
from hs.matrix.ids import is_server_name, is_user_id
from hs.net.addresses import parse_nameserver

Api = Literal["client", "federation", "admin", "metrics"]

# Private, local and special networks; a name somebody else chose must not lead us there.
PRIVATE_NETWORKS = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/127",
    "2001:db8::/32",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)


class ConfigError(Exception):
    """The configuration cannot be used; `errors` has one line for each mistake."""

    def __init__(self, errors: list[str], source: str) -> None:
        super().__init__(f"{source}: " + ("; ".join(errors)))
        self.errors = errors
        self.source = source


class DatabaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the data is."""

    url: Annotated[
        str,
        Meta(
            description="postgresql://user:password@host:port/name. Empty: hs runs a PostgreSQL of its own in data_dir."
        ),
    ] = ""
    pool_size: Annotated[int, Meta(ge=2, le=200, description="Connections to keep at most.")] = 12


class ListenerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An address to answer on; repeat the table for more. Without any, 127.0.0.1:8008 is opened."""

    bind: Annotated[str, Meta(description="IP address or name; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="0 takes any free port and logs which.")] = 8008
    apis: Annotated[
        tuple[Api, ...],
        Meta(min_length=1, description="What is served here: client, federation, admin, metrics."),
    ] = ("client", "federation", "admin")
    tls_certificate: Annotated[
        Path | None,
        Meta(
            description="PEM file with the certificate chain; with tls_private_key the listener speaks HTTPS."
        ),
    ] = None
    tls_private_key: Annotated[Path | None, Meta(description="PEM file with the certificate's key.")] = None
    x_forwarded: Annotated[
        bool,
        Meta(
            description="Believe X-Forwarded-For and X-Forwarded-Proto. Only behind a proxy that sets them: "
            "rate limits go by this address."
        ),
    ] = False


class FederationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Talking to other homeservers."""

    enabled: Annotated[bool, Meta(description="false keeps every room on this server.")] = True
    ca_file: Annotated[
        Path | None, Meta(description="PEM file of certificate authorities to trust besides the system's.")
    ] = None
    verify_tls: Annotated[
        bool,
        Meta(description="Check the certificates of other servers. Only tests have a reason to say false."),
    ] = True
    delegated_to: Annotated[
        str,
        Meta(
            description="Where other servers reach this one, such as matrix.example.org:443, when it is not at "
            "server_name, port 8448. /.well-known/matrix/server says so, beside the client API. Empty: no such page."
        ),
    ] = ""
    trusted_key_servers: Annotated[
        tuple[str, ...],
        Meta(description="Servers to ask for the signing keys of servers that do not answer themselves."),
    ] = ("matrix.org",)
    gap_patience_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="Seconds that a transaction of another server waits for what is missing before its events. "
            "After that it is answered, and the missing events are fetched behind.",
        ),
    ] = 10.0


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Limits on the addresses that hs connects to for others: federation, push, previews."""

    ip_range_blacklist: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) never connected to. Private and local ones by default."),
    ] = PRIVATE_NETWORKS
    ip_range_whitelist: Annotated[
        tuple[str, ...], Meta(description="Networks allowed even though the list above has them.")
    ] = ()
    nameservers: Annotated[
        tuple[str, ...],
        Meta(
            description="Where names are looked up, such as 192.0.2.53 or [2001:db8::53]:5353. Empty: as "
            "/etc/resolv.conf says. /etc/hosts comes first."
        ),
    ] = ()
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="Seconds for a connection, TLS included, before it is given up.")
    ] = 6.0
    max_connections: Annotated[
        int,
        Meta(
            ge=10,
            le=100_000,
            description="Connections in use at once, in all; a quarter of the open files that the process may have at most.",
        ),
    ] = 1000
    max_connections_per_host: Annotated[int, Meta(ge=1, le=1000, description="The same, to one server.")] = 8
    idle_connection_s: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds that a connection is kept for the next request.")
    ] = 30.0


class RegistrationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who may make an account."""

    enabled: Annotated[
        bool,
        Meta(description="Anybody who reaches the client API may register. Without a config file: true."),
    ] = False
    shared_secret: Annotated[
        str,
        Meta(description="Lets who knows it register accounts, admins too, at /_synapse/admin/v1/register."),
    ] = ""
    tokens: Annotated[
        tuple[str, ...],
        Meta(description="With any of these, only who has one may register (m.login.registration_token)."),
    ] = ()


class SupportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Whom users can turn to, as /.well-known/matrix/support says; without any of it there is no such page."""

    page: Annotated[str, Meta(description="Address of a web page for users who need help.")] = ""
    admin_matrix_id: Annotated[str, Meta(description="User id of an administrator.")] = ""
    admin_email: Annotated[str, Meta(description="E-mail address of an administrator.")] = ""
    security_matrix_id: Annotated[str, Meta(description="User id to report security matters to.")] = ""
    security_email: Annotated[str, Meta(description="E-mail address to report security matters to.")] = ""


class SessionsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How long logins last, in seconds; 0 for as long as the device is not logged out."""

    access_token_lifetime_s: Annotated[
        int,
        Meta(ge=0, description="Access tokens of clients that say they can refresh them."),
    ] = 3600
    refresh_token_lifetime_s: Annotated[
        int,
        Meta(ge=0, description="What tokens are refreshed with; each refresh gives a new one."),
    ] = 0
    unrefreshable_lifetime_s: Annotated[
        int,
        Meta(
            ge=0,
            description="Access tokens of other clients; whose token ends has to give the password again.",
        ),
    ] = 0


class RateLimit(msgspec.Struct, frozen=True):
    """`burst` requests at once, then `per_second`."""

    per_second: Annotated[float, Meta(gt=0)]
    burst: Annotated[int, Meta(ge=1)]


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How often one user (or address, where there is no user yet) may do what. A bucket holds `burst` requests and
    refills with `per_second`; who finds it empty gets a 429 with Retry-After."""

    enabled: Annotated[bool, Meta(description="false switches every limit off.")] = True
    message: Annotated[RateLimit, Meta(description="Sending events into rooms; redactions.")] = RateLimit(
        5, 50
    )
    state: Annotated[RateLimit, Meta(description="Setting room state.")] = RateLimit(2, 30)
    login: Annotated[RateLimit, Meta(description="Login attempts.")] = RateLimit(0.5, 10)
    registration: Annotated[RateLimit, Meta(description="New accounts.")] = RateLimit(0.2, 10)
    join: Annotated[RateLimit, Meta(description="Joining, knocking, leaving.")] = RateLimit(1, 20)
    invite: Annotated[RateLimit, Meta(description="Inviting, kicking, banning.")] = RateLimit(1, 30)
    room_creation: Annotated[RateLimit, Meta(description="New rooms.")] = RateLimit(0.2, 20)
    read: Annotated[RateLimit, Meta(description="Reading rooms: messages, members, state.")] = RateLimit(
        50, 300
    )
    sync: Annotated[RateLimit, Meta(description="Sync requests.")] = RateLimit(20, 100)
    typing: Annotated[RateLimit, Meta(description="Typing notices and receipts.")] = RateLimit(5, 30)
    profile: Annotated[RateLimit, Meta(description="Display names, avatars, account data.")] = RateLimit(
        1, 20
    )
    report: Annotated[RateLimit, Meta(description="Reports of users, rooms and events.")] = RateLimit(0.2, 20)
    admin_redaction: Annotated[RateLimit, Meta(description="Redactions by server admins.")] = RateLimit(
        20, 500
    )
    federation: Annotated[RateLimit, Meta(description="Requests of one other server.")] = RateLimit(50, 500)
    other: Annotated[RateLimit, Meta(description="Everything without a bucket of its own.")] = RateLimit(
        10, 100
    )

    def bucket(self, name: str) -> RateLimit:
        """The limit of a bucket; `other` for one that is not declared here."""
        found = getattr(self, name, None)
        return found if isinstance(found, RateLimit) else self.other


class AppservicesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Bridges and bots that register as application services."""

    files: Annotated[tuple[Path, ...], Meta(description="Registration files (YAML).")] = ()


class PresenceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Telling users who is online."""

    enabled: Annotated[
        bool, Meta(description="false: clients may say what they are, and nobody is told.")
    ] = True
    max_room_members: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="Sharing a room with more joined members does not make users hear of each other: in "
            "large rooms presence costs more than all messages. They may still be asked for one by one.",
        ),
    ] = 200


class EventCacheConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Events kept in memory."""

    size: Annotated[ByteSize, Meta(description="Bytes, or a text like 256MiB.")] = ByteSize(256 * 2**20)


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text, or json with one object a line.")] = (
        "text"
    )


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration of hs, a Matrix homeserver. Relative paths start at the folder of this file."""

    server_name: Annotated[
        str,
        Meta(
            description="The part after the colon in user ids. Cannot be changed once there are users or rooms."
        ),
    ]
    data_dir: Annotated[
        Path, Meta(description="Folder of everything this server keeps; made at the first start.")
    ] = Path("hs-data")
    signing_key_path: Annotated[
        Path | None,
        Meta(
            description="The key that signs our events; made when missing. Default: signing.key in data_dir."
        ),
    ] = None
    public_base_url: Annotated[
        str,
        Meta(
            description="Where clients reach the client API, such as https://matrix.example.org; logins and "
            "/.well-known/matrix/client say so. Empty: the address that the client has used."
        ),
    ] = ""
    database: DatabaseConfig = DatabaseConfig()
    listeners: tuple[ListenerConfig, ...] = (ListenerConfig(),)
    federation: FederationConfig = FederationConfig()
    network: NetworkConfig = NetworkConfig()
    registration: RegistrationConfig = RegistrationConfig()
    sessions: SessionsConfig = SessionsConfig()
    support: SupportConfig = SupportConfig()
    rate_limits: RateLimits = RateLimits()
    appservices: AppservicesConfig = AppservicesConfig()
    presence: PresenceConfig = PresenceConfig()
    event_cache: EventCacheConfig = EventCacheConfig()
    log: LogConfig = LogConfig()

    @property
    def signing_key(self) -> Path:
        """Where the signing key is."""
        return self.signing_key_path or self.data_dir / "signing.key"


def default_config(folder: Path) -> Config:
    """What runs without a config file: "localhost", data in `folder`, open registration on loopback only."""
    return Config(
        server_name="localhost",
        data_dir=folder / "hs-data",
        registration=RegistrationConfig(enabled=True),
    )


def load_config(path: Path) -> Config:
    """The configuration in a TOML file; ConfigError with every mistake in it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([str(reason)], str(path)) from error
    decoder = Decoder(path.absolute().parent)
    config = decoder.decode(Config, document)
    errors = decoder.errors if config is None else list(_list_mistakes(config))
    if config is None or errors:
        raise ConfigError(errors, str(path))
    if "data_dir" not in document:
        config = msgspec.structs.replace(config, data_dir=path.absolute().parent / config.data_dir)
    return config


def example_config() -> str:
    """A TOML file with every option, documented; a valid configuration as it is."""
    return render_example(Config, {"server_name": "example.org", "listeners.port": 8008})


def _list_mistakes(config: Config) -> Iterator[str]:
    """What no single option's type can tell."""
    if not is_server_name(config.server_name):
        yield f"server_name: {config.server_name!r} is not a server name (a DNS name or IP address, with a port or not)"
    url = config.public_base_url
    if url and (not url.startswith(("https://", "http://")) or any(c in url for c in "?# ")):
        yield f"public_base_url: {url!r} is not an address like https://matrix.example.org"
    for option in ("admin_matrix_id", "security_matrix_id"):
        user_id = getattr(config.support, option)
        if user_id and not is_user_id(user_id):
            yield f"support.{option}: {user_id!r} is not a user id"
    delegated_to = config.federation.delegated_to
    if delegated_to and not is_server_name(delegated_to):
        yield f"federation.delegated_to: {delegated_to!r} is not a server name"
    for server in config.federation.trusted_key_servers:
        if not is_server_name(server):
            yield f"federation.trusted_key_servers: {server!r} is not a server name"
    if config.database.url and not config.database.url.startswith(("postgresql://", "postgres://")):
        yield "database.url: must start with postgresql://"
    taken: dict[tuple[str, int], int] = {}
    for i, listener in enumerate(config.listeners):
        if (listener.tls_certificate is None) != (listener.tls_private_key is None):
            missing = "tls_certificate" if listener.tls_certificate is None else "tls_private_key"
            yield f"listeners[{i}].{missing}: is missing; TLS needs both tls_certificate and tls_private_key"
        address = (listener.bind, listener.port)
        if listener.port and address in taken:
            yield f"listeners[{i}].port: {listener.bind}:{listener.port} is taken by listeners[{taken[address]}]"
        taken.setdefault(address, i)
    for nameserver in config.network.nameservers:
        try:
            parse_nameserver(nameserver)
        except ValueError as error:
            yield f"network.nameservers: {error}"
    for option in ("ip_range_blacklist", "ip_range_whitelist"):
        for network in getattr(config.network, option):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                yield f"network.{option}: {error}"
