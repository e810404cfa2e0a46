"""Where servers say that they are elsewhere: `https://<name>/.well-known/matrix/server`.

Spec: server-server-api "Resolving server names", step 3, and "GET /.well-known/matrix/server".
"""

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from hs.matrix.ids import is_server_name, parse_server_name
from hs.net.bounds import Bounds
from hs.net.client import HttpAnswer, HttpClient
from hs.net.errors import RemoteError
from hs.net.remembered import Entry, Remembered

logger = logging.getLogger(__name__)

# Many servers have nothing that listens there, and whoever waits has little time.
_BOUNDS: Final = Bounds(51_200, 8.0)
_MAX_REDIRECTS: Final = 5
# Servers whose answers are remembered, some 300 bytes each.
_REMEMBERED: Final = 20_000

_HOUR_S: Final = 3600.0
_DEFAULT_S: Final = 24 * _HOUR_S
_MAX_S: Final = 48 * _HOUR_S
# For those who say that nothing may be kept.
_MIN_S: Final = 300.0
# The first failure is believed so long, each further one twice as long as the one before.
_FIRST_FAILURE_S: Final = 120.0
_MAX_FAILURE_S: Final = _HOUR_S
_SPREAD: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Told:
    """What a server's page says; None for a page that there is not, or that says nothing of use."""

    delegated: str | None
    # Until when `delegated` may be believed when the page cannot be had.
    believed_until_ts: int = 0
    failures: int = 0


class _Page(msgspec.Struct):
    server: str = msgspec.field(name="m.server")


_decoder = msgspec.json.Decoder(_Page)


class WellKnown:
    """Asks for such pages. `port` is for tests, where nobody may listen on 443."""

    def __init__(self, http: HttpClient, now_ms: Callable[[], int], port: int = 443) -> None:
        self._http = http
        self._now_ms = now_ms
        self._port = port
        self._told: Remembered[str, _Told] = Remembered(_REMEMBERED, now_ms, self._fetch)

    async def find(self, hostname: str) -> str | None:
        """The server name that another one has others go to; None where it has none."""
        return (await self._told.get(hostname.lower())).delegated

    def forget(self, hostname: str, min_age_s: float) -> set[str]:
        """Ask again if the page was good and is older than this; the hosts that it had named.

        Failures are kept: they would only be repeated.
        """
        entry = self._told.peek(hostname.lower())
        if entry is None or entry.value.delegated is None:
            return set()
        if not entry.value.failures:
            self._told.expire(hostname.lower(), min_age_s)
        return {parse_server_name(entry.value.delegated).host}

    async def close(self) -> None:
        """End the requests under way."""
        await self._told.close()

    async def _fetch(self, hostname: str, last: Entry[_Told] | None) -> tuple[_Told, float]:
        now_ms = self._now_ms()
        port = "" if self._port == 443 else f":{self._port}"
        try:
            answer = await self._http.request(
                "GET",
                f"https://{hostname}{port}/.well-known/matrix/server",
                _BOUNDS,
                redirects=_MAX_REDIRECTS,
            )
        except RemoteError as error:
            logger.debug("no .well-known of %s: %s", hostname, error)
            return self._failed(last, now_ms, is_passing=True)
        delegated = parse_page(answer)
        if delegated is None:
            return self._failed(last, now_ms, is_passing=answer.status >= 500 or answer.status == 429)
        good_s = lifetime_s(answer.headers, now_ms)
        # Those who were found together are not asked together again.
        spread = 1 - random.random() * _SPREAD
        return _Told(delegated, now_ms + round(_MAX_S * 1000)), good_s * spread

    def _failed(self, last: Entry[_Told] | None, now_ms: int, is_passing: bool) -> tuple[_Told, float]:
        failures = last.value.failures + 1 if last is not None else 1
        good_s = min(_FIRST_FAILURE_S * 2 ** min(failures - 1, 10), _MAX_FAILURE_S)
        delegated, until_ts = None, 0
        if is_passing and last is not None and now_ms < last.value.believed_until_ts:
            # A web server that is down for a while must not take the homeserver's connections with it.
            delegated, until_ts = last.value.delegated, last.value.believed_until_ts
            good_s = min(good_s, (until_ts - now_ms) / 1000)
        return _Told(delegated, until_ts, failures), good_s


def parse_page(answer: HttpAnswer) -> str | None:
    """The server name that a page names; None where it is not as the spec says."""
    if answer.status != 200:
        return None
    try:
        name = _decoder.decode(answer.body).server
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return name if is_server_name(name) and 0 < _port(name) < 65536 else None


def lifetime_s(headers: Mapping[str, str], now_ms: int) -> float:
    """How long an answer may be kept by its headers, within our bounds."""
    for directive in headers.get("Cache-Control", "").lower().split(","):
        name, _, value = directive.partition("=")
        if name.strip() in ("no-store", "no-cache"):
            return _MIN_S
        value = value.strip().strip('"')
        if name.strip() == "max-age" and value.isascii() and value.isdecimal():
            return min(max(float(value[:12]), _MIN_S), _MAX_S)
    expires = headers.get("Expires")
    if expires is None:
        return _DEFAULT_S
    try:
        until_s = parsedate_to_datetime(expires).timestamp()
    # "0" and the like mean that it is too late already.
    except (ValueError, TypeError, OverflowError, IndexError):
        return _MIN_S
    return min(max(until_s - now_ms / 1000, _MIN_S), _MAX_S)


def _port(server_name: str) -> int:
    port = parse_server_name(server_name).port
    return 443 if port is None else port
