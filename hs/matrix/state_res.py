"""State resolution: one state out of the states after several events.

    conflict     keys on which the states differ, with every candidate      state_tree.conflicted
    extra        auth difference; v2.1: the conflicted subgraph, too        auth_graph
    resolved     the three algorithms over auth records                     hs._fast.state_res

Pure, and only as much of the room is looked at as is in dispute. What is not in memory is asked for:
`run` raises one of the exceptions below, the caller loads what it names and calls `run` again; finished
steps are kept. For example:

    resolution = StateResolution(version, roots, graph)
    while True:
        try:
            resolved = resolution.run()
        except state_tree.Missing as missing:    # ids: nodes of the state trees
        except auth_graph.Missing as missing:    # ids: events that are not in `graph`
        except state_res.Missing as missing:     # ids: records, for `add_records`
        except MissingKeys as missing:           # keys: numbers of state keys, for `add_keys`

The resolution of room versions: 1 (v1), 2 to 11 (v2), 12 (v2.1). Spec: rooms/v1, v2, v12 "State resolution".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hs._fast import state_res, state_tree
from hs._fast.auth_graph import AuthGraph
from hs._fast.state_tree import Node
from hs.matrix.auth_rules import AuthRecord, StateKey, verify_third_party_signed
from hs.matrix.room_versions import RoomVersion
from hs.matrix.room_versions import StateResolution as Algorithm

__all__ = ["MissingKeys", "Resolved", "StateResolution", "resolve_states"]


_USUAL_KEYS = (("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.join_rules", ""))


class MissingKeys(Exception):
    """The numbers of these state keys are not known here: `keys`, each once."""

    def __init__(self, keys: Iterable[StateKey]) -> None:
        self.keys: list[StateKey] = sorted(set(keys))
        super().__init__(f"{len(self.keys)} numbers of state keys are not in memory")


@dataclass(frozen=True, slots=True)
class Resolved:
    """How the resolved state differs from the first of the states.

    `changes` are (key_ix, event_nid or 0) for `state_tree.set_many`; some may say what is there already.
    `new_keys` are for keys that have no number yet, because no event of theirs was ever part of a state.
    """

    changes: list[tuple[int, int]]
    new_keys: dict[StateKey, int]


class StateResolution:
    """One resolution of two or more states of a room.

    `records` and `key_ixs` (None for a key that has no number) are what is in memory already; they are
    taken over, not copied, and grow by what is asked for.
    """

    def __init__(
        self,
        version: RoomVersion,
        roots: Sequence[Node],
        graph: AuthGraph,
        records: dict[int, AuthRecord] | None = None,
        key_ixs: dict[StateKey, int | None] | None = None,
    ) -> None:
        self._version = version
        self._roots = list({id(root): root for root in roots}.values())
        self._graph = graph
        self._records = {} if records is None else records
        self._key_ixs = {} if key_ixs is None else key_ixs
        self._rows: list[tuple[int, tuple[int, ...]]] | None = None
        self._conflicted: dict[int, int] = {}
        self._conflicted_ixs: frozenset[int] = frozenset()
        self._extra: list[int] | None = None
        self._rounds = 0

    def add_records(self, records: Mapping[int, AuthRecord]) -> None:
        """Take in auth records by number."""
        self._records.update(records)

    def add_keys(self, keys: Iterable[StateKey], key_ixs: Mapping[StateKey, int]) -> None:
        """Take in the numbers of `keys`; a key that is not in `key_ixs` has none."""
        self._key_ixs.update({key: key_ixs.get(key) for key in keys})

    def run(self) -> Resolved:
        """The resolved state; raises what is missing (see the module)."""
        if self._rows is None:
            self._rows = state_tree.conflicted(self._roots)
            self._conflicted = {nid: ix for ix, nids in self._rows for nid in nids if nid}
            self._conflicted_ixs = frozenset(ix for ix, _ in self._rows)
        if not self._rows:
            return Resolved([], {})
        # Hardly a dispute without them: asking here spares a second run of the larger steps.
        self._check_keys(_USUAL_KEYS)
        if self._extra is None:
            self._extra = self._list_extra(self._rows)
        try:
            answer = state_res.resolve(
                self._version.number,
                self._conflicted,
                self._extra,
                self._find_unconflicted,
                self._records,
                verify_third_party_signed,
            )
        except state_res.Missing as missing:
            raise state_res.Missing(self._foresee(missing.ids)) from None
        return self._place(self._rows, answer)

    def _foresee(self, nids: list[int]) -> set[int]:
        """These records and what will be asked for next, so that a resolution takes few rounds.

        Auth events of events come in one go; after three rounds it must be the mainline that goes far back,
        and then all that is left of it is asked for.
        """
        self._rounds += 1
        known = [nid for nid in nids if nid in self._graph]
        if self._rounds > 3:
            ahead = set(self._graph.auth_chain(known))
        else:
            ahead = {auth for nid in known for auth in self._graph.list_auth(nid)}
        return (ahead - self._records.keys()).union(nids)

    def _list_extra(self, rows: list[tuple[int, tuple[int, ...]]]) -> list[int]:
        """The full conflicted set without the conflicted state set."""
        if self._version.state_resolution is Algorithm.V1:
            return []
        own = [[nids[i] for _, nids in rows if nids[i]] for i in range(len(self._roots))]
        extra = set(self._graph.difference(own, self._find_common))
        if self._version.state_resolution is Algorithm.V2_1:
            extra.update(self._graph.conflicted_subgraph(self._conflicted))
        return list(extra.difference(self._conflicted))

    def _find_common(self, nids: list[int]) -> list[int]:
        """Those of the events that are in all of the states."""
        missing = [nid for nid in nids if nid not in self._records]
        if missing:
            raise state_res.Missing(missing)
        keys = [_key(self._records[nid]) for nid in nids]
        return [nid for nid, found in zip(nids, self._find_unconflicted(keys), strict=True) if nid == found]

    def _find_unconflicted(self, keys: list[StateKey]) -> list[int]:
        """The event that all states have at each key, 0 where they have none or differ."""
        self._check_keys(keys)
        ixs = [self._key_ixs[key] for key in keys]
        wanted = [ix for ix in ixs if ix is not None and ix not in self._conflicted_ixs]
        found = dict(zip(wanted, state_tree.get_many(self._roots[0], wanted), strict=True))
        return [found.get(ix, 0) if ix is not None else 0 for ix in ixs]

    def _check_keys(self, keys: Iterable[StateKey]) -> None:
        missing = [key for key in keys if key not in self._key_ixs]
        if missing:
            raise MissingKeys(missing)

    def _place(self, rows: list[tuple[int, tuple[int, ...]]], answer: list[int]) -> Resolved:
        changes = {ix: 0 for ix, _ in rows}
        others = []
        for nid in answer:
            ix = self._conflicted.get(nid)
            if ix is None:
                others.append(nid)  # brought by the auth difference, so no candidate tells its number
            else:
                changes[ix] = nid
        new_keys = {}
        ixs = {_key(self._records[nid]): ix for nid, ix in self._conflicted.items()} if others else {}
        for nid in others:
            key = _key(self._records[nid])
            ix = ixs[key] if key in ixs else self._key_ixs[key]
            if ix is None:
                new_keys[key] = nid
            else:
                changes[ix] = nid
        return Resolved(list(changes.items()), new_keys)


def _key(record: AuthRecord) -> StateKey:
    # An event without a state_key is nobody's auth event; a key no state has stands for it.
    return record.type, record.state_key if record.state_key is not None else "\0"


def resolve_states(
    version: RoomVersion,
    roots: Sequence[Node],
    graph: AuthGraph,
    records: dict[int, AuthRecord],
    key_ixs: dict[StateKey, int | None],
) -> Resolved:
    """The resolution of states of which everything is in memory; a key that is not in `key_ixs` has no number."""
    resolution = StateResolution(version, roots, graph, records, dict(key_ixs))
    while True:
        try:
            return resolution.run()
        except MissingKeys as missing:
            resolution.add_keys(missing.keys, {})
