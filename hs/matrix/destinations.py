"""When a server that did not answer may be asked again. Pure: who asks brings the time and the dice."""

from dataclasses import dataclass
from typing import Final

FIRST_RETRY_MS: Final = 10_000
# A server that was off for a week is found again within this time, or at once when it says something itself.
LAST_RETRY_MS: Final = 6 * 3600 * 1000
# Retries of many servers that went down together are spread over this share of their waits.
SPREAD: Final = 0.4
# A server that speaks to us and does not answer is not asked again each time it speaks.
MIN_WAIT_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Failing:
    """A server that did not answer `failures` times in a row; times in milliseconds."""

    server_name: str
    failures: int
    failing_since_ts: int
    failed_ts: int
    retry_ts: int


def fail_again(server_name: str, before: Failing | None, now_ms: int, dice: float) -> Failing:
    """After one more failure at `now_ms`: twice the wait, give or take; `dice` is from 0 to 1."""
    failures = 1 if before is None else before.failures + 1
    wait_ms = min(FIRST_RETRY_MS << min(failures - 1, 20), LAST_RETRY_MS)
    retry_ts = now_ms + round(wait_ms * (1 - SPREAD / 2 + SPREAD * dice))
    failing_since_ts = now_ms if before is None else before.failing_since_ts
    return Failing(server_name, failures, failing_since_ts, now_ms, retry_ts)
