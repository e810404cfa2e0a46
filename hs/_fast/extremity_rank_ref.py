"""The order in which backfill points are tried: a pure ranking of backward extremities.

A point that failed is left alone for 2^n hours after its n-th failure, at most 256 hours. Of the rest,
those nearest to the depth the reader looks at come first, and the past before the future.
"""

import heapq
from collections.abc import Iterable

__all__ = ["rank", "retry_at"]

HOUR_MS = 3_600_000
MAX_DOUBLINGS = 8


def retry_at(failed_attempts: int, last_attempt_ms: int) -> int:
    """When a point may be tried again, in milliseconds; 0 if it never failed.

    Saturates at 2^63-1. Raises ValueError for a negative number of attempts.
    """
    if failed_attempts < 0:
        raise ValueError("failed_attempts must not be negative")
    if failed_attempts == 0:
        return 0
    return min(last_attempt_ms + (HOUR_MS << min(failed_attempts, MAX_DOUBLINGS)), (1 << 63) - 1)


def rank(
    candidates: Iterable[tuple[int, int, int, int]], current_depth: int, now_ms: int, limit: int
) -> list[int]:
    """The event_nids of at most `limit` points to try, in order.

    `candidates` are (event_nid, depth, failed_attempts, last_attempt_ms), all 64-bit integers, in any
    order; any iterable will do and only the best `limit` are held. `current_depth` is where the reader
    looks. Points still in back-off at `now_ms` are skipped. Order: |current_depth - depth|, then depth
    <= current_depth before the deeper ones, then event_nid ascending.
    """
    return [
        nid
        for _, _, nid in heapq.nsmallest(
            max(limit, 0),
            (
                (abs(current_depth - depth), depth > current_depth, nid)
                for nid, depth, failed_attempts, last_attempt_ms in candidates
                if failed_attempts == 0 or now_ms >= retry_at(failed_attempts, last_attempt_ms)
            ),
        )
    ]
