"""Builds the Cython kernels; everything else is in pyproject.toml.

HS_DEBUG=1 builds them with bounds checks. To go back: python setup.py build_ext --inplace --force
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("HS_DEBUG") == "1"

kernels = cythonize(
    [Extension("hs._fast.*", ["hs/_fast/*.pyx"], extra_compile_args=["-O1", "-g"] if DEBUG else ["-O3"])],
    build_dir="build/cython-debug" if DEBUG else "build/cython",
    compiler_directives={
        "language_level": 3,
        "boundscheck": DEBUG,
        "wraparound": DEBUG,
        "initializedcheck": DEBUG,
    },
)
setup(ext_modules=kernels, options={"build_ext": {"parallel": os.cpu_count(), "force": DEBUG}})
