"""An interpreter with the Synapse that we compare ourselves with."""

import os
import subprocess
import sys
from pathlib import Path

SYNAPSE = "matrix-synapse==1.163.2"


def find_or_make(given: str | None) -> str:
    """The path of the interpreter `given`, else of a virtual environment in the user's cache, made where it is missing."""
    if given is not None:
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "hs-bench" / SYNAPSE.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {SYNAPSE} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        # The wheel of psycopg2-binary brings its own libpq.
        install = [str(python), "-m", "pip", "install", "-q", SYNAPSE, "psycopg2-binary", "setuptools<81"]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return str(python)
