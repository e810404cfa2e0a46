"""The command line as an operator meets it: output, exit codes, one-line errors."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result

from hs.cli import EXIT_CONFIG, EXIT_DATABASE, EXIT_FAILED, EXIT_USAGE, main
from hs.storage.embedded import EmbeddedPostgres

ROOM = "!room:example.org"


def _hs(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, prog_name="hs")


def _config(folder: Path, text: str) -> str:
    path = folder / "hs.toml"
    path.write_text(text)
    return str(path)


async def _make_room(url: str) -> None:
    """A room of 100 members, 150 events and two heads, as rows."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            """
            INSERT INTO rooms VALUES (7, '!room:example.org', '12', 3, 1700000000000);
            INSERT INTO rooms VALUES (8, '!other:example.org', '12', 3, 1700000000000);
            INSERT INTO events (room_nid, event_nid, event_id, type, sender, depth, stream_ordering, origin_server_ts,
                                state_id, flags, prev_nids)
            SELECT 7, n, '$event' || n, 'm.room.message', '@a:example.org', n, n, 0, 3, CASE n WHEN 150 THEN 4 ELSE 0 END,
                   ARRAY[n - 1] FROM generate_series(1, 150) AS n;
            INSERT INTO events (room_nid, event_nid, event_id, type, sender, depth, stream_ordering, origin_server_ts,
                                state_id, prev_nids)
            SELECT 8, n, '$event' || n, 'm.room.message', '@a:example.org', n, n, 0, 3, '{}'
            FROM generate_series(1001, 1009) AS n;
            INSERT INTO forward_extremities VALUES (7, 149), (7, 148), (8, 1009);
            INSERT INTO backward_extremities VALUES (7, 9999, '$unknown');
            INSERT INTO auth_records SELECT 7, n, ARRAY[1, 2], '' FROM generate_series(1, 110) AS n;
            INSERT INTO memberships (room_nid, user_id, membership, event_nid)
            SELECT 7, '@u' || n || ':example.org', CASE WHEN n <= 90 THEN 'join' ELSE 'leave' END, n
            FROM generate_series(1, 100) AS n;
            INSERT INTO local_memberships VALUES ('@u1:example.org', 7, 'join', 1, 1, '@u1:example.org');
            INSERT INTO state_keys SELECT 7, n, 'm.room.member', '@u' || n FROM generate_series(1, 105) AS n;
            INSERT INTO current_state SELECT 7, 'm.room.member', '@u' || n, n, n FROM generate_series(1, 100) AS n;
            INSERT INTO current_state VALUES (7, 'm.room.create', '', 200, 1);
            """
        )
    finally:
        await connection.close()


def test_help_shows_examples_and_exit_codes() -> None:
    assert "Exit codes:" in _hs("--help").output
    for command in (
        ["serve"],
        ["config", "check"],
        ["config", "example"],
        ["user", "create"],
        ["room", "inspect"],
        ["keys", "show"],
        ["keys", "rotate"],
    ):
        result = _hs(*command, "--help")
        assert result.exit_code == 0
        assert "Example" in result.output


def test_a_wrong_command_line_is_code_2() -> None:
    assert _hs("serv").exit_code == EXIT_USAGE
    assert _hs("room", "inspect").exit_code == EXIT_USAGE


def test_the_example_passes_the_check(tmp_path: Path) -> None:
    result = _hs("config", "check", "--config", _config(tmp_path, _hs("config", "example").output))
    assert result.exit_code == 0
    assert "ok; example.org with the embedded PostgreSQL" in result.output
    assert "http://127.0.0.1:8008  client, federation, admin" in result.output


@pytest.mark.parametrize(
    "command", [["config", "check"], ["serve"], ["user", "create", "a", "--password-stdin"]]
)
def test_every_command_says_all_that_is_wrong_with_the_configuration(
    tmp_path: Path, command: list[str]
) -> None:
    path = _config(tmp_path, 'server_name = "a b"\n[federation]\nenable = true\n[log]\nlevel = 1\n')
    result = _hs(*command, "--config", path, stdin="secret\n")
    assert result.exit_code == EXIT_CONFIG
    assert result.stderr.splitlines() == [
        f"hs: {path}: federation.enable: unknown option; did you mean enabled?",
        f"hs: {path}: log.level: expected `str`, got `int`",
    ]


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    result = _hs("serve", "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == EXIT_CONFIG
    assert "none.toml: No such file or directory" in result.stderr


def test_an_unreachable_database_is_code_4(tmp_path: Path) -> None:
    url = "postgresql://hs:secret@127.0.0.1:1/hs"
    path = _config(tmp_path, f'server_name = "example.org"\n[database]\nurl = "{url}"\n')
    result = _hs("room", "inspect", ROOM, "--config", path)
    assert result.exit_code == EXIT_DATABASE
    assert result.stderr.startswith("hs: cannot connect to the database 127.0.0.1:1/hs")
    assert "secret" not in result.stderr


def test_an_error_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    """As a process of its own, with everything that writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "hs", "config", "check", "--config", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == EXIT_CONFIG
    assert done.stderr == f"hs: {tmp_path}/none.toml: No such file or directory\n"


@pytest.fixture
async def room_config(database_url: str, tmp_path: Path) -> str:
    """A configuration whose database has a room."""
    await _make_room(database_url)
    return _config(tmp_path, f'server_name = "example.org"\n[database]\nurl = "{database_url}"\n')


def test_room_inspect_counts_what_the_room_has(room_config: str) -> None:
    result = _hs("room", "inspect", ROOM, "--json", "--config", room_config)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.output)
    tables = {use["table"]: use for use in report.pop("tables")}
    assert report == {
        "room_id": ROOM,
        "room_version": "12",
        "created_ts": 1700000000000,
        "members": {"join": 90, "leave": 10},
        "local_members": 1,
        "state_keys": 101,
        "state_keys_ever": 105,
        "state_types": {"m.room.member": 100, "m.room.create": 1},
        "events": 150,
        "rejected": 0,
        "soft_failed": 1,
        "outliers": 0,
        "depth": 150,
        "forward_extremities": ["$event149", "$event148"],
        "backward_extremities": 1,
        "auth_events": 110,
        "auth_edges": 220,
    }
    assert tables["events"]["rows"] == 150
    assert tables["events"]["bytes"] > 150 * 50
    assert "event_json" not in tables


def test_room_inspect_prints_a_table(room_config: str) -> None:
    result = _hs("room", "inspect", ROOM, "--config", room_config)
    assert result.exit_code == 0, result.stderr
    assert "members      90 join, 10 leave; 1 joined from here" in result.output
    assert "auth graph   110 events, 220 edges" in result.output
    assert "extremities  2 forward, 1 backward" in result.output


def test_an_unknown_room_is_code_1(room_config: str) -> None:
    result = _hs("room", "inspect", "!none:example.org", "--config", room_config)
    assert result.exit_code == EXIT_FAILED
    assert result.stderr == "hs: no room !none:example.org here\n"


async def _fetchrow(url: str, query: str) -> asyncpg.Record | None:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchrow(query)
    finally:
        await connection.close()


def test_user_create_makes_an_account_that_is_taken_afterwards(
    tmp_path: Path, empty_database_url: str
) -> None:
    text = f'server_name = "example.org"\n[database]\nurl = "{empty_database_url}"\n'
    arguments = ["user", "create", "ops", "--admin", "--password-stdin", "--config", _config(tmp_path, text)]
    result = _hs(*arguments, stdin="correct horse\n")
    assert (result.exit_code, result.output) == (0, "@ops:example.org\n")
    row = asyncio.run(_fetchrow(empty_database_url, "SELECT user_id, password_hash, is_admin FROM users"))
    assert row is not None
    assert row["is_admin"]
    assert "correct horse" not in row["password_hash"]

    again = _hs(*arguments, stdin="correct horse\n")
    assert again.exit_code == EXIT_FAILED
    assert again.stderr == "hs: this user name is taken\n"


def test_user_create_asks_for_the_password_twice(tmp_path: Path, database_url: str) -> None:
    text = f'server_name = "example.org"\n[database]\nurl = "{database_url}"\n'
    path = _config(tmp_path, text)
    result = _hs("user", "create", "alice", "--config", path, stdin="one\none\n")
    assert result.output.endswith("@alice:example.org\n")
    assert "one" not in result.output
    row = asyncio.run(_fetchrow(database_url, "SELECT is_admin FROM users"))
    assert row is not None
    assert not row["is_admin"]


@pytest.mark.parametrize(
    ("name", "stdin"), [("Not A Name", "secret\n"), ("alice", "\n"), ("alice", ""), ("x" * 300, "secret\n")]
)
def test_a_bad_name_or_an_empty_password_makes_no_account(
    tmp_path: Path, database_url: str, name: str, stdin: str
) -> None:
    path = _config(tmp_path, f'server_name = "example.org"\n[database]\nurl = "{database_url}"\n')
    result = _hs("user", "create", name, "--password-stdin", "--config", path, stdin=stdin)
    assert result.exit_code == EXIT_FAILED
    assert result.stderr.startswith("hs: ")
    assert result.stderr.count("\n") == 1
    assert asyncio.run(_fetchrow(database_url, "SELECT FROM users")) is None


def test_commands_work_beside_a_running_server_and_without_one(server_folder: Path) -> None:
    path = _config(server_folder, 'server_name = "example.org"\n')
    with EmbeddedPostgres.start(server_folder / "hs-data", durable=False):
        assert _hs("room", "inspect", ROOM, "--config", path).stderr == f"hs: no room {ROOM} here\n"
    assert _hs("room", "inspect", ROOM, "--config", path).stderr == f"hs: no room {ROOM} here\n"
    assert not (server_folder / "hs-data" / "postgres" / "postmaster.pid").exists()
