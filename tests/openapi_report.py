"""At the end of a run: how many operations answered as the specification says, of all processes of the run."""

from collections import Counter
from typing import Any

import pytest

from tests import openapi

# What worker processes have counted.
_of_workers: Counter[tuple[str, int]] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands its counts over."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["valid_answers"] = [[name, status, n] for (name, status), n in openapi.valid.items()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the counts of a worker."""
    for name, status, count in getattr(node, "workeroutput", {}).get("valid_answers", ()):
        _of_workers[name, status] += count


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line."""
    total = openapi.valid + _of_workers
    if total:
        succeeded = {name for name, status in total if status == 200}
        terminalreporter.write_line(
            f"{total.total()} answers of {len({name for name, _ in total})} operations fit the specification; "
            f"{len(succeeded)} of its {len(openapi.operations())} operations succeeded at least once"
        )
