"""What an answer may cost us."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes of an answer's body, and seconds from the request to the answer's end.

    `max_parts`: commas in the body. An item of a list takes some 70 bytes of memory once it is decoded, however short it
    is; events have a comma in 30 to 50 bytes.
    """

    max_bytes: int
    timeout_s: float
    max_parts: int = 2 * 2**20
