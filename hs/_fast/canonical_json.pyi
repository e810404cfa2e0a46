# The twin is the contract, and the types too.
from hs._fast.canonical_json_ref import *  # noqa: F403
