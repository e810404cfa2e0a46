"""Names to addresses and services. Addresses that we do not connect to are left out, whoever names them.

Answers are remembered for as long as they say, within bounds, failures too; a name is looked up once at a time.
The machine's hosts file goes before DNS.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from hs.net.addresses import AddressGuard, parse_ip, parse_nameserver
from hs.net.errors import AddressRefused, Unreachable
from hs.net.remembered import Entry, Remembered

logger = logging.getLogger(__name__)

HOSTS_FILE: Final = Path("/etc/hosts")

# Answers remembered, a few hundred bytes each: a busy server knows some thousand others by three names each.
_REMEMBERED: Final = 30_000
# Seconds that answers are good for, whatever they say.
_MIN_TTL_S: Final = 10
_MAX_TTL_S: Final = 3600
_MAX_NEGATIVE_S: Final = 300
_FAILED_S: Final = 20
# Of one name; of services, nobody has more.
_MAX_ADDRESSES: Final = 6
# Of which some may be refused.
_MAX_RECORDS: Final = 32
_MAX_SERVICES: Final = 16
_LIFETIME_S: Final = 5.0
_PER_QUERY_S: Final = 2.0
# Sockets of queries under way.
_MAX_QUERIES: Final = 256
_MAX_HOSTS_FILE: Final = 1024 * 1024


class Service(NamedTuple):
    """One SRV record. RFC 2782."""

    priority: int
    weight: int
    port: int
    # "" says that there is no such service.
    host: str


class _Found(NamedTuple):
    """What one name and type has, addresses or services; `failure` says why nobody knows."""

    addresses: Sequence[str] = ()
    services: Sequence[Service] = ()
    failure: str = ""


class Resolver:
    """Looks names up. `nameservers` are addresses, with ports or not ("192.0.2.1", "[2001:db8::1]:5353");
    without any, those of /etc/resolv.conf."""

    def __init__(
        self,
        guard: AddressGuard,
        now_ms: Callable[[], int],
        nameservers: Sequence[str] = (),
        hosts_file: Path = HOSTS_FILE,
    ) -> None:
        self._guard = guard
        self._hosts_file = hosts_file
        self._dns = _make_resolver(nameservers)
        self._answers: Remembered[tuple[str, str], _Found] = Remembered(_REMEMBERED, now_ms, self._look_up)
        self._queries = asyncio.Semaphore(_MAX_QUERIES)

    async def find_addresses(self, host: str) -> Sequence[str]:
        """Where connections to this name or address may go, IPv6 first.

        Raises Unreachable for names without addresses, AddressRefused where we connect to none of them.
        """
        host = host.rstrip(".").lower()
        if (literal := parse_ip(host)) is not None:
            self._guard.check(literal)
            return [str(literal)]
        return self._allowed(host, self._in_hosts_file(host) or await self._in_dns(host))

    async def find_services(self, name: str) -> Sequence[Service]:
        """The SRV records, in no order; none where there are none or nobody knows."""
        return (await self._answers.get((name.lower(), "SRV"))).services

    def forget(self, name: str, min_age_s: float) -> None:
        """Ask for this name again if what is known of it is older than this."""
        for kind in ("A", "AAAA", "SRV"):
            self._answers.expire((name.lower(), kind), min_age_s)

    async def close(self) -> None:
        """End the look-ups under way."""
        await self._answers.close()

    def _allowed(self, host: str, addresses: Sequence[str]) -> Sequence[str]:
        allowed, refused = [], None
        for address in addresses:
            try:
                self._guard.check(address)
                allowed.append(address)
            except AddressRefused as error:
                refused = error
        if not allowed:
            raise AddressRefused(f"{host}: {refused}")
        return allowed[:_MAX_ADDRESSES]

    async def _in_dns(self, host: str) -> Sequence[str]:
        six, four = await asyncio.gather(self._answers.get((host, "AAAA")), self._answers.get((host, "A")))
        # Half of each where there are many.
        half = _MAX_ADDRESSES // 2
        found = [*six.addresses[: max(half, _MAX_ADDRESSES - len(four.addresses))], *four.addresses]
        if not found:
            raise Unreachable(f"{host} {four.failure or six.failure or 'has no address'}")
        return found

    def _in_hosts_file(self, host: str) -> Sequence[str]:
        try:
            with self._hosts_file.open("rb") as file:
                text = file.read(_MAX_HOSTS_FILE).decode("utf-8", "replace")
        except OSError:
            return []
        found = []
        for line in text.splitlines():
            address, *names = line.partition("#")[0].lower().split() or [""]
            if host in names and parse_ip(address) is not None:
                found.append(address)
        return found

    async def _look_up(self, key: tuple[str, str], _last: Entry[_Found] | None) -> tuple[_Found, float]:
        name, kind = key
        try:
            async with self._queries:
                # Names are whole: what /etc/resolv.conf would add makes another server of them.
                answer = await self._dns.resolve(
                    dns.name.from_text(name), kind, raise_on_no_answer=False, search=False
                )
        except dns.resolver.NXDOMAIN as error:
            return _Found(failure="does not exist"), _negative_ttl(
                *error.kwargs.get("responses", {}).values()
            )
        except dns.exception.Timeout:
            return _Found(failure="could not be looked up in time"), _FAILED_S
        # ValueError and its kind: texts that are no DNS names. OSError: no network.
        except (dns.exception.DNSException, ValueError, OSError) as error:
            logger.debug("DNS: %s of %r: %s", kind, name, error)
            return _Found(failure=f"could not be looked up ({type(error).__name__})"), _FAILED_S
        if answer.rrset is None:
            return _Found(), _negative_ttl(answer.response)
        good_s = min(max(answer.chaining_result.minimum_ttl, _MIN_TTL_S), _MAX_TTL_S)
        if kind == "SRV":
            services = [_read_service(record) for record in answer.rrset if isinstance(record, SRV)]
            return _Found(services=services[:_MAX_SERVICES]), good_s
        return _Found(addresses=[str(record) for record in answer.rrset][:_MAX_RECORDS]), good_s


def _read_service(record: SRV) -> Service:
    host = record.target.to_text(omit_final_dot=True)
    return Service(record.priority, record.weight, record.port, "" if host in (".", "@") else host)


def _negative_ttl(*responses: dns.message.Message) -> float:
    """How long a name stays without records. RFC 2308."""
    ttl = _MIN_TTL_S
    for response in responses:
        if isinstance(response, dns.message.QueryMessage):
            try:
                ttl = response.resolve_chaining().minimum_ttl
            except dns.exception.DNSException:
                pass
    return min(max(ttl, _MIN_TTL_S), _MAX_NEGATIVE_S)


def _make_resolver(nameservers: Sequence[str]) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.lifetime, resolver.timeout = _LIFETIME_S, _PER_QUERY_S
    if nameservers:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(*parse_nameserver(text)) for text in nameservers
        ]
        return resolver
    try:
        resolver.read_resolv_conf("/etc/resolv.conf")
    except (dns.exception.DNSException, OSError) as error:
        logger.warning("names of other servers cannot be looked up: /etc/resolv.conf: %s", error)
        resolver.nameservers = []
    resolver.lifetime, resolver.timeout = _LIFETIME_S, _PER_QUERY_S
    return resolver
