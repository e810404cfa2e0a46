# The twin is the contract, and the types too.
from hs._fast.event_record_ref import *
