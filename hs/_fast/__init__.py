"""Compiled kernels over bytes and integers; each has a readable pure-Python twin.

    from hs._fast import canonical_json      # the compiled module, or its twin with HS_FAST=0

| kernel         | does                                                                     |
|----------------|--------------------------------------------------------------------------|
| canonical_json | strict canonical JSON from Python objects                                |
| event_hash     | content hash, event id and the bytes to sign of a PDU in one pass        |
| state_tree     | persistent map key_ix -> event_nid: change, diff, conflicted keys, pack  |
| auth_graph     | a room's auth events as integer arrays: chain, difference, subgraph      |
| event_auth     | auth rules of room versions 1 to 12 over compact auth records            |
| state_res      | state resolution v1, v2 and v2.1 over auth records                       |
| extremity_rank | the order in which backfill points are tried                             |
| event_record   | the event cache's msgpack record, decoded field by field                 |

The twin `NAME_ref.py` is the contract of `NAME.pyx`: same public names, shortest clear code. It is
also the type stub and the oracle of the parity tests in `tests/fast`.

There is no silent fallback. A missing build is an ImportError that says how to mend it; the twins
are used only when the environment variable HS_FAST is "0". Nothing here imports the rest of `hs`.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hs._fast import auth_graph_ref as auth_graph
    from hs._fast import canonical_json_ref as canonical_json
    from hs._fast import event_auth_ref as event_auth
    from hs._fast import event_hash_ref as event_hash
    from hs._fast import event_record_ref as event_record
    from hs._fast import extremity_rank_ref as extremity_rank
    from hs._fast import state_res_ref as state_res
    from hs._fast import state_tree_ref as state_tree

__all__ = [
    "auth_graph",
    "canonical_json",
    "event_auth",
    "event_hash",
    "event_record",
    "extremity_rank",
    "state_res",
    "state_tree",
]


def _load(name: str) -> ModuleType:
    """The kernel `name`, or its twin with HS_FAST=0."""
    if os.environ.get("HS_FAST") == "0":
        module = importlib.import_module(f"{__name__}.{name}_ref")
        # `from hs._fast.NAME import ...` must find the twin, too.
        sys.modules[f"{__name__}.{name}"] = module
        return module
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as missing:
        raise ImportError(
            f"the compiled kernel hs._fast.{name} is not built; run 'pip install .' "
            "(or 'python setup.py build_ext --inplace' in a checkout), "
            "or set HS_FAST=0 to run on the slow pure-Python twins"
        ) from missing


for _name in __all__:
    globals()[_name] = _load(_name)
