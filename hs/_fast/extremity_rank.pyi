# The twin is the contract, and the types too.
from hs._fast.extremity_rank_ref import *  # noqa: F403
