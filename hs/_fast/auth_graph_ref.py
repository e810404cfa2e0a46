"""A room's auth events as integer arrays: auth chains, their difference, the conflicted subgraph.

An event is added after all its auth events, so its index is larger than theirs and every walk goes
through indexes in order, without recursion. Answers are event_nids, ascending. An operation that meets
events the graph does not have raises `Missing` with all of their nids.
"""

from collections.abc import Callable, Iterable, Sequence

__all__ = ["AuthGraph", "Missing"]


class Missing(Exception):
    """Events are not in the graph; `ids` (ascending) are all of them that the operation met."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids: list[int] = sorted(ids)
        super().__init__(f"{len(self.ids)} events are not in the auth graph")


class AuthGraph:
    """The auth_events edges of one room, complete downwards: it never holds an event without its auth.

    event_nids are 64-bit integers other than 0. Not thread-safe; the lane of the room owns it.
    """

    def __init__(self) -> None:
        self._auth: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        """Number of events."""
        return len(self._auth)

    def __contains__(self, nid: int) -> bool:
        return nid in self._auth

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays, spare room included; here an estimate."""
        return sum(100 + 8 * len(auth) for auth in self._auth.values())

    def list_unknown(self, nids: Iterable[int]) -> list[int]:
        """Those of the nids that are not in the graph, ascending, each once."""
        return sorted(set(nids) - self._auth.keys())

    def list_auth(self, nid: int) -> list[int]:
        """The auth events of an event in the order they were given. Raises Missing."""
        self._check([nid])
        return list(self._auth[nid])

    def add(self, nid: int, auth_nids: Sequence[int]) -> None:
        """Add an event whose auth events are all there; an event already there stays as it is.

        Raises Missing for auth events that are not there; ValueError for nid 0 or an event that is its
        own auth event.
        """
        self.add_many([(nid, auth_nids)])

    def add_many(self, events: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Add (nid, auth_nids) pairs in any order: auth events may come later in the same call.

        All or nothing. Raises Missing for auth events neither there nor in `events`, ValueError for
        nid 0 and for a cycle. Of several entries for a nid the first counts.
        """
        new: dict[int, tuple[int, ...]] = {}
        for nid, auth_nids in events:
            if nid == 0:
                raise ValueError("0 is not an event_nid")
            if nid not in self._auth:
                new.setdefault(nid, tuple(auth_nids))
        unknown = {auth for auths in new.values() for auth in auths} - self._auth.keys() - new.keys()
        if unknown:
            raise Missing(unknown)
        placed: dict[int, tuple[int, ...]] = {}
        while new.keys() - placed.keys():
            ready = {
                nid: auths
                for nid, auths in new.items()
                if nid not in placed and all(auth in self._auth or auth in placed for auth in auths)
            }
            if not ready:
                raise ValueError("auth events form a cycle")
            placed |= ready
        self._auth |= placed

    def auth_chain(self, nids: Iterable[int]) -> list[int]:
        """All ancestors of the events; an event itself only if it is an ancestor of another one."""
        nids = list(nids)
        self._check(nids)
        return sorted(self._reach(auth for nid in nids for auth in self._auth[nid]))

    def difference(
        self, sets: Sequence[Iterable[int]], find_common: Callable[[list[int]], Iterable[int]]
    ) -> list[int]:
        """The auth difference of states S_i: events in some full auth chain but not in all of them.

        `sets` holds for each state only the events that are not in all states (D_i = S_i - C, with
        C = the events in every S_i); `find_common(nids)` answers which of some events are in C, for
        example `C.intersection`. It is asked O(log n) times, each time about other events, never about
        those in `sets`.

        With R(X) = X and all ancestors of X, the answer is (union R(D_i) - intersection R(D_i)) - R(C).
        Only D_i are walked, and only down to where all walks have met; an event is in R(C) if it or a
        descendant is in C, therefore descendants of the few candidates are searched, newest first,
        until one is in C. The cost is at most linear in what descends from the candidates.

        Spec, rooms/v2 "Auth difference": the spec's chains of events leave the events themselves out;
        here, as in all known servers, they are in. As to the full conflicted set this only matters for
        an event x of C that is an ancestor of some D_i but of nothing in C and not of every D_i: the
        literal reading adds it. Its key ends up with x in both, as unconflicted state wins last, but
        servers must agree on the checks in between, so the common practice is followed.

        Raises Missing for unknown events in `sets`, ValueError for more than 1,000 sets, and whatever
        `find_common` raises.
        """
        if len(sets) > 1000:
            raise ValueError("too many states")
        sets = [list(nids) for nids in sets]
        self._check([nid for nids in sets for nid in nids])
        if not sets:
            return []
        chains = [self._reach(nids) for nids in sets]
        candidates = set().union(*chains) - set(chains[0]).intersection(*chains)
        above = {nid for nid in self._auth if candidates & self._reach([nid])} if candidates else set()
        asked = above.difference(*sets)
        return sorted(candidates - self._reach(asked.intersection(find_common(sorted(asked)))))

    def conflicted_subgraph(self, nids: Iterable[int]) -> list[int]:
        """The events themselves and all events on auth_events paths between any two of them.

        Since v12 (state resolution v2.1): "Conflicted state subgraph". The spec's subgraph leaves out an
        event on no path; such an event is in the full conflicted set anyway. Raises Missing.
        """
        nids = set(nids)
        self._check(nids)
        return sorted(nid for nid in self._reach(nids) if nids & self._reach([nid]))

    def _reach(self, nids: Iterable[int]) -> set[int]:
        """The events and all their ancestors."""
        found: set[int] = set()
        pending = list(nids)
        while pending:
            nid = pending.pop()
            if nid not in found:
                found.add(nid)
                pending += self._auth[nid]
        return found

    def _check(self, nids: Iterable[int]) -> None:
        unknown = self.list_unknown(nids)
        if unknown:
            raise Missing(unknown)
