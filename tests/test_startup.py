"""The database as the server finds it at its start, and what a terminal shows meanwhile."""

import asyncio
import io
import os
import re
import signal
import threading
from pathlib import Path

import asyncpg
import pytest

from hs.config import Config, DatabaseConfig
from hs.startup import Progress, prepared_database
from hs.storage.embedded_user import EmbeddedError
from hs.storage.migrate import load_migrations


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """What the line has shown, one after the other."""
        return re.split(r"\r\x1b\[2K", self.getvalue())[1:]


async def _applied(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM schema_migrations"))
    finally:
        await connection.close()


def test_the_first_start_shows_its_steps_and_takes_the_line_away(server_folder: Path) -> None:
    terminal = Terminal()
    config = Config(server_name="example.org", data_dir=server_folder / "data")
    with prepared_database(config, Progress(terminal)) as url:
        assert asyncio.run(_applied(url)) == len(load_migrations())
    shown = terminal.shown()
    assert shown[0] == "making the database (once, a few seconds) ..."
    assert any(re.match(r"\[#*-+\] 0/\d+ 0001_rooms", line) for line in shown)
    assert shown[-1] == ""
    assert not (server_folder / "data" / "postgres" / "postmaster.pid").exists()

    again = Terminal()
    with prepared_database(config, Progress(again)):
        pass
    assert again.getvalue() == ""


@pytest.mark.faults
def test_a_database_that_dies_takes_the_server_down_and_says_so(server_folder: Path) -> None:
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    config = Config(server_name="example.org", data_dir=server_folder / "data")
    try:
        with (
            pytest.raises(EmbeddedError, match=r"ended by itself; see .*postgres\.log"),
            prepared_database(config),
        ):
            pid_file = server_folder / "data" / "postgres" / "postmaster.pid"
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
            assert told.wait(30)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_is_drawn_where_nobody_looks(
    empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.StringIO()
    config = Config(server_name="example.org", database=DatabaseConfig(url=empty_database_url))
    with caplog.at_level("INFO"), prepared_database(config, Progress(stream)) as url:
        assert url == empty_database_url
    assert stream.getvalue() == ""
    assert "applied migration 0001_rooms" in caplog.text
