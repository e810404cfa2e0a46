"""Two homeservers under the same load: how much CPU each of them spends on the same requests.

    python -m bench.load                                   # this tree against Synapse from PyPI, every row
    python -m bench.load --only 'send-*' --rounds 7        # some rows
    python -m bench.load --servers hs --scale small        # only ours, in half a minute

`servers.py` starts the programs under test, each on a PostgreSQL of its own with the same settings.
`town.py` has the people who use one of them, `rows/` what they do: one file for each kind of work.
`measure.py` lets both servers do a row by turns and reads the CPU clocks of their processes
(`processes.py`); `report.py` prints. What the figures mean: bench/README.md.
"""
