"""Published signing keys: what a server answers about its own, checked; how what we know changes by it.

Spec: server-server-api "Publishing Keys"; rooms/v5 "Signing key validity period". Pure: fetching is `hs.net`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from signedjson.key import get_verify_key
from signedjson.types import SigningKey

from hs._fast import canonical_json
from hs.matrix.keys import (
    MAX_KEY_VALIDITY_MS,
    BadSignature,
    OldKey,
    ServerKey,
    cap_validity,
    is_key_id,
    key_id_of,
    verify_key_from_base64,
    verify_key_to_base64,
)
from hs.matrix.signing import sign_json, verify_json

# A server signs with one key or two; each costs a signature check.
MAX_VERIFY_KEYS: Final = 20
# One a week for ten years.
MAX_OLD_KEYS: Final = 500
MAX_KEYS_OF_SERVER: Final = 1000


class BadKeyAnswer(ValueError):
    """What a server says about its keys is malformed, of somebody else, or not signed by them."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What we know of a key of a server.

    An old key signs no more: it is for events from before `valid_until_ts`. What the server itself has
    told us, `is_direct`, stands against what others say of it.
    """

    server_name: str
    key: ServerKey
    is_old: bool
    is_direct: bool
    fetched_ts: int

    def is_enough(self, minimum_ts: int, now_ms: int) -> bool:
        """Whether asking again could not give a key that is valid until `minimum_ts`."""
        if self.is_old and self.is_direct:
            return True
        # No key counts for what is said to happen beyond a week from now.
        reachable_ts = minimum_ts if minimum_ts <= now_ms + MAX_KEY_VALIDITY_MS else now_ms
        return self.key.covers(reachable_ts)


@dataclass(frozen=True, slots=True)
class KeyAnswer:
    """A server's keys as it has published and signed them.

    `body` is canonical JSON with the server's own signatures and nobody else's; `is_direct` says that it came
    from the server itself, not from a notary.
    """

    server_name: str
    keys: Mapping[str, KnownKey]
    valid_until_ts: int
    fetched_ts: int
    is_direct: bool
    body: bytes

    def should_refresh(self, now_ms: int) -> bool:
        """Whether it is older than half of its life: what notaries ask again for."""
        return now_ms > (self.fetched_ts + self.valid_until_ts) // 2


class _VerifyKey(msgspec.Struct):
    key: str


class _OldVerifyKey(msgspec.Struct):
    key: str
    expired_ts: int


class _ServerKeys(msgspec.Struct):
    server_name: str
    verify_keys: dict[str, _VerifyKey]
    valid_until_ts: int
    signatures: dict[str, dict[str, str]]
    old_verify_keys: dict[str, _OldVerifyKey] = {}


def read_key_answer(value: Any, server_name: str, now_ms: int, is_direct: bool) -> KeyAnswer:
    """The keys in the answer of `/_matrix/key/v2/server` of a server, decoded JSON; BadKeyAnswer.

    At least one of the keys that it signs with has signed the answer, and no signature by one of them is wrong.
    Keys of algorithms that we do not know are left out.
    """
    try:
        told = msgspec.convert(value, _ServerKeys)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadKeyAnswer(f"malformed keys: {error}") from error
    if told.server_name != server_name:
        raise BadKeyAnswer("the keys are another server's")
    if len(told.verify_keys) > MAX_VERIFY_KEYS or len(told.old_verify_keys) > MAX_OLD_KEYS:
        raise BadKeyAnswer("too many keys")
    valid_until_ts = max(0, cap_validity(told.valid_until_ts, now_ms))
    keys: dict[str, KnownKey] = {}
    for key_id, old in told.old_verify_keys.items():
        # It signs no more, so it does not count for anything from now on.
        expired_ts = max(0, min(old.expired_ts, now_ms - 1))
        _add(keys, server_name, key_id, old.key, expired_ts, True, is_direct, now_ms)
    for key_id, current in told.verify_keys.items():
        _add(keys, server_name, key_id, current.key, valid_until_ts, False, is_direct, now_ms)
    signatures = told.signatures.get(server_name, {})
    signed = [key_id for key_id, key in keys.items() if not key.is_old and key_id in signatures]
    if not signed:
        raise BadKeyAnswer("the keys are signed by none of them")
    for key_id in signed:
        try:
            verify_json(value, server_name, key_id, keys[key_id].key.verify_key)
        except BadSignature as error:
            raise BadKeyAnswer(f"the keys are not signed with {key_id}") from error
    body = canonical_json.encode({**value, "signatures": {server_name: value["signatures"][server_name]}})
    return KeyAnswer(server_name, keys, valid_until_ts, now_ms, is_direct, body)


def _add(
    keys: dict[str, KnownKey],
    server_name: str,
    key_id: str,
    text: str,
    valid_until_ts: int,
    is_old: bool,
    is_direct: bool,
    now_ms: int,
) -> None:
    if not is_key_id(key_id):
        return
    try:
        key = ServerKey(key_id, verify_key_from_base64(key_id, text), valid_until_ts)
    except ValueError as error:
        raise BadKeyAnswer(f"malformed key {key_id}") from error
    keys[key_id] = KnownKey(server_name, key, is_old, is_direct, now_ms)


def merge_keys(known: Mapping[str, KnownKey], answer: KeyAnswer) -> dict[str, KnownKey]:
    """What changes of the known keys of the server, by key id.

    A notary cannot replace a key, or bring one back, that the server itself has told us of. A key that the
    server does not name any more, neither as current nor as old, is good for nothing from now on.
    """
    changed: dict[str, KnownKey] = {}
    room = MAX_KEYS_OF_SERVER - len(known)
    for key_id, fresh in answer.keys.items():
        held = known.get(key_id)
        if held is None:
            if room <= 0:
                continue
            room -= 1
            changed[key_id] = fresh
        elif held.key.verify_key != fresh.key.verify_key:
            if answer.is_direct or not held.is_direct:
                changed[key_id] = fresh
        elif answer.is_direct or not (held.is_direct and held.is_old):
            changed[key_id] = _merge_key(held, fresh)
    if answer.is_direct:
        for key_id in known.keys() - answer.keys.keys():
            held = known[key_id]
            if held.key.valid_until_ts > answer.fetched_ts:
                changed[key_id] = replace(held, key=replace(held.key, valid_until_ts=answer.fetched_ts))
    return changed


def _merge_key(held: KnownKey, fresh: KnownKey) -> KnownKey:
    valid_until_ts = fresh.key.valid_until_ts
    if not held.is_old and not fresh.is_old:
        # What was promised once has been relied on.
        valid_until_ts = max(valid_until_ts, held.key.valid_until_ts)
    key = replace(fresh.key, valid_until_ts=valid_until_ts)
    return replace(fresh, key=key, is_direct=held.is_direct or fresh.is_direct)


def render_own_keys(
    server_name: str, signing: Iterable[SigningKey], old: Iterable[OldKey], valid_until_ts: int
) -> dict[str, Any]:
    """What this server publishes, signed with all keys that it signs with."""
    signing = list(signing)
    published: dict[str, Any] = {
        "server_name": server_name,
        "valid_until_ts": valid_until_ts,
        "verify_keys": {
            key_id_of(key): {"key": verify_key_to_base64(get_verify_key(key))} for key in signing
        },
        "old_verify_keys": {
            key.key_id: {"key": verify_key_to_base64(key.verify_key), "expired_ts": key.expired_ts}
            for key in old
        },
    }
    for key in signing:
        published = sign_json(published, server_name, key)
    return published
