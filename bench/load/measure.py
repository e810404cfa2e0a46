"""Lets the servers do a row by turns and reads the clocks."""

import statistics
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.load.rows.base import Row, Scale
from bench.load.town import Town


@dataclass(frozen=True)
class Sample:
    """What one unit of a row took in one round; seconds."""

    cpu_s: float
    database_cpu_s: float
    wall_s: float


@dataclass
class Figures:
    """The rounds of one server in one row; `failure` says why there are none."""

    samples: list[Sample] = field(default_factory=list)
    failure: str = ""

    def median(self, name: str) -> float:
        """The median of a field of the samples."""
        return float(statistics.median(getattr(sample, name) for sample in self.samples))


@dataclass(frozen=True)
class RowResult:
    """A row with the figures of each server by its name."""

    row: type[Row]
    figures: Mapping[str, Figures]

    def ratios(self, ours: str, theirs: str) -> list[float]:
        """How many times more CPU `theirs` took, round by round; empty where either has no figures."""
        pairs = zip(self.figures[theirs].samples, self.figures[ours].samples, strict=False)
        return [their.cpu_s / our.cpu_s for their, our in pairs]


async def measure_row(
    row_type: type[Row], towns: Sequence[Town], scale: Scale, rounds: int, *, warm_up: bool = True
) -> RowResult:
    """The row on every server, `rounds` times by turns; the one that begins changes from round to round.

    A server that refuses, or answers what the row does not take for right, has no figures; the others go on.
    """
    figures = {town.server.name: Figures() for town in towns}
    rows = [row_type(town, scale) for town in towns]
    for row in rows:
        await _attempt(row, figures[row.town.server.name], row.set_up())
    has_warm_up = warm_up and row_type.has_warm_up
    for number in range(rounds + has_warm_up):
        is_warm_up = has_warm_up and number == 0
        for row in rows if number % 2 else rows[::-1]:
            found = figures[row.town.server.name]
            if not found.failure:
                await _attempt(row, found, _do_round(row, found, is_warm_up))
    for row in rows:
        await row.tear_down()
    return RowResult(row_type, figures)


async def _attempt(row: Row, figures: Figures, work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        figures.failure = f"{type(error).__name__}: {error}"
        figures.samples.clear()
        print(f"{row.name} on {row.town.server.name}: {figures.failure}", file=sys.stderr, flush=True)


async def _do_round(row: Row, figures: Figures, is_warm_up: bool) -> None:
    await row.prepare()
    try:
        sample = await _measure(row)
    finally:
        await row.finish()
    if not is_warm_up:
        figures.samples.append(sample)


async def _measure(row: Row) -> Sample:
    tree, database = row.town.server.tree, row.town.server.database
    await tree.rest()
    cpu_s, database_cpu_s, started = tree.cpu_s(), database.cpu_s(), time.monotonic()
    units = await row.run()
    wall_s = time.monotonic() - started
    # What a server puts off until after its answer is work as well.
    await tree.rest()
    return Sample((tree.cpu_s() - cpu_s) / units, (database.cpu_s() - database_cpu_s) / units, wall_s / units)
