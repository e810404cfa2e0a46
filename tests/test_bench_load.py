"""The load benchmark works: every row, at its smallest, does what it says against our server. Nothing is timed."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import compare
from bench.load.__main__ import choose_rows, main
from bench.load.catalogue import ROWS
from bench.load.connection import BadAnswer, Connection, join_chunks
from bench.load.measure import Figures, RowResult, Sample, measure_row
from bench.load.processes import ProcessTree
from bench.load.report import table_head, table_line, write_json
from bench.load.rows.base import Scale
from bench.load.rows.reading import WhoAmI
from bench.load.servers import Hs
from bench.load.town import Person, Town
from hs.storage.embedded import EmbeddedPostgres


@pytest.fixture(scope="module")
def server() -> Iterator[Hs]:
    """Our server as the benchmark starts it, on a database that need not survive a crash."""
    folder = Path(tempfile.mkdtemp(prefix="hs-test-"))
    folder.chmod(0o711)
    try:
        with EmbeddedPostgres.start(folder / "data", durable=False) as postgres:
            server = Hs(folder, postgres.url, postgres.pid, sys.executable)
            try:
                server.start()
                yield server
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
async def test_every_row_does_its_work(server: Hs) -> None:
    town = Town(server)
    try:
        for row_type in ROWS:
            result = await measure_row(row_type, [town], Scale.SMALL, rounds=1, warm_up=False)
            figures = result.figures["hs"]
            assert not figures.failure, (row_type.name, figures.failure)
            [sample] = figures.samples
            # More than nothing, and less than one unit of anything can take.
            assert 0 < sample.cpu_s < 10, (row_type.name, sample)
            assert 0 <= sample.database_cpu_s < 10, (row_type.name, sample)
            assert 0 < sample.wall_s < 60, (row_type.name, sample)
    finally:
        town.hang_up()


async def test_a_server_that_refuses_has_no_figures(server: Hs) -> None:
    class Impossible(WhoAmI):
        name = "impossible"

        async def set_up(self) -> None:
            return

        async def run(self) -> int:
            await self.town.visitor.get("account", "nothing-of-the-kind")
            return 1

    town = Town(server)
    result = await measure_row(Impossible, [town], Scale.SMALL, rounds=2, warm_up=False)
    town.hang_up()
    assert result.figures["hs"].samples == []
    assert "M_UNRECOGNIZED" in result.figures["hs"].failure
    assert table_line(result, ["hs"]) == "| impossible (request) | - | - | - |"


async def test_the_work_of_a_row_is_checked(server: Hs) -> None:
    town = Town(server)
    stranger = Person(server, "@stranger:load.example", "no token")
    with pytest.raises(BadAnswer, match="M_UNKNOWN_TOKEN"):
        await stranger.get("account", "whoami")
    stranger.hang_up()
    town.hang_up()


async def test_cpu_of_a_process_tree_has_that_of_its_children() -> None:
    # The child of the child does the work; first it lives, then it is gone and was waited for.
    work = "x = 0\nfor i in range(3_000_000): x += i\nprint('done', flush=True); input()"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])\nprint('gone', flush=True); input()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", outer, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    tree = ProcessTree(process.pid)
    start = tree.cpu_s()
    assert await process.stdout.readline() == b"done\n"
    alive = tree.cpu_s()
    assert alive - start > 0.01
    process.stdin.write(b"\n")
    assert await process.stdout.readline() == b"gone\n"
    # What ended is only known in ticks of 10 ms.
    assert tree.cpu_s() > alive - 0.05
    process.stdin.write(b"\n")
    await process.wait()


def test_rows_are_named_and_explained() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert all((row.__doc__ or "").strip() and row.unit for row in ROWS)


def test_rows_are_chosen_by_pattern() -> None:
    assert choose_rows(None) == list(ROWS)
    chosen = [row.name for row in choose_rows(["whoami", "sync-idle-*"])]
    assert chosen == ["whoami", "sync-idle-1-room", "sync-idle-150-rooms"]
    with pytest.raises(SystemExit, match="no row is called send-everything"):
        choose_rows(["whoami", "send-everything"])


def test_the_list_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)


def _result(**cpu_by_server: list[float]) -> RowResult:
    figures = {
        name: Figures([Sample(cpu_s, 0.001, 0.5) for cpu_s in samples])
        for name, samples in cpu_by_server.items()
    }
    return RowResult(WhoAmI, figures)


def test_the_table_compares_medians_and_shows_the_spread() -> None:
    line = table_line(_result(hs=[0.001, 0.002, 0.009], synapse=[0.020, 0.040, 0.090]), ["hs", "synapse"])
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        *("whoami (request)", "2.00", "1.00", "500", "40.0", "1.00", "500"),
        *("20.0x", "10.0-20.0 noisy", "13.7x"),
    ]
    assert table_head(["hs", "synapse"]).splitlines()[0].count("|") == line.count("|")


def test_the_file_is_for_compare(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    write_json(path, [_result(hs=[0.001, 0.002, 0.003], synapse=[0.02])])
    figures = compare.load(path)
    assert figures["load/whoami[hs]"].median_s == 0.002
    assert figures["load/whoami[hs]"].spread_s == pytest.approx(0.001)
    assert figures["load/whoami[synapse]"].extra == {"database_ms": 1.0, "wall_ms": 500.0}


def test_chunks_are_joined_once_all_are_there() -> None:
    body = b"5\r\nhe\r\no\r\n4;x=y\r\nmore\r\n0\r\n\r\n"
    assert join_chunks(bytearray(b"head" + body), 4) == b"he\r\nomore"
    assert all(join_chunks(bytearray(body[:end]), 0) is None for end in range(len(body) - 4))


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{  }", b"{  }"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{ \r\n2\r\n }\r\n0\r\n\r\n", b"{  }"),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n", b""),
    ],
)
async def test_an_answer_may_come_in_any_pieces(wire: bytes, body: bytes) -> None:
    async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            for byte in wire:
                writer.write(bytes([byte]))
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer_slowly, "127.0.0.1") as listener:
        connection = await Connection.open(listener.sockets[0].getsockname()[1])
        for _ in range(2):
            answer = await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
            assert (answer.status, answer.body) == (200, body)
        with pytest.raises(BadAnswer, match="closed the connection"):
            await connection.ask(b"GET / HTTP/1.1\r\n\r\n")
        connection.close()
        assert not connection.is_open


@pytest.mark.parametrize(
    "arguments", [["--servers", "hs,dendrite"], ["--servers", "hs,before"], ["--rounds", "0"]]
)
def test_a_wrong_command_line_is_refused_at_once(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
