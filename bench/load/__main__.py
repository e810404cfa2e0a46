"""The command: `python -m bench.load`. See bench/README.md."""

import argparse
import fnmatch
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop

from bench.load.catalogue import ROWS
from bench.load.measure import measure_row
from bench.load.profile import profile_row
from bench.load.report import table_head, table_line, write_json
from bench.load.rows.base import Row, Scale
from bench.load.servers import Hs, Server, Synapse
from bench.load.town import Town
from hs.storage.embedded import EmbeddedPostgres
from tests import synapse_venv


def _read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.load", description="CPU of homeservers under the same load.")
    parser.add_argument(
        "--servers", default="hs,synapse", help="one or two of hs, before (--before-python), synapse"
    )
    parser.add_argument("--only", action="append", metavar="ROW", help="a row's name or pattern; repeatable")
    parser.add_argument("--scale", choices=[scale.value for scale in Scale], default="full")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures for bench/compare.py")
    parser.add_argument(
        "--hs-python", default=sys.executable, metavar="PATH", help="measure the hs installed there"
    )
    parser.add_argument(
        "--before-python", metavar="PATH", help="the interpreter of the server `before`: another build of hs"
    )
    parser.add_argument(
        "--synapse-python", metavar="PATH", help="an interpreter with matrix-synapse and psycopg2"
    )
    parser.add_argument(
        "--presence", action="store_true", help="with presence, which is off in both otherwise"
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="do not measure, but run py-spy on each row"
    )
    parser.add_argument("--profile-seconds", type=float, default=10.0)
    parser.add_argument("--list", action="store_true", help="print the rows and end")
    found = parser.parse_args(arguments)
    found.servers = found.servers.split(",")
    if unknown := set(found.servers) - {"hs", "before", "synapse"}:
        parser.error(f"unknown server: {', '.join(sorted(unknown))}")
    if "before" in found.servers and found.before_python is None:
        parser.error("--before-python says where the other build of hs is installed")
    if found.rounds < 1:
        parser.error("--rounds is at least 1")
    return found


def choose_rows(patterns: Sequence[str] | None) -> list[type[Row]]:
    """The rows that match any of the patterns; all without patterns. SystemExit where one matches nothing."""
    for pattern in patterns or ():
        if not any(fnmatch.fnmatch(row.name, pattern) for row in ROWS):
            raise SystemExit(f"no row is called {pattern}; --list shows them")
    return [row for row in ROWS if not patterns or any(fnmatch.fnmatch(row.name, p) for p in patterns)]


def _make_server(name: str, folder: Path, postgres: EmbeddedPostgres, options: argparse.Namespace) -> Server:
    where = (folder, postgres.url, postgres.pid)
    if name == "synapse":
        python = options.synapse_python or str(synapse_venv.find_or_make())
        return Synapse(*where, python, presence=options.presence)
    server = Hs(
        *where, options.hs_python if name == "hs" else options.before_python, presence=options.presence
    )
    server.name = name
    return server


@contextmanager
def _running(name: str, options: argparse.Namespace) -> Iterator[Server]:
    """The server of that name with a new, empty database; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"hs-load-{name}-"))
    folder.chmod(0o711)  # PostgreSQL's user passes through when we are root
    try:
        with EmbeddedPostgres.start(folder / "data", report=lambda _: None) as postgres:
            server = _make_server(name, folder, postgres, options)
            try:
                server.start()
                yield server
            finally:
                server.stop()
    finally:
        shutil.rmtree((folder / "data" / "postgres").resolve(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(towns: Sequence[Town], options: argparse.Namespace) -> None:
    names = [town.server.name for town in towns]
    print(table_head(names), flush=True)
    results = []
    for row in choose_rows(options.only):
        started = time.monotonic()
        result = await measure_row(row, towns, Scale(options.scale), options.rounds)
        results.append(result)
        print(table_line(result, names), flush=True)
        print(f"{row.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if options.json is not None:
            write_json(options.json, results)


async def _profile(towns: Sequence[Town], options: argparse.Namespace) -> None:
    options.profile.mkdir(parents=True, exist_ok=True)
    for row in choose_rows(options.only):
        for town in towns:
            scale = Scale(options.scale)
            print(await profile_row(row, town, scale, options.profile_seconds, options.profile), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write the profiles."""
    options = _read_arguments(arguments)
    if options.list:
        for row in ROWS:
            print(f"{row.name:24} {(row.__doc__ or '').splitlines()[0]}")
        return 0
    choose_rows(options.only)
    with ExitStack() as stack:
        towns = [Town(stack.enter_context(_running(name, options))) for name in options.servers]
        uvloop.run((_profile if options.profile else _measure)(towns, options))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
