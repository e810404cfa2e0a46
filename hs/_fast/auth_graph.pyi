# The twin is the contract, and the types too.
from hs._fast.auth_graph_ref import *  # noqa: F403
