"""The figures as a table, and as a file for bench/compare.py."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.load.measure import Figures, RowResult

# A row whose ratio differs by more than this from round to round says little.
_NOISY = 1.5


def table_head(servers: Sequence[str]) -> str:
    """The first two lines of a table in Markdown: what is measured of each server."""
    columns = ["row (CPU per)"]
    for server in servers:
        columns += [f"{server} ms", f"{server} database ms", f"{server} wall ms"]
    if len(servers) == 2:
        columns += ["ratio", "rounds", "with databases"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def table_line(result: RowResult, servers: Sequence[str]) -> str:
    """One line of the table: medians per unit, and where there are two servers, second to first."""
    cells = [f"{result.row.name} ({result.row.unit})"]
    for server in servers:
        figures = result.figures[server]
        if figures.failure:
            cells += ["-", "-", "-"]
        else:
            cells += [_ms(figures.median(name)) for name in ("cpu_s", "database_cpu_s", "wall_s")]
    if len(servers) == 2:
        cells += _ratio_cells(result, *servers)
    return f"| {' | '.join(cells)} |"


def _ratio_cells(result: RowResult, ours: str, theirs: str) -> list[str]:
    ratios = result.ratios(ours, theirs)
    if not ratios:
        return ["-", "-", "-"]
    left, right = result.figures[ours], result.figures[theirs]
    with_databases = _whole(right) / _whole(left)
    mark = " noisy" if max(ratios) > _NOISY * min(ratios) else ""
    return [
        f"{right.median('cpu_s') / left.median('cpu_s'):.1f}x",
        f"{min(ratios):.1f}-{max(ratios):.1f}{mark}",
        f"{with_databases:.1f}x",
    ]


def _whole(figures: Figures) -> float:
    return figures.median("cpu_s") + figures.median("database_cpu_s")


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def write_json(path: Path, results: Sequence[RowResult]) -> None:
    """The CPU seconds per unit of each row and server, as pytest-benchmark writes its figures."""
    benchmarks = [
        _benchmark(f"load/{result.row.name}[{server}]", figures)
        for result in results
        for server, figures in result.figures.items()
        if figures.samples
    ]
    path.write_text(json.dumps({"benchmarks": benchmarks}, indent=1))


def _benchmark(name: str, figures: Figures) -> dict[str, Any]:
    seconds = [sample.cpu_s for sample in figures.samples]
    quartiles = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else [0.0] * 3
    return {
        "name": name,
        "fullname": name,
        "stats": {
            "median": figures.median("cpu_s"),
            "iqr": quartiles[2] - quartiles[0],
            "min": min(seconds),
            "max": max(seconds),
            "rounds": len(seconds),
        },
        "extra_info": {
            "database_ms": round(figures.median("database_cpu_s") * 1000, 3),
            "wall_ms": round(figures.median("wall_s") * 1000, 3),
        },
    }
