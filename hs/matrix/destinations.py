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
# Of a Retry-After.
MAX_WISH_MS: Final = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Failing:
    """A server that did not answer `failures` times in a row; times in milliseconds."""

    server_name: str
    failures: int
    failing_since_ts: int
    failed_ts: int
    retry_ts: int
    # It has said itself that it is busy until then, whatever it sends us meanwhile; a restart forgets that.
    busy_until_ts: int = 0


def fail_again(
    server_name: str, before: Failing | None, now_ms: int, dice: float, wished_ms: int = 0
) -> Failing:
    """After one more failure at `now_ms`: twice the wait, give or take; `dice` is from 0 to 1.

    `wished_ms` is how long the server has asked to be left alone; up to an hour of that is granted.
    """
    failures = 1 if before is None else before.failures + 1
    wait_ms = min(FIRST_RETRY_MS << min(failures - 1, 20), LAST_RETRY_MS)
    busy_until_ts = now_ms + min(wished_ms, MAX_WISH_MS) if wished_ms > 0 else 0
    retry_ts = max(now_ms + round(wait_ms * (1 - SPREAD / 2 + SPREAD * dice)), busy_until_ts)
    failing_since_ts = now_ms if before is None else before.failing_since_ts
    return Failing(server_name, failures, failing_since_ts, now_ms, retry_ts, busy_until_ts)
