"""Signing keys as text, and signatures of bytes.

Spec: appendices "Unpadded Base64", "Signing Details"; server-server-api "Retrieving server keys"; rooms/v5
"Signing key validity period". The text of key files is that of the package signedjson.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nacl.exceptions import CryptoError
from signedjson.key import (
    decode_signing_key_base64,
    decode_verify_key_bytes,
    encode_signing_key_base64,
    encode_verify_key_base64,
)
from signedjson.types import SigningKey, VerifyKey

ALGORITHM: Final = "ed25519"

# rooms/v5: servers use the lesser of valid_until_ts and 7 days into the future.
MAX_KEY_VALIDITY_MS: Final = 7 * 24 * 3600 * 1000

# server-server-api "Publishing Keys": what the version of a key is made of; its length is our bound.
_KEY_ID = re.compile(rf"{ALGORITHM}:[a-zA-Z0-9_]{{1,120}}")

Signatures = dict[str, dict[str, str]]
"""Base64 signatures by key id, by server name."""


class BadSignature(ValueError):
    """A signature is missing, malformed or wrong."""


def encode_base64(data: bytes) -> str:
    """Unpadded base64. Spec: appendices "Unpadded Base64"."""
    return base64.b64encode(data).decode().rstrip("=")


def decode_base64(text: str) -> bytes:
    """The bytes of base64 with or without padding; ValueError for anything else."""
    stripped = text.rstrip("=")
    try:
        return base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


@dataclass(frozen=True, slots=True)
class ServerKey:
    """A server's public key, and until when it counts (for a retired key: when it was retired)."""

    key_id: str
    verify_key: VerifyKey
    valid_until_ts: int

    def covers(self, ts: int) -> bool:
        """Whether the key was valid at `ts`, in milliseconds. Spec: rooms/v5."""
        return ts <= self.valid_until_ts


@dataclass(frozen=True, slots=True)
class OldKey:
    """A key of this server that no longer signs, and since when, in milliseconds."""

    verify_key: VerifyKey
    expired_ts: int

    @property
    def key_id(self) -> str:
        """The key's id."""
        return key_id_of(self.verify_key)


def cap_validity(valid_until_ts: int, now_ms: int) -> int:
    """Until when a key counts that was fetched now. Since v5: at most 7 days from now."""
    return min(valid_until_ts, now_ms + MAX_KEY_VALIDITY_MS)


def key_id_of(key: SigningKey | VerifyKey) -> str:
    """The key's id, such as "ed25519:a_b1"."""
    return f"{key.alg}:{key.version}"


def is_key_id(text: str) -> bool:
    """Whether `text` is the id of a key of an algorithm that we know."""
    return _KEY_ID.fullmatch(text) is not None


def signing_key_from_seed(key_version: str, seed: bytes) -> SigningKey:
    """The signing key with a 32-byte seed."""
    return decode_signing_key_base64(ALGORITHM, key_version, encode_base64(seed))


def verify_key_from_base64(key_id: str, text: str) -> VerifyKey:
    """The public key of its published form; ValueError where it is malformed or of another algorithm."""
    return decode_verify_key_bytes(key_id, decode_base64(text))


def verify_key_to_base64(key: VerifyKey) -> str:
    """The public key as servers publish it."""
    return encode_verify_key_base64(key)


def parse_signing_keys(text: str) -> list[SigningKey]:
    """The keys of a signing key file: one "ed25519 VERSION SEED" a line. ValueError says which line is bad."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 3:
            raise ValueError(f"line {number} of the signing key is not 'ed25519 VERSION SEED'")
        try:
            keys.append(decode_signing_key_base64(*fields))
        except ValueError as error:
            raise ValueError(f"line {number} of the signing key: {error}") from error
    return keys


def format_signing_keys(keys: list[SigningKey]) -> str:
    """The text of a signing key file."""
    return "".join(f"{key.alg} {key.version} {encode_signing_key_base64(key)}\n" for key in keys)


def parse_old_keys(text: str) -> list[OldKey]:
    """The keys of a file of old keys: one "ed25519 VERSION PUBLIC_KEY EXPIRED_TS" a line. ValueError as above."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            algorithm, version, public_key, expired_ts = line.split()
            verify_key = verify_key_from_base64(f"{algorithm}:{version}", public_key)
            keys.append(OldKey(verify_key, int(expired_ts)))
        except ValueError as error:
            raise ValueError(f"line {number} is not 'ed25519 VERSION PUBLIC_KEY EXPIRED_TS'") from error
    return keys


def format_old_keys(keys: list[OldKey]) -> str:
    """The text of a file of old keys."""
    return "".join(
        f"{key.verify_key.alg} {key.verify_key.version} {verify_key_to_base64(key.verify_key)} {key.expired_ts}\n"
        for key in keys
    )


def sign_bytes(
    message: bytes, signatures: Mapping[str, Mapping[str, str]], server_name: str, signing_key: SigningKey
) -> Signatures:
    """The signatures, and this server's one of the message among them."""
    merged = {server: dict(by_key) for server, by_key in signatures.items()}
    signature = encode_base64(signing_key.sign(message).signature)
    merged.setdefault(server_name, {})[key_id_of(signing_key)] = signature
    return merged


def verify_bytes(message: bytes, signature: str, verify_key: VerifyKey) -> None:
    """BadSignature unless the base64 signature of the message is right. Releases the GIL."""
    try:
        verify_key.verify(message, decode_base64(signature))
    except (CryptoError, ValueError) as error:
        raise BadSignature("a signature is wrong") from error
