# The twin is the contract, and the types too.
from hs._fast.event_hash_ref import *  # noqa: F403
