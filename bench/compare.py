"""Two files of pytest-benchmark side by side: which benchmarks got faster, which slower, by how much.

    python bench/compare.py before.json after.json

The median of the rounds is compared; a change is marked where it is larger than the spread of both runs
(from the first to the third quartile), for what is smaller says nothing.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One benchmark in one file; seconds."""

    median_s: float
    spread_s: float
    extra: dict[str, Any]


def load(path: Path) -> dict[str, Figure]:
    """The figures of a file, by the benchmark's full name."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return {
        entry["fullname"]: Figure(
            entry["stats"]["median"], entry["stats"]["iqr"], entry.get("extra_info", {})
        )
        for entry in document["benchmarks"]
    }


def describe(before: Figure, after: Figure) -> str:
    """The change as a word: "1.50x faster", "1.20x slower", or "same" within the spread."""
    if abs(before.median_s - after.median_s) <= before.spread_s + after.spread_s:
        return "same"
    if after.median_s < before.median_s:
        return f"{before.median_s / after.median_s:.2f}x faster"
    return f"{after.median_s / before.median_s:.2f}x slower"


def format_seconds(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def main(arguments: list[str]) -> int:
    """Print the table; 2 where the command line is wrong."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    before, after = (load(Path(argument)) for argument in arguments)
    width = max((len(name) for name in before.keys() | after.keys()), default=0)
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            print(f"{name:<{width}}  only in {'the second' if name in after else 'the first'}")
            continue
        old, new = before[name], after[name]
        times = f"{format_seconds(old.median_s):>9} -> {format_seconds(new.median_s):>9}"
        extra = "  ".join(f"{key} {value}" for key, value in new.extra.items())
        print(f"{name:<{width}}  {times}  {describe(old, new):<14}  {extra}".rstrip())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
