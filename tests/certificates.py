"""A certificate authority of the tests: servers get certificates from it, clients are told to trust it.

authority = Authority(folder)
config = {"federation": {"ca_file": str(authority.ca_file)}}
site = TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server_context())
"""

import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import trustme

# What servers on this machine are reached by.
LOCAL_NAMES = ("127.0.0.1", "::1", "localhost")


class Certificate(NamedTuple):
    """PEM files: the chain, and the key of its first certificate."""

    chain: Path
    key: Path


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self._issued: dict[tuple[str, ...], Certificate] = {}
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    @cached_property
    def local(self) -> Certificate:
        """A certificate for this machine's addresses and its name."""
        return self.issue(*LOCAL_NAMES)

    def issue(self, *names: str) -> Certificate:
        """A certificate for DNS names and IP addresses; the same one for the same names."""
        if names not in self._issued:
            self._issued[names] = self._write(f"leaf{len(self._issued)}", self._ca.issue_cert(*names))
        return self._issued[names]

    def issue_expired(self, *names: str) -> Certificate:
        """A certificate that was good until yesterday."""
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            *names, not_before=now - timedelta(days=9), not_after=now - timedelta(days=1)
        )
        return self._write("expired", leaf)

    def server_context(self, certificate: Certificate | None = None) -> ssl.SSLContext:
        """What a server speaks TLS with, by default as this machine."""
        chain, key = certificate or self.local
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain, key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """What a client speaks TLS with that trusts this authority and no other."""
        return ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca_file)

    def _write(self, name: str, leaf: trustme.LeafCert) -> Certificate:
        certificate = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        for number, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(str(certificate.chain), append=number > 0)
        leaf.private_key_pem.write_to_path(str(certificate.key))
        return certificate
