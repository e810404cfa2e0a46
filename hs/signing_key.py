"""The key that signs this server's events: read from its file, or made at the first start."""

import os
from pathlib import Path

from signedjson.key import generate_signing_key
from signedjson.types import SigningKey

from hs.matrix.keys import format_signing_keys, parse_signing_keys
from hs.storage.database import StorageError


class SigningKeyError(StorageError):
    """The signing key cannot be used; the message says what an operator can do."""


def load_signing_key(path: Path) -> SigningKey:
    """The first key in the file, which is made where there is none, readable by its owner only."""
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        return _make_key(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyError(f"cannot read the signing key {path}: {error}") from error
    try:
        keys = parse_signing_keys(text)
    except ValueError as error:
        raise SigningKeyError(f"{path}: {error}") from error
    if not keys:
        raise SigningKeyError(f"{path} holds no key; remove it to have one made, or restore it from a backup")
    return keys[0]


def _make_key(path: Path) -> SigningKey:
    key = generate_signing_key("a_" + os.urandom(2).hex())
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(format_signing_keys([key]))
            file.flush()
            os.fsync(file.fileno())
        # Whole or not at all: a crash must not leave half a key, which could never be replaced.
        fresh.rename(path)
    except OSError as error:
        raise SigningKeyError(f"cannot write the signing key {path}: {error}") from error
    return key
