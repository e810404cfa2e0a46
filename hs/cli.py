"""The `hs` command."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
import msgspec
from signedjson.key import get_verify_key

from hs.accounts.passwords import Passwords
from hs.accounts.registration import Registration
from hs.config import Config, ConfigError, default_config, example_config, load_config
from hs.logs import set_up_logging
from hs.matrix.errors import MatrixError
from hs.matrix.keys import key_id_of, verify_key_to_base64
from hs.rooms.clock import SystemClock
from hs.signing_key import read_signing_keys, rotate_signing_key
from hs.startup import Progress
from hs.storage.database import Database, StorageError
from hs.storage.embedded import open_embedded
from hs.storage.inspect import RoomReport, inspect_room
from hs.storage.migrate import migrate
from hs.storage.users import UserStore

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)

_DEFAULT_CONFIG = Path("hs.toml")

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CONFIG = 3
EXIT_DATABASE = 4


def _fail(message: str, code: int) -> SystemExit:
    click.echo(f"hs: {message}", err=True)
    return SystemExit(code)


def _clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """What an operator can mend is one line on standard error and an exit code, never a traceback."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for mistake in error.errors:
                click.echo(f"hs: {error.source}: {mistake}", err=True)
            raise SystemExit(EXIT_CONFIG) from error
        except StorageError as error:
            raise _fail(str(error), EXIT_DATABASE) from error
        except (MatrixError, OSError) as error:
            raise _fail(str(error), EXIT_FAILED) from error

    return guarded


_config_option = click.option(
    "--config",
    "-c",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration (TOML). Default: hs.toml in the current folder where there is one.",
)


def _read_config(path: Path | None) -> Config:
    if path is None and not _DEFAULT_CONFIG.exists():
        return default_config(Path.cwd())
    return load_config(path or _DEFAULT_CONFIG)


@contextmanager
def _database_url(config: Config) -> Iterator[str]:
    """The database, whether or not a server is using it; an embedded one that does not run is started meanwhile."""
    if config.database.url:
        yield config.database.url
        return
    progress = Progress()
    try:
        with open_embedded(config.data_dir, progress.say) as url:
            progress.clear()
            yield url
    finally:
        progress.clear()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="hs", prog_name="hs")
def main() -> None:
    """hs, a Matrix homeserver for large rooms.

    Without a configuration file it serves "localhost" on 127.0.0.1:8008, keeps its data (with a PostgreSQL of
    its own) in ./hs-data and lets clients register: for a first look. For more, write a file:

    \b
        hs config example > hs.toml     every option with its documentation
        hs config check                 says all that is wrong with it
        hs serve                        uses ./hs.toml where there is one

    \b
    Exit codes:
        0  done
        1  it could not be done, such as a name that is taken or a port in use
        2  the command line is wrong
        3  the configuration is wrong
        4  the database cannot be used
    """


@main.command()
@_config_option
@_clear_errors
def serve(config_path: Path | None) -> None:
    """Run the server until it gets SIGINT or SIGTERM.

    \b
    Examples:
        hs serve
        hs serve --config /etc/hs/hs.toml
    """
    config = _read_config(config_path)
    from hs.server import run  # the other commands need not wait for all of it to load

    set_up_logging(config.log)
    if config_path is None and not _DEFAULT_CONFIG.exists():
        logger.warning(
            "no configuration: this is %r, and whoever reaches %s:%d may register; see hs config example",
            config.server_name,
            config.listeners[0].bind,
            config.listeners[0].port,
        )
    run(config)


@main.group()
def config() -> None:
    """Check a configuration, or print one to start from."""


@config.command()
@_config_option
@_clear_errors
def check(config_path: Path | None) -> None:
    """Say what is wrong with the configuration; exit code 3 if anything is.

    \b
    Example:
        hs config check --config /etc/hs/hs.toml
    """
    found = config_path or _DEFAULT_CONFIG
    loaded = load_config(found)
    where = (
        "an external PostgreSQL" if loaded.database.url else f"the embedded PostgreSQL in {loaded.data_dir}"
    )
    click.echo(f"{found}: ok; {loaded.server_name} with {where}")
    for listener in loaded.listeners:
        scheme = "https" if listener.tls_certificate else "http"
        click.echo(f"  {scheme}://{listener.bind}:{listener.port}  {', '.join(listener.apis)}")


@config.command()
def example() -> None:
    """Print a configuration with every option, its documentation and its default.

    \b
    Example:
        hs config example > hs.toml
    """
    click.echo(example_config(), nl=False)


@main.group()
def user() -> None:
    """Accounts on this server."""


@user.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="May use the admin API.")
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input (its first line)."
)
@_config_option
@_clear_errors
def create(name: str, admin: bool, password_stdin: bool, config_path: Path | None) -> None:
    """Make an account. NAME is the part of the user id before the colon.

    Works while the server runs. Without --password-stdin it asks for the password.

    \b
    Examples:
        hs user create alice
        printf '%s' "$SECRET" | hs user create ops --admin --password-stdin
    """
    config = _read_config(config_path)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not password:
        raise _fail("the password is empty", EXIT_FAILED)
    with _database_url(config) as url:
        user_id = asyncio.run(_create_user(url, config, name, password, admin))
    click.echo(user_id)


async def _create_user(url: str, config: Config, name: str, password: str, admin: bool) -> str:
    """The user id of the new account."""
    await migrate(url)
    database = await Database.connect(url, pool_size=1)
    passwords = Passwords()
    try:
        registration = Registration(UserStore(database), passwords, config.server_name, SystemClock())
        return await registration.register(name, password, admin)
    finally:
        passwords.close()
        await database.close()


@main.group()
def keys() -> None:
    """The keys this server signs its events and requests with."""


@keys.command()
@_config_option
@_clear_errors
def show(config_path: Path | None) -> None:
    """Show the public keys: the one that signs, and those that signed before.

    \b
    Example:
        hs keys show
    """
    path = _read_config(config_path).signing_key
    found = read_signing_keys(path)
    click.echo(f"{path}")
    for key in (found.current, *found.retiring):
        role = "signs" if key is found.current else "until the restart"
        click.echo(f"  {key_id_of(key):<20} {verify_key_to_base64(get_verify_key(key))}  {role}")
    for old in found.old:
        until = datetime.fromtimestamp(old.expired_ts / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
        click.echo(f"  {old.key_id:<20} {verify_key_to_base64(old.verify_key)}  signed until {until}")


@keys.command()
@_config_option
@_clear_errors
def rotate(config_path: Path | None) -> None:
    """Make a new signing key, which counts from the next start of the server.

    The key before it stays published, in the file beside the signing key (signing.key.old), so that what it
    has signed can still be checked. Keep both files in your backups.

    \b
    Example:
        hs keys rotate && systemctl restart hs
    """
    path = _read_config(config_path).signing_key
    key = rotate_signing_key(path)
    click.echo(f"{key_id_of(key)} signs from the next start of the server on")


@main.group()
def room() -> None:
    """What the server knows about rooms."""


@room.command()
@click.argument("room_id", metavar="ROOM")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@_config_option
@_clear_errors
def inspect(room_id: str, as_json: bool, config_path: Path | None) -> None:
    """Show the size and shape of ROOM (a room id): members, state, graph, bytes by table.

    Reads all of the room's rows, so it takes a while on a large room. Works while the server runs.

    \b
    Examples:
        hs room inspect '!abc:example.org'
        hs room inspect --json '!abc:example.org' | jq .members
    """
    with _database_url(_read_config(config_path)) as url:
        report = asyncio.run(_inspect(url, room_id))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        click.echo(_room_table(report))


async def _inspect(url: str, room_id: str) -> RoomReport:
    await migrate(url)
    database = await Database.connect(url, pool_size=1)
    try:
        return await inspect_room(database, room_id)
    finally:
        await database.close()


def _room_table(report: RoomReport) -> str:
    """The report as text: names on the left, numbers beside them."""
    oddities = {
        "outliers": report.outliers,
        "rejected": report.rejected,
        "soft-failed": report.soft_failed,
    }
    odd = ", ".join(f"{count:,} {name}" for name, count in oddities.items() if count)
    members = ", ".join(f"{count:,} {name}" for name, count in report.members.items()) or "none"
    heads = list(report.forward_extremities)
    lines = [
        ("room", f"{report.room_id} (version {report.room_version})"),
        ("members", f"{members}; {report.local_members:,} joined from here"),
        ("state keys", f"{report.state_keys:,} now, {report.state_keys_ever:,} ever"),
        *(("", f"{count:>10,}  {name}") for name, count in report.state_types.items()),
        ("events", f"{report.events:,}" + (f", of these {odd}" if odd else "")),
        ("depth", f"{report.depth:,}"),
        ("extremities", f"{len(heads):,} forward, {report.backward_extremities:,} backward"),
        *(("", f"            {event_id}") for event_id in heads[:10]),
        *([("", f"            and {len(heads) - 10:,} more")] if len(heads) > 10 else []),
        ("auth graph", f"{report.auth_events:,} events, {report.auth_edges:,} edges"),
        ("bytes", f"{sum(use.bytes for use in report.tables):,} in rows, without indexes"),
        *(("", f"{use.bytes:>14,}  {use.table} ({use.rows:,} rows)") for use in report.tables),
    ]
    return "\n".join(f"{name:<12} {text}".rstrip() for name, text in lines)
