"""What we answer about the keys of other servers: their own answer, with our signature added.

Spec: server-server-api "Querying Keys Through Another Server".
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from cachetools import LRUCache

from hs._fast import canonical_json
from hs.matrix.ids import is_server_name
from hs.matrix.server_keys import KeyAnswer
from hs.net.fetch_budget import FetchBudget
from hs.net.own_keys import OwnKeys
from hs.net.server_keys import KeyStore, ServerKeys

# Servers that one query may have us ask; the others are answered from what we have.
MAX_FETCHES: Final = 50
# Servers that are answered for, and bytes: an answer has 1,000 as a rule, and may have sixty times that.
MAX_SERVERS: Final = 500
MAX_BYTES: Final = 8 * 1024 * 1024
# Answers with our signature, kept so that a query costs no more than reading them.
_SIGNED_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyWish:
    """Which keys of a server are wanted, and until when they must be good: now, where it is None."""

    key_ids: frozenset[str]
    minimum_ts: int | None


class Notary:
    """Vouches for what other servers have told us of their keys."""

    def __init__(
        self, keys: ServerKeys, store: KeyStore, own: OwnKeys, budget: FetchBudget, now_ms: Callable[[], int]
    ) -> None:
        self._keys = keys
        self._store = store
        self._own = own
        self._budget = budget
        self._now_ms = now_ms
        self._signed: LRUCache[tuple[str, int], bytes] = LRUCache(_SIGNED_BYTES, len)

    async def list_answers(self, wanted: Mapping[str, KeyWish], address: str) -> list[bytes]:
        """The signed answers of those of the servers that have given one, as JSON.

        Servers are asked where their answer is missing, older than half of its life or not good for as long as wanted;
        the last answer stays for those that give no other. `address` is whose budget that costs.
        """
        names = [name for name in wanted if is_server_name(name) and name != self._own.server_name]
        names = names[:MAX_SERVERS]
        found = await self._store.list_answers(names)
        stale = [name for name in names if self._is_stale(found.get(name), wanted[name])]
        if stale:
            await self._refresh(stale, address)
            # All of them: somebody else may have asked just now.
            found |= await self._store.list_answers(stale)
        answers = [self._own.answer()] if self._own.server_name in wanted else []
        size = 0
        for name in names:
            if name in found:
                signed = self._sign(found[name])
                size += len(signed)
                if size > MAX_BYTES:
                    break
                answers.append(signed)
        return answers

    async def _refresh(self, names: Collection[str], address: str) -> None:
        askable = [name for name in names if self._keys.may_refresh(name)][:MAX_FETCHES]
        asked = askable[: self._budget.take(address, len(askable))]
        await self._keys.refresh(asked)

    def _is_stale(self, answer: KeyAnswer | None, wish: KeyWish) -> bool:
        if answer is None or answer.should_refresh(self._now_ms()):
            return True
        if answer.valid_until_ts < (self._now_ms() if wish.minimum_ts is None else wish.minimum_ts):
            return True
        told = msgspec.json.decode(answer.body, type=_KeyIds)
        return not wish.key_ids <= told.verify_keys.keys() | told.old_verify_keys.keys()

    def _sign(self, answer: KeyAnswer) -> bytes:
        version = (answer.server_name, answer.fetched_ts)
        signed = self._signed.get(version)
        if signed is None:
            signed = canonical_json.encode(self._own.sign(msgspec.json.decode(answer.body)))
            self._signed[version] = signed
        return signed


class _KeyIds(msgspec.Struct):
    verify_keys: dict[str, msgspec.Raw] = {}
    old_verify_keys: dict[str, msgspec.Raw] = {}
