# The twin is the contract, and the types too.
from hs._fast.state_tree_ref import *  # noqa: F403
