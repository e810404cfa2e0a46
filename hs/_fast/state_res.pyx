# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""State resolution v1, v2 and v2.1 over auth records: see `state_res_ref`.

How: every state key that the conflict touches becomes a small number ("slot"), found once per event,
and so does every auth event that may have to stand in. The iterative checks then only index arrays.
Orders are sorted as C structs; texts are compared only where power, position and time are equal.

Size: the steps share one set of C arrays, which a second module could only see through
Python or by exporting all of them.
"""

import heapq
from hashlib import sha1

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdlib cimport calloc, free, qsort, realloc

from hs._fast.event_auth import check_auth_state, list_needed_keys

from hs._fast.event_auth cimport (
    BAN,
    CREATE,
    INVITE,
    JOIN,
    JOIN_RULES,
    KNOCK,
    LEAVE,
    MEMBER,
    OTHER,
    POWER_LEVELS,
    THIRD_PARTY_INVITE,
    AuthRecord,
    View,
    judge,
    level_of_user,
    token_of,
)

__all__ = ["Missing", "resolve"]

cdef extern from "Python.h":
    # Called with the GIL held, through qsort.
    int PyUnicode_Compare(PyObject* left, PyObject* right) nogil


class Missing(Exception):
    def __init__(self, nids):
        self.ids = sorted(nids)
        super().__init__(f"{len(self.ids)} auth records are not in memory")


def resolve(int version, conflicted, extra, lookup, records, verify_signed=None):
    conflicted = set(conflicted)
    if not conflicted:
        return []
    if version == 1:
        return _resolve_v1(conflicted, lookup, records, verify_signed)
    cdef _Resolution resolution = _Resolution(version, records, verify_signed)
    resolution.add_events(conflicted, set(extra) - conflicted)
    resolution.look_up(lookup)
    resolution.find_auth_events()
    return resolution.run()


# Slots of the three keys that almost every rule looks at.
cdef enum:
    CREATE_SLOT = 0
    POWER_SLOT = 1
    JOIN_RULES_SLOT = 2
    FIRST_FREE_SLOT = 3
    RECENT = 64
    # What is known of a slot's key.
    CONFLICTED = 1
    WANTED = 2
    UNCONFLICTED = 4

cdef long long NOWHERE = 0x7FFFFFFFFFFFFFFF

# An event of the full conflicted set. It owns what its pointers refer to.
cdef struct Node:
    PyObject* record
    PyObject* auth_create
    PyObject* auth_power
    PyObject* auth_join_rules
    PyObject* auth_sender
    PyObject* auth_target
    PyObject* auth_authoriser
    PyObject* auth_token
    int own
    int sender
    int target
    int authoriser
    int token
    bint uses_join_rules
    bint in_power_order

cdef struct Rank:
    long long first
    long long ts
    PyObject* event_id
    int node


cdef inline void _keep(PyObject** where, AuthRecord record):
    """Let an empty pointer own the record; the first one stays."""
    if where[0] == NULL:
        Py_INCREF(record)
        where[0] = <PyObject*>record


cdef int _compare_ranks(const void* left, const void* right) noexcept nogil:
    cdef const Rank* a = <const Rank*>left
    cdef const Rank* b = <const Rank*>right
    if a.first != b.first:
        return -1 if a.first < b.first else 1
    if a.ts != b.ts:
        return -1 if a.ts < b.ts else 1
    return PyUnicode_Compare(a.event_id, b.event_id)


cdef bint _is_power_event(AuthRecord record):
    if record.kind == MEMBER:
        return (record.membership_code == LEAVE or record.membership_code == BAN) and (
            record.sender != record.state_key
        )
    return (
        record.kind == POWER_LEVELS or record.kind == JOIN_RULES or record.kind == CREATE
    ) and record.state_key == ""


cdef class _Resolution:
    cdef int version
    cdef object records
    cdef dict records_dict  # the same, where it is a dict
    cdef object verify_signed
    cdef dict member_slots, token_slots, other_slots
    cdef list kept  # owns what is in the state without being a node
    cdef Node* nodes
    cdef Py_ssize_t count
    cdef long long* index_nids  # hash table of the full conflicted set: nid -> node
    cdef int* index_nodes
    cdef Py_ssize_t index_mask
    cdef long long recent_nids[RECENT]
    cdef PyObject* recent[RECENT]
    cdef int slots, slot_room
    cdef unsigned char* marks  # per slot
    cdef PyObject** state  # per slot, borrowed from nodes and `kept`
    cdef dict mainline  # nid -> position
    cdef AuthRecord mainline_next
    cdef dict positions  # nid of a power levels event -> mainline position of what builds on it

    def __cinit__(self, int version, records, verify_signed):
        self.version = version
        self.records = records
        self.records_dict = records if type(records) is dict else None
        self.verify_signed = verify_signed
        self.member_slots = {}
        self.token_slots = {}
        self.other_slots = {}
        self.kept = []
        self.mainline = {}
        self.positions = {}
        self.grow_slots()
        self.slots = FIRST_FREE_SLOT

    def __dealloc__(self):
        cdef Py_ssize_t i, j
        cdef PyObject** owned
        for i in range(self.count):
            # The record and the seven pointers after it.
            owned = &self.nodes[i].record
            for j in range(8):
                Py_XDECREF(owned[j])
        for i in range(RECENT):
            Py_XDECREF(self.recent[i])
        free(self.nodes)
        free(self.index_nids)
        free(self.index_nodes)
        free(self.marks)
        free(self.state)

    cdef int grow_slots(self) except -1:
        cdef int room = max(64, 2 * self.slot_room)
        cdef unsigned char* marks = <unsigned char*>realloc(self.marks, room)
        if marks == NULL:
            raise MemoryError()
        self.marks = marks
        cdef int slot
        for slot in range(self.slot_room, room):
            marks[slot] = 0
        self.slot_room = room
        return 0

    cdef int new_slot(self) except -1:
        if self.slots == self.slot_room:
            self.grow_slots()
        self.slots += 1
        return self.slots - 1

    cdef int slot_in(self, dict slots, object key) except -1:
        cdef PyObject* found = PyDict_GetItem(slots, key)
        if found != NULL:
            return <object>found
        cdef int slot = self.new_slot()
        slots[key] = slot
        return slot

    cdef int own_slot(self, AuthRecord record) except -1:
        if record.kind == MEMBER:
            return self.slot_in(self.member_slots, record.state_key)
        if record.kind == THIRD_PARTY_INVITE:
            return self.slot_in(self.token_slots, record.state_key)
        if record.kind != OTHER and record.state_key == "":
            # In the order of the kinds.
            if record.kind == CREATE:
                return CREATE_SLOT
            return POWER_SLOT if record.kind == POWER_LEVELS else JOIN_RULES_SLOT
        return self.slot_in(self.other_slots, (record.type, record.state_key))

    cdef AuthRecord find(self, object nid):
        """The record, None where the caller has not given it."""
        cdef PyObject* found
        if self.records_dict is None:
            return self.records.get(nid)
        found = PyDict_GetItem(self.records_dict, nid)
        return None if found == NULL else <AuthRecord?>found

    cdef inline AuthRecord find_recent(self, object nid):
        """As `find`, quicker for the few records that nearly all events name."""
        cdef long long number = nid
        cdef int place = <int>(number & (RECENT - 1))
        if self.recent_nids[place] == number and self.recent[place] != NULL:
            return <AuthRecord>self.recent[place]
        cdef AuthRecord record = self.find(nid)
        if record is not None:
            Py_INCREF(record)
            Py_XDECREF(self.recent[place])
            self.recent[place] = <PyObject*>record
            self.recent_nids[place] = number
        return record

    cdef int add_events(self, set conflicted, set extra) except -1:
        cdef AuthRecord record
        cdef Node* node
        cdef list missing = []
        cdef Py_ssize_t i = 0, conflicts = len(conflicted), total = conflicts + len(extra)
        self.nodes = <Node*>calloc(total, sizeof(Node))
        if self.nodes == NULL:
            raise MemoryError()
        for nids in (conflicted, extra):
            for nid in <set>nids:
                record = self.find(nid)
                if record is None:
                    missing.append(nid)
                else:
                    _keep(&self.nodes[self.count].record, record)
                    self.count += 1
        if missing:
            raise Missing(missing)
        for i in range(total):
            node = &self.nodes[i]
            node.own = self.own_slot(<AuthRecord>node.record)
            self.marks[node.own] |= CONFLICTED if i < conflicts else WANTED
        for i in range(total):
            self.add_needs(&self.nodes[i], <AuthRecord>self.nodes[i].record)
        return 0

    cdef int build_index(self) except -1:
        cdef Py_ssize_t room = 16, at, i
        cdef long long nid
        while room < 2 * self.count:
            room *= 2
        self.index_mask = room - 1
        self.index_nids = <long long*>calloc(room, sizeof(long long))
        self.index_nodes = <int*>calloc(room, sizeof(int))
        if self.index_nids == NULL or self.index_nodes == NULL:
            raise MemoryError()
        for i in range(self.count):
            nid = (<AuthRecord>self.nodes[i].record).nid
            at = self.index_place(nid)
            self.index_nids[at] = nid
            self.index_nodes[at] = <int>i + 1
        return 0

    cdef inline Py_ssize_t index_place(self, long long nid) noexcept:
        # Numbers are dense and often consecutive: spread them by Fibonacci hashing.
        cdef Py_ssize_t at = <Py_ssize_t>((<unsigned long long>nid * 0x9E3779B97F4A7C15ULL) >> 24) & self.index_mask
        while self.index_nodes[at] and self.index_nids[at] != nid:
            at = (at + 1) & self.index_mask
        return at

    cdef int add_needs(self, Node* node, AuthRecord record) except -1:
        """Find the slots that the rules will look at."""
        cdef str token
        node.sender = node.target = node.authoriser = node.token = -1
        if record.kind == CREATE:
            return 0
        self.marks[CREATE_SLOT] |= WANTED
        self.marks[POWER_SLOT] |= WANTED
        if record.kind == MEMBER:
            node.target = node.own
        if record.kind == MEMBER and record.sender == record.state_key:
            node.sender = node.own
        else:
            node.sender = self.slot_in(self.member_slots, record.sender)
            self.marks[node.sender] |= WANTED
        if record.kind != MEMBER:
            return 0
        if record.membership_code == JOIN or record.membership_code == INVITE or record.membership_code == KNOCK:
            node.uses_join_rules = True
            self.marks[JOIN_RULES_SLOT] |= WANTED
        token = token_of(record)
        if token is not None:
            node.token = self.slot_in(self.token_slots, token)
            self.marks[node.token] |= WANTED
        if record.membership_code == JOIN and record.authoriser:
            node.authoriser = self.slot_in(self.member_slots, record.authoriser)
            self.marks[node.authoriser] |= WANTED
        return 0

    cdef int look_up(self, lookup) except -1:
        """Put what the unconflicted state has for the slots that the rules look at into the state."""
        cdef list keys = [], slots = [], missing = []
        cdef int slot
        cdef AuthRecord record
        for slot, key in (
            (CREATE_SLOT, ("m.room.create", "")),
            (POWER_SLOT, ("m.room.power_levels", "")),
            (JOIN_RULES_SLOT, ("m.room.join_rules", "")),
        ):
            if self.marks[slot] == WANTED:
                slots.append(slot)
                keys.append(key)
        for type, named in (("m.room.member", self.member_slots), ("m.room.third_party_invite", self.token_slots)):
            for name, slot in (<dict>named).items():
                if self.marks[slot] == WANTED:
                    slots.append(slot)
                    keys.append((type, name))
        for key, slot in self.other_slots.items():
            if self.marks[slot] == WANTED:
                slots.append(slot)
                keys.append(key)
        self.state = <PyObject**>calloc(self.slots, sizeof(PyObject*))
        if self.state == NULL:
            raise MemoryError()
        if not keys:
            return 0
        for slot, nid in zip(slots, lookup(keys), strict=True):
            if not nid:
                continue
            self.marks[slot] |= UNCONFLICTED
            record = self.find(nid)
            if record is None:
                missing.append(nid)
            # Since v12 the first checks start from nothing but the create event that the room id names.
            elif self.version < 12 or slot == CREATE_SLOT:
                self.kept.append(record)
                self.state[slot] = <PyObject*>record
        if missing:
            # Ask for what find_auth_events would ask for next, too.
            self.find_auth_events(missing)
        return 0

    cdef int find_auth_events(self, list missing=None) except -1:
        """Find for each event which of its auth events can stand in for which slot."""
        cdef Py_ssize_t i
        cdef Node* node
        cdef AuthRecord record, auth
        if missing is None:
            missing = []
        for i in range(self.count):
            node = &self.nodes[i]
            record = <AuthRecord>node.record
            for nid in record.auth_nids:
                auth = self.find_recent(nid)
                if auth is None:
                    missing.append(nid)
                elif auth.kind == MEMBER:
                    if auth.state_key == record.sender:
                        _keep(&node.auth_sender, auth)
                    if record.kind == MEMBER:
                        if node.target != node.sender and auth.state_key == record.state_key:
                            _keep(&node.auth_target, auth)
                        if node.authoriser >= 0 and auth.state_key == record.authoriser:
                            _keep(&node.auth_authoriser, auth)
                elif auth.kind == THIRD_PARTY_INVITE:
                    if node.token >= 0 and auth.state_key == token_of(record):
                        _keep(&node.auth_token, auth)
                elif auth.kind == OTHER or auth.state_key != "":
                    continue
                elif auth.kind == POWER_LEVELS:
                    _keep(&node.auth_power, auth)
                elif auth.kind == CREATE:
                    _keep(&node.auth_create, auth)
                else:
                    _keep(&node.auth_join_rules, auth)
        if missing:
            raise Missing(set(missing))
        return 0

    cdef list run(self):
        cdef int slot
        cdef list resolved = []
        self.iterate(self.sort_by_power())
        self.mainline_next = <AuthRecord>self.state[POWER_SLOT] if self.state[POWER_SLOT] != NULL else None
        self.iterate(self.sort_by_mainline())
        for slot in range(self.slots):
            if self.state[slot] != NULL and not self.marks[slot] & UNCONFLICTED:
                resolved.append((<AuthRecord>self.state[slot]).nid)
        resolved.sort()
        return resolved

    # --- orders

    cdef list sort_by_power(self):
        """Nodes in reverse topological power ordering: power events and their auth chains in the conflict."""
        cdef list todo = [], chosen = [], ready = [], ordered = []
        cdef Py_ssize_t i, at, size
        cdef int done
        cdef AuthRecord record
        cdef Rank* ranks
        for i in range(self.count):
            if _is_power_event(<AuthRecord>self.nodes[i].record):
                self.nodes[i].in_power_order = True
                todo.append(i)
        if not todo:
            return []
        self.build_index()
        cdef list waits = [0] * self.count, cited_by = [None] * self.count
        while todo:
            i = todo.pop()
            chosen.append(i)
            record = <AuthRecord>self.nodes[i].record
            for nid in record.auth_nids:
                at = self.index_nodes[self.index_place(nid)] - 1
                if at < 0:
                    continue
                if not self.nodes[at].in_power_order:
                    self.nodes[at].in_power_order = True
                    todo.append(at)
                if cited_by[at] is None:
                    cited_by[at] = []
                (<list>cited_by[at]).append(i)
                waits[i] += 1
        size = len(chosen)
        ranks = <Rank*>calloc(size, sizeof(Rank))
        if ranks == NULL:
            raise MemoryError()
        try:
            self.rank_by_power(chosen, ranks)
            qsort(ranks, size, sizeof(Rank), _compare_ranks)
            place = [0] * self.count
            by_place = [0] * size
            for i in range(size):
                place[ranks[i].node] = i
                by_place[i] = ranks[i].node
        finally:
            free(ranks)
        # Places in ascending order are a heap already.
        ready = [i for i in range(size) if waits[by_place[i]] == 0]
        pop, push = heapq.heappop, heapq.heappush
        while ready:
            done = by_place[pop(ready)]
            ordered.append(done)
            if cited_by[done] is None:
                continue
            for at in <list>cited_by[done]:
                waits[at] -= 1
                if waits[at] == 0:
                    push(ready, place[at])
        return ordered

    cdef int rank_by_power(self, list chosen, Rank* ranks) except -1:
        cdef AuthRecord record, create
        cdef Node* node
        cdef Py_ssize_t i
        cdef list powers = []
        for i in range(len(chosen)):
            node = &self.nodes[<Py_ssize_t>chosen[i]]
            record = <AuthRecord>node.record
            # Since v12 the create event is not among the auth events: the room id stands for it.
            if self.version >= 12:
                create = <AuthRecord>self.state[CREATE_SLOT] if self.state[CREATE_SLOT] != NULL else None
            else:
                create = <AuthRecord>node.auth_create if node.auth_create != NULL else None
            powers.append(
                level_of_user(
                    self.version,
                    record.sender,
                    create,
                    <AuthRecord>node.auth_power if node.auth_power != NULL else None,
                )
            )
            ranks[i].ts = record.origin_server_ts
            ranks[i].event_id = <PyObject*>record.event_id
            ranks[i].node = chosen[i]
        # Levels can be larger than any C integer before v6: rank them.
        cdef dict order = {power: place for place, power in enumerate(sorted(set(powers), reverse=True))}
        for i in range(len(chosen)):
            ranks[i].first = order[powers[i]]
        return 0

    cdef list sort_by_mainline(self):
        """The other nodes in mainline ordering."""
        cdef Py_ssize_t i, size = 0
        cdef set missing = set()
        cdef Rank* ranks = <Rank*>calloc(max(self.count, 1), sizeof(Rank))
        cdef Node* node
        cdef AuthRecord record
        cdef PyObject* last = NULL
        cdef long long position = 0
        if ranks == NULL:
            raise MemoryError()
        try:
            for i in range(self.count):
                node = &self.nodes[i]
                if node.in_power_order:
                    continue
                record = <AuthRecord>node.record
                if size == 0 or node.auth_power != last:
                    last = node.auth_power
                    position = NOWHERE if last == NULL else self.position_of(<AuthRecord>last, missing)
                ranks[size].first = -position
                ranks[size].ts = record.origin_server_ts
                ranks[size].event_id = <PyObject*>record.event_id
                ranks[size].node = <int>i
                size += 1
            if missing:
                raise Missing(missing)
            qsort(ranks, size, sizeof(Rank), _compare_ranks)
            return [ranks[i].node for i in range(size)]
        finally:
            free(ranks)

    cdef AuthRecord parent_levels(self, AuthRecord record, set missing):
        """The power levels event among an event's auth events; what is not loaded goes into `missing`."""
        cdef AuthRecord auth
        cdef list absent = []
        for nid in record.auth_nids:
            auth = self.find(nid)
            if auth is None:
                absent.append(nid)
            elif auth.kind == POWER_LEVELS and auth.state_key == "":
                return auth
        missing.update(absent)
        return None

    cdef long long position_of(self, AuthRecord levels, set missing) except? -1:
        """Mainline position of what cites this power levels event.

        The event's chain and the mainline are walked in turns, one step each, so that neither is walked
        far beyond the point where they meet.
        """
        cdef list chain = []
        cdef set walked = set()
        cdef AuthRecord step = levels, grown
        cdef long long position = NOWHERE
        cdef PyObject* found
        while True:
            if step is not None:
                found = PyDict_GetItem(self.positions, step.nid)
                if found == NULL:
                    found = PyDict_GetItem(self.mainline, step.nid)
                if found != NULL:
                    position = <object>found
                    break
                if step.nid in walked:  # A cycle cannot be; never hang on one.
                    step = None
                    continue
                chain.append(step.nid)
                walked.add(step.nid)
                step = self.parent_levels(step, missing)
            grown = self.mainline_next
            if grown is None:
                if step is None:
                    break
                continue
            if grown.nid in self.mainline:
                self.mainline_next = None
                continue
            position = len(self.mainline)
            self.mainline[grown.nid] = position
            self.mainline_next = self.parent_levels(grown, missing)
            if grown.nid in walked:
                # What was walked beyond this point is older; its position is not known yet.
                del chain[<Py_ssize_t>chain.index(grown.nid) + 1 :]
                break
            position = NOWHERE
        if not missing:
            for nid in chain:
                self.positions[nid] = position
        return position

    # --- checks

    cdef int iterate(self, list ordered) except -1:
        """Apply each event that the state so far allows."""
        cdef View view = View.__new__(View)
        cdef Node* node
        cdef AuthRecord record
        cdef Py_ssize_t i
        for i in range(len(ordered)):
            node = &self.nodes[<Py_ssize_t>ordered[i]]
            record = <AuthRecord>node.record
            if record.kind != CREATE:
                view.create = self.seen(CREATE_SLOT, node.auth_create)
                view.power = self.seen(POWER_SLOT, node.auth_power)
                view.sender = self.seen(node.sender, node.auth_sender)
                if record.kind == MEMBER:
                    if node.target == node.sender:
                        view.target = view.sender
                    else:
                        view.target = self.seen(node.target, node.auth_target)
                    if node.uses_join_rules:
                        view.join_rules = self.seen(JOIN_RULES_SLOT, node.auth_join_rules)
                    view.authoriser = self.seen(node.authoriser, node.auth_authoriser)
                    view.token = self.seen(node.token, node.auth_token)
            if judge(self.version, record, view, self.verify_signed) is None:
                self.state[node.own] = node.record
        return 0

    cdef inline AuthRecord seen(self, int slot, PyObject* stand_in):
        """What is in the slot, or the event's own auth event unless that was rejected."""
        if slot < 0:
            return None
        if self.state[slot] != NULL:
            return <AuthRecord>self.state[slot]
        if stand_in == NULL or (<AuthRecord>stand_in).rejected:
            return None
        return <AuthRecord>stand_in


# --- v1: small and rare, so it stays on Python objects


def _resolve_v1(set conflicted, lookup, records, verify_signed):
    cdef dict candidates = {}, resolved, state = {}
    missing = {nid for nid in conflicted if nid not in records}
    if missing:
        raise Missing(missing)
    wanted = set()
    for nid in conflicted:
        record = records[nid]
        candidates.setdefault((record.type, record.state_key), []).append(nid)
        wanted.update(list_needed_keys(1, record))
    asked = sorted(wanted - candidates.keys())
    if asked:
        state = {key: nid for key, nid in zip(asked, lookup(asked), strict=True) if nid}
    missing = {nid for nid in state.values() if nid not in records}
    if missing:
        raise Missing(missing)
    # In v1 a key is in conflict only where states have different events, not where some have none.
    resolved = {key: nids[0] for key, nids in candidates.items() if len(nids) == 1}
    state.update(resolved)
    disputed = sorted(candidates.keys() - resolved.keys())

    def age(nid):
        event_id = records[nid].event_id.encode("utf-8", "surrogatepass")
        return records[nid].depth, -int.from_bytes(sha1(event_id).digest())

    def is_allowed(nid):
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
        state[key] = resolved[key] = next(filter(is_allowed, newest_first), min(newest_first, key=age))
    return sorted(resolved.values())
