"""Builds the Cython kernels; everything else is in pyproject.toml.

HS_DEBUG=1 builds them with bounds checks, whatever their headers say, so that the tests can run on such a
build. To go back: python setup.py build_ext --inplace --force
"""

import os
import re
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("HS_DEBUG") == "1"
UNCHECKED = re.compile(r"\b(boundscheck|initializedcheck)(\s*=\s*|\()False")

sources = Path(".")
if DEBUG:
    sources = Path("build/debug-sources")
    for file in sorted(Path("hs/_fast").glob("*.p[xy][dx]")):
        copy = sources / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(UNCHECKED.sub(r"\1\2True", file.read_text()))
    for package in ("hs", "hs/_fast"):
        (sources / package / "__init__.py").touch()

kernels = cythonize(
    [
        Extension(
            f"hs._fast.{file.stem}", [str(file)], extra_compile_args=["-O1", "-g"] if DEBUG else ["-O3"]
        )
        for file in sorted((sources / "hs/_fast").glob("*.pyx"))
    ],
    build_dir="build/cython-debug" if DEBUG else "build/cython",
    include_path=[str(sources)],
    compiler_directives={
        "language_level": 3,
        "boundscheck": DEBUG,
    },
)
setup(ext_modules=kernels, options={"build_ext": {"parallel": os.cpu_count(), "force": DEBUG}})
