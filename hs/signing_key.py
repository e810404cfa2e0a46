"""The keys that this server signs with: read from their file, made at the first start, replaced by `hs keys rotate`.

The first line of the file is the key that signs. What stands below it was the key until `hs keys rotate`: the
next start moves it, as a public key with the time of that start, to the file beside it (`signing.key.old`),
from where it stays published. Not before: until the restart the running server still signs with it. Each
step writes a whole new file, the old keys first, so a crash between any two leaves a key file that works
and no key that is known nowhere.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from signedjson.key import generate_signing_key, get_verify_key
from signedjson.types import SigningKey

from hs.matrix.keys import (
    OldKey,
    format_old_keys,
    format_signing_keys,
    key_id_of,
    parse_old_keys,
    parse_signing_keys,
)
from hs.storage.database import StorageError

T = TypeVar("T")


class SigningKeyError(StorageError):
    """The signing key cannot be used; the message says what an operator can do."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The key that signs, those to retire at the next start, and those retired already, newest first."""

    current: SigningKey
    retiring: tuple[SigningKey, ...]
    old: tuple[OldKey, ...]


def load_signing_key(path: Path) -> SigningKey:
    """The first key in the file, which is made where there is none, readable by its owner only."""
    if not path.exists():
        _write(path, format_signing_keys([_make_key(set())]))
    return read_signing_keys(path).current


def load_signing_keys(path: Path, now_ms: int) -> SigningKeys:
    """The keys of a server that starts at `now_ms`: made where there are none, and retired where there are two."""
    load_signing_key(path)
    keys = read_signing_keys(path)
    if not keys.retiring:
        return keys
    # A key that is there already was retired by a start that crashed below: nothing was signed since.
    known = {old.key_id for old in keys.old}
    fresh = [OldKey(get_verify_key(key), now_ms) for key in keys.retiring if key_id_of(key) not in known]
    old = (*fresh, *keys.old)
    _write(path_of_old_keys(path), format_old_keys(list(old)))
    _write(path, format_signing_keys([keys.current]))
    return SigningKeys(keys.current, (), old)


def read_signing_keys(path: Path) -> SigningKeys:
    """What the files say, as they are. SigningKeyError where there is no key file, or one that is broken."""
    signing = _parse(path, parse_signing_keys)
    if not signing:
        raise SigningKeyError(f"{path} holds no key; remove it to have one made, or restore it from a backup")
    old_path = path_of_old_keys(path)
    old = _parse(old_path, parse_old_keys) if old_path.exists() else []
    current = key_id_of(signing[0])
    return SigningKeys(signing[0], tuple(signing[1:]), tuple(key for key in old if key.key_id != current))


def rotate_signing_key(path: Path) -> SigningKey:
    """A new key, with which the server signs from its next start on."""
    keys = read_signing_keys(path)
    kept = [keys.current, *keys.retiring]
    key = _make_key({key_id_of(one) for one in kept} | {one.key_id for one in keys.old})
    _write(path, format_signing_keys([key, *kept]))
    return key


def path_of_old_keys(path: Path) -> Path:
    """Where the public keys are that this server signed with before."""
    return path.with_name(path.name + ".old")


def _make_key(taken: set[str]) -> SigningKey:
    """A new key with an id that is not taken: ids are never used again."""
    while True:
        key = generate_signing_key("a_" + os.urandom(2).hex())
        if key_id_of(key) not in taken:
            return key


def _parse(path: Path, parse: Callable[[str], list[T]]) -> list[T]:
    try:
        return parse(path.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeyError(f"cannot read the signing key {path}: {error}") from error
    except ValueError as error:
        raise SigningKeyError(f"{path}: {error}") from error


def _write(path: Path, text: str) -> None:
    """The file, whole or not at all: a crash must not leave half a key, which could never be replaced."""
    fresh = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SigningKeyError(f"cannot write the signing key {path}: {error}") from error
