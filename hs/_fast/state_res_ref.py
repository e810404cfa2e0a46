"""State resolution v1, v2 and v2.1 over auth records: the readable twin.

    conflicted = candidates of every key on which the states differ   (state_tree.conflicted)
    extra      = auth difference, since v12 with the conflicted subgraph      (auth_graph)
    resolve(version, conflicted, extra, lookup, records) -> events to set over the unconflicted state

The cost follows the conflict, never the size of the room: of the unconflicted state only those keys
are looked up that the auth rules need, all at once. Spec: rooms/v1 "State resolution" (v1), rooms/v2 (v2,
room versions 2 to 11), rooms/v12 (v2.1).
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha1
from typing import TypeAlias

from hs._fast.event_auth_ref import (
    AuthRecord,
    Key,
    VerifySigned,
    check_auth_state,
    list_needed_keys,
    power_of,
)

__all__ = ["Missing", "resolve"]

Lookup: TypeAlias = Callable[[list[Key]], Sequence[int]]
"""The event of the unconflicted state for each of these keys, 0 where there is none.

It is asked only for keys that are not conflicted; those keys have the same value in every state.
"""

_CREATE = ("m.room.create", "")
_POWER = ("m.room.power_levels", "")
_JOIN_RULES = ("m.room.join_rules", "")


class Missing(Exception):
    """Records that the resolution needs and was not given: `ids` (ascending); load them and call again."""

    def __init__(self, nids: Iterable[int]) -> None:
        self.ids: list[int] = sorted(nids)
        super().__init__(f"{len(self.ids)} auth records are not in memory")


def resolve(
    version: int,
    conflicted: Iterable[int],
    extra: Iterable[int],
    lookup: Lookup,
    records: Mapping[int, AuthRecord],
    verify_signed: VerifySigned | None = None,
) -> list[int]:
    """The event_nids that the resolved state has besides the unconflicted state, ascending.

    conflicted: the conflicted state set, every candidate of every conflicted key. A conflicted key that
        none of the answer is of has no event in the resolved state.
    extra: the rest of the full conflicted set (auth difference; since v12 also the conflicted subgraph).
        Not used by v1. Events of keys that only they bring are in the answer too, unless the
        unconflicted state has the key (step 5).
    records: of all of these, of their auth events, of what `lookup` names, and of older power levels
        as far back as the mainline ordering has to look; Missing says which are not there. Only the
        last step, down the chain of power levels, may take several rounds.

    Both are taken as sets; the answer does not depend on their order. `lookup` is called at most twice.
    """
    conflicted, extra = set(conflicted), set(extra)
    if not conflicted:
        return []
    if version == 1:
        return _resolve_v1(conflicted, lookup, records, verify_signed)
    full = conflicted | extra
    _need(records, full)
    events = _Events(version, records, verify_signed)
    own_keys = {events.key(nid) for nid in conflicted}
    wanted = {events.key(nid) for nid in full}
    for nid in full:
        wanted.update(list_needed_keys(version, records[nid]))
    unconflicted = _look_up(lookup, wanted - own_keys)
    _need(records, {auth for nid in full for auth in records[nid].auth_nids} | set(unconflicted.values()))

    # Since v12 the first checks start from nothing; the create event is the one the room id names.
    state = dict(unconflicted) if version < 12 else {k: v for k, v in unconflicted.items() if k == _CREATE}
    power_events = events.add_auth_chains({nid for nid in full if _is_power_event(records[nid])}, full)
    state = events.iterate(events.sort_by_power(power_events, unconflicted.get(_CREATE)), state)
    rest = events.sort_by_mainline(full - power_events, state.get(_POWER))
    state = events.iterate(rest, state)
    return sorted(nid for key, nid in state.items() if key not in unconflicted)


def _need(records: Mapping[int, AuthRecord], nids: Iterable[int]) -> None:
    missing = {nid for nid in nids if nid not in records}
    if missing:
        raise Missing(missing)


def _look_up(lookup: Lookup, keys: set[Key]) -> dict[Key, int]:
    asked = sorted(keys)
    return {key: nid for key, nid in zip(asked, lookup(asked) if asked else ()) if nid}


def _is_power_event(record: AuthRecord) -> bool:
    """Whether it might take away somebody's ability to do something. Spec: rooms/v2 "Power events".

    As in all known servers only with an empty state key, and the create event is one.
    """
    if (record.type, record.state_key) in (_POWER, _JOIN_RULES, _CREATE):
        return True
    return (
        record.type == "m.room.member"
        and record.membership in ("leave", "ban")
        and record.sender != record.state_key
    )


class _Events:
    def __init__(
        self, version: int, records: Mapping[int, AuthRecord], verify_signed: VerifySigned | None
    ) -> None:
        self.version, self.records, self.verify_signed = version, records, verify_signed

    def key(self, nid: int) -> Key:
        record = self.records[nid]
        assert record.state_key is not None
        return record.type, record.state_key

    def find_auth(self, nid: int, key: Key) -> int | None:
        """The event of this key among the auth events of another."""
        for auth in self.records[nid].auth_nids:
            record = self.records[auth]
            if (record.type, record.state_key) == key:
                return auth
        return None

    def add_auth_chains(self, starts: set[int], full: set[int]) -> set[int]:
        """The events with those of their auth chains that can be reached within the full conflicted set.

        By the letter, an ancestor beyond a gap (an event outside of the set) belongs to them, too. No known
        server walks across such gaps, and servers must agree.
        """
        found, todo = set(starts), list(starts)
        while todo:
            for auth in self.records[todo.pop()].auth_nids:
                if auth in full and auth not in found:
                    found.add(auth)
                    todo.append(auth)
        return found

    def sender_power(self, nid: int, create: int | None) -> int:
        """The sender's power level by the event's own auth events."""
        # Since v12 the create event is not among them: the room id stands for it.
        creates = self.find_auth(nid, _CREATE) if self.version < 12 else create
        levels = self.find_auth(nid, _POWER)
        return power_of(
            self.version,
            self.records[nid].sender,
            None if creates is None else self.records[creates],
            None if levels is None else self.records[levels],
        )

    def sort_by_power(self, nids: set[int], create: int | None) -> list[int]:
        """Reverse topological power ordering: auth events first, then power, then time, then id."""

        def rank(nid: int) -> tuple[int, int, str, int]:
            record = self.records[nid]
            return -self.sender_power(nid, create), record.origin_server_ts, record.event_id, nid

        waits_for = {nid: {auth for auth in self.records[nid].auth_nids if auth in nids} for nid in nids}
        cited_by: dict[int, list[int]] = {nid: [] for nid in nids}
        for nid, auths in waits_for.items():
            for auth in auths:
                cited_by[auth].append(nid)
        ready = [rank(nid) for nid, auths in waits_for.items() if not auths]
        heapq.heapify(ready)
        ordered = []
        while ready:
            done = heapq.heappop(ready)[-1]
            ordered.append(done)
            for nid in cited_by[done]:
                waits_for[nid].discard(done)
                if not waits_for[nid]:
                    heapq.heappush(ready, rank(nid))
        return ordered

    def parent_levels(self, nid: int) -> int | None:
        """The power levels event among an event's auth events."""
        _need(self.records, [nid])
        _need(self.records, self.records[nid].auth_nids)
        return self.find_auth(nid, _POWER)

    def sort_by_mainline(self, nids: set[int], levels: int | None) -> list[int]:
        """Mainline ordering: by the mainline's event they build on, oldest first, then time, then id."""
        mainline: dict[int, int] = {}
        while levels is not None and levels not in mainline:
            mainline[levels] = len(mainline)
            levels = self.parent_levels(levels)

        def position(nid: int) -> float:
            step = self.parent_levels(nid)
            while step is not None and step not in mainline:
                step = self.parent_levels(step)
            return float("inf") if step is None else mainline[step]

        def rank(nid: int) -> tuple[float, int, str]:
            return -position(nid), self.records[nid].origin_server_ts, self.records[nid].event_id

        return sorted(nids, key=rank)

    def iterate(self, ordered: Iterable[int], start: Mapping[Key, int]) -> dict[Key, int]:
        """Iterative auth checks: apply each event that the state so far allows."""
        state = dict(start)
        for nid in ordered:
            record = self.records[nid]
            seen = {}
            for key in list_needed_keys(self.version, record):
                current = state.get(key)
                if current is None:
                    # Not in the state so far: the event's own auth event stands in, unless it was rejected.
                    current = self.find_auth(nid, key)
                    if current is None or self.records[current].rejected:
                        continue
                seen[key] = self.records[current]
            if check_auth_state(self.version, record, seen, self.verify_signed) is None:
                state[self.key(nid)] = nid
        return state


# --- v1


def _resolve_v1(
    conflicted: set[int],
    lookup: Lookup,
    records: Mapping[int, AuthRecord],
    verify_signed: VerifySigned | None,
) -> list[int]:
    """Spec: rooms/v1 "State resolution": power levels, join rules, members, then everything else."""
    _need(records, conflicted)
    candidates: dict[Key, list[int]] = {}
    wanted: set[Key] = set()
    for nid in conflicted:
        record = records[nid]
        assert record.state_key is not None
        candidates.setdefault((record.type, record.state_key), []).append(nid)
        wanted.update(list_needed_keys(1, record))
    state = _look_up(lookup, wanted - candidates.keys())
    _need(records, state.values())
    # In v1 a key is in conflict only where states have different events, not where some have none.
    resolved = {key: nids[0] for key, nids in candidates.items() if len(nids) == 1}
    state.update(resolved)
    disputed = sorted(candidates.keys() - resolved.keys())

    def age(nid: int) -> tuple[int, int]:
        digest = sha1(records[nid].event_id.encode("utf-8", "surrogatepass")).digest()
        return records[nid].depth, -int.from_bytes(digest)

    def is_allowed(nid: int) -> bool:
        seen = {key: records[state[key]] for key in list_needed_keys(1, records[nid]) if key in state}
        return check_auth_state(1, records[nid], seen, verify_signed) is None

    passes = ("m.room.power_levels", "m.room.join_rules", "m.room.member")
    for type in passes:
        for key in [key for key in disputed if key[0] == type]:
            oldest, *others = sorted(candidates[key], key=age)
            state[key] = resolved[key] = oldest
            for nid in others:
                if not is_allowed(nid):
                    break
                state[key] = resolved[key] = nid
    for key in [key for key in disputed if key[0] not in passes]:
        newest_first = sorted(candidates[key], key=age, reverse=True)
        # The spec does not say what happens where none is allowed: the oldest stays, as it always has.
        state[key] = resolved[key] = next(filter(is_allowed, newest_first), newest_first[-1])
    return sorted(resolved.values())
