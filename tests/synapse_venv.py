"""A virtual environment with Synapse from PyPI, kept between runs; as a program it makes one ahead of the tests.

Uses nothing but Python's own library.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SYNAPSE = "matrix-synapse==1.163.2"
# The tests have it on SQLite, the benchmarks on PostgreSQL. Its migrations want pkg_resources.
_PACKAGES = (SYNAPSE, "psycopg2-binary", "setuptools<81")
_INSTALL_TIMEOUT_S = 540.0


class CannotInstall(Exception):
    """There is no Synapse to be had; the message says why."""


def _cache_folder() -> Path:
    """A folder outside the tree, another one for another release or interpreter."""
    version = f"{SYNAPSE.replace('==', '-')}-py{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "hs-tests" / version
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # an account without a home
        folder = Path(tempfile.gettempdir()) / f"hs-tests-{os.getuid()}" / version
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_or_make() -> Path:
    """The interpreter that has Synapse; CannotInstall where it cannot be installed."""
    folder = _cache_folder()
    python = folder / "venv" / "bin" / "python"
    with (folder / "lock").open("w") as lock:
        # Several test processes may start at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed, packages = folder / "installed", " ".join(_PACKAGES)
        if not installed.exists() or installed.read_text() != packages:
            _run(sys.executable, "-m", "venv", "--clear", str(folder / "venv"))
            _run(str(python), "-m", "pip", "install", "--quiet", "--retries=1", *_PACKAGES)
            installed.write_text(packages)
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{SYNAPSE} could not be installed in {_INSTALL_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise CannotInstall(f"{SYNAPSE} could not be installed: {done.stderr.strip()[-500:]}")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find_or_make()}\n")
    except CannotInstall as error:
        sys.exit(str(error))
