# The twin is the contract, and the types too.
from hs._fast.state_res_ref import *
