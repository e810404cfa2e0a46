"""Who is online. Spec: client-server-api module "Presence".

What users are is worked out in memory (`presence_states`), who is told of it by who shares small rooms
(`presence_news`). Changes are collected for a moment and told by one worker; they are written down in
batches, so that a restart remembers them. A user who stays online costs one look every half minute.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from hs.matrix.errors import Forbidden, InvalidParam
from hs.rooms.clock import Clock
from hs.rooms.drafts import Committed
from hs.rooms.worker import Worker
from hs.storage.presence import PresenceRow, PresenceStore
from hs.sync.news import Notifier
from hs.sync.presence_news import OnNewServer, OnTold, PresenceNews, render, render_status
from hs.sync.presence_states import OFFLINE_AFTER_MS, TICK_MS, PresenceStates, UserState
from hs.sync.small_rooms import SmallRooms

MAX_STATUS_MSG_LENGTH = 1_000
# Who comes and goes is told together: nobody's long poll returns for it more often. PUTs do not wait.
_TELL_AFTER_S = 1.0
_SAVE_AFTER_S = 10.0
# Users and joins that are told of at once.
_BATCH = 100
# Joins that wait for that; more come together only while the database does not answer.
_MAX_JOINS = 10_000
# At the start: what has changed in the last hour may be news for a client, and so many users are looked at.
_RECENT_MS = 3_600_000
_MAX_RESTORED = 50_000


@dataclass(frozen=True, slots=True)
class RemotePresence:
    """What another server says of a user of its own; times in milliseconds."""

    user_id: str
    state: str
    last_active_ago: int | None
    status_msg: str | None


class Presence:
    """Knows what users are, and tells those who may see it."""

    def __init__(
        self,
        store: PresenceStore,
        notifier: Notifier,
        clock: Clock,
        *,
        enabled: bool = True,
        max_room_members: int = 200,
    ) -> None:
        self._store = store
        self._clock = clock
        self._is_enabled = enabled
        self._states = PresenceStates(clock, lambda user: self._note(user.user_id))
        self._small = SmallRooms(store, max_room_members)
        self._news = PresenceNews(store, notifier, self._small, self._states, clock)
        # Users to tell of, and whether they are told of themselves; joins as (user, room, stream ordering).
        self._changed: dict[str, bool] = {}
        self._joins: list[tuple[str, int, int]] = []
        self._unsaved: dict[str, UserState] = {}
        self._teller = Worker("presence", self._tell_all, delay_s=_TELL_AFTER_S)
        self._saver = Worker("save presence", self.save, delay_s=_SAVE_AFTER_S)
        self._tick_timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def current(self) -> int:
        """The serial of the newest change."""
        return self._news.current if self._is_enabled else 0

    async def load(self) -> None:
        """Take up what an earlier process has written down; its users have a moment to come back."""
        if not self._is_enabled:
            return
        newest = await self._store.get_newest_stream_id()
        self._news.start(newest)
        rows = await self._store.list_recent(self._clock.now_ms() - _RECENT_MS, _MAX_RESTORED)
        for i, row in enumerate(rows):
            # Spread, so that they are not all looked at in one moment.
            user = self._states.restore(row.user_id, row.state, OFFLINE_AFTER_MS + i % OFFLINE_AFTER_MS)
            _fill(user, row)
            self._news.restore(row.user_id, row.stream_id)
        self._start_ticking()

    def syncing(
        self, user_id: str, device_id: str, set_presence: str = "online"
    ) -> AbstractContextManager[None]:
        """A sync of the device, for as long as the block lasts."""
        return self._states.syncing(user_id, device_id, set_presence if self._is_enabled else "offline")

    def active(self, user_id: str) -> None:
        """The user has done something."""
        self._states.active(user_id)

    async def set(self, user_id: str, device_id: str, state: str, status_msg: str | None) -> None:
        """The user has said what they are; returns when those who may see it can. InvalidParam."""
        if status_msg is not None and len(status_msg) > MAX_STATUS_MSG_LENGTH:
            raise InvalidParam(f"status_msg has at most {MAX_STATUS_MSG_LENGTH} characters")
        if not self._is_enabled:
            return
        before = self._states.users.get(user_id)
        old = None if before is None else before.state
        user = self._states.set(user_id, device_id, state)
        await self._fill_in([user])
        if user.state != old or user.status_msg != status_msg:
            user.status_msg = status_msg
            self._note(user_id, is_own=True)
            await self.settle()

    async def set_remote(self, users: Sequence[RemotePresence]) -> None:
        """Another server has said what users of its own are; those who share no room with us are passed over."""
        if not self._is_enabled:
            return
        known = await self._store.list_in_rooms([user.user_id for user in users])
        now_ms = self._clock.now_ms()
        for user in users:
            if user.user_id in known:
                last_active_ms = 0 if user.last_active_ago is None else now_ms - user.last_active_ago
                self._states.set_remote(user.user_id, user.state, last_active_ms, user.status_msg)

    def on_told(self, listener: OnTold) -> None:
        """Call `listener` with our users who have changed; see `PresenceNews.on_told`."""
        self._news.on_told(listener)

    def on_new_server(self, listener: OnNewServer) -> None:
        """Call `listener` with servers that come into small rooms; see `PresenceNews.on_new_server`."""
        self._news.on_new_server(listener)

    async def get_status(self, viewer_id: str, user_id: str) -> bytes:
        """What the user is, as JSON; Forbidden for whoever shares no room with them."""
        if viewer_id != user_id and not await self._store.is_room_shared(viewer_id, user_id):
            raise Forbidden("you share no room with this user")
        user = self._states.users.get(user_id) or UserState(user_id)
        if self._is_enabled:
            await self._fill_in([user])
        return render_status(user, self._clock.now_ms())

    async def list_events(
        self,
        user_id: str,
        since: int | None,
        upto: int,
        accepts_sender: Callable[[str], bool] | None = None,
    ) -> list[bytes]:
        """m.presence events as JSON: changes in (since, upto], or everybody who is not offline (None)."""
        if not self._is_enabled or (since is not None and since >= self._news.current):
            return []
        if since is None:
            users = await self._news.list_visible(user_id)
        else:
            users = await self._news.list_changed(user_id, since, upto)
        now = self._clock.now_ms()
        return [render(user, now) for user in users if accepts_sender is None or accepts_sender(user.user_id)]

    def on_commit(self, committed: Committed) -> None:
        """Who sends is active, and who joins is seen by others; call it after `UserRooms.on_commit`."""
        if not self._is_enabled:
            return
        self._small.on_commit(committed)
        for record in committed.records:
            # Backfilled history is nothing that anybody does now.
            if record.stream_ordering > 0:
                self._states.active(record.sender)
        joins = [
            (change.user_id, committed.room.room_nid, change.stream_ordering)
            for change in committed.membership_changes
            if change.membership == "join"
        ]
        if joins and len(self._joins) < _MAX_JOINS:
            self._joins += joins
            self._teller.wake()

    def look(self) -> None:
        """Find out who is idle or has gone."""
        self._states.look()

    async def settle(self) -> None:
        """Return when what has changed until now is told."""
        if self._changed or self._joins:
            self._teller.hurry()
        await self._teller.settle()

    async def save(self) -> None:
        """Write down what is not written yet."""
        users, self._unsaved = self._unsaved, {}
        try:
            await self._store.set_many([self._row(user) for user in users.values()])
        except BaseException:
            self._unsaved = users | self._unsaved
            raise

    async def close(self) -> None:
        """End the timers and write everything down."""
        self._is_closed = True
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        await self.settle()
        await self._teller.close()
        # When they were last active is not written down while they stay what they are.
        there = {id: user for id, user in self._states.users.items() if user.state != "offline"}
        self._unsaved |= {id: user for id, user in there.items() if not user.is_remote}
        self._saver.hurry()
        await self._saver.settle()
        await self._saver.close()

    def _note(self, user_id: str, is_own: bool = False) -> None:
        self._changed[user_id] = is_own or self._changed.get(user_id, False)
        self._teller.wake()
        self._start_ticking()

    def _start_ticking(self) -> None:
        if self._tick_timer is None and not self._states.is_idle and not self._is_closed:
            self._tick_timer = asyncio.get_running_loop().call_later(TICK_MS / 1000, self._tick)

    def _tick(self) -> None:
        self._tick_timer = None
        self._states.look()
        self._start_ticking()

    async def _tell_all(self) -> None:
        while self._changed or self._joins:
            await self._tell_batch()
            # Others first: where all was in memory, nothing has been waited for.
            await asyncio.sleep(0)

    async def _tell_batch(self) -> None:
        batch = dict(list(self._changed.items())[:_BATCH])
        joins = self._joins[:_BATCH]
        users = [user for user_id in batch if (user := self._states.users.get(user_id)) is not None]
        await self._fill_in(users)
        arrivals = await self._find_arrivals(joins)
        # What changes from here on is told in the next round, even if it is seen already.
        for user_id in batch:
            batch[user_id] |= self._changed.pop(user_id)
        del self._joins[: len(joins)]
        try:
            told = await self._news.announce(batch, arrivals)
        except BaseException:
            self._changed = batch | self._changed
            self._joins = joins + self._joins
            raise
        # What others' users are is theirs to say again.
        self._unsaved |= {user.user_id: user for user in told if not user.is_remote}
        if self._unsaved:
            self._saver.wake()

    async def _find_arrivals(self, joins: Sequence[tuple[str, int, int]]) -> list[tuple[str, int]]:
        small = set(await self._small.among({room_nid for _, room_nid, _ in joins}))
        joins = [join for join in joins if join[1] in small]
        return await self._store.list_arrivals(joins) if joins else []

    async def _fill_in(self, users: Sequence[UserState]) -> None:
        """Know of these users what was written down."""
        missing = [user for user in users if not user.is_loaded]
        if missing:
            rows = await self._store.list_rows([user.user_id for user in missing])
            for user in missing:
                _fill(user, rows.get(user.user_id))

    def _row(self, user: UserState) -> PresenceRow:
        serial = self._news.serial_of(user.user_id)
        return PresenceRow(user.user_id, user.state, user.status_msg, user.last_active_ms, serial)


def _fill(user: UserState, row: PresenceRow | None) -> None:
    if not user.is_loaded:
        user.is_loaded = True
        if row is not None:
            user.status_msg = row.status_msg
            user.last_active_ms = max(user.last_active_ms, row.last_active_ts)
