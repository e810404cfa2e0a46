"""What an answer may cost us."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of an answer's body, and seconds from the request to the answer's end."""

    max_bytes: int
    timeout_s: float
