"""What users are, worked out of what their devices do. In memory; nothing here waits.

Spec: client-server-api module "Presence", and `set_presence` of GET /sync.

- A device is there while it syncs, and OFFLINE_AFTER_MS longer. Somebody without one is offline.
- A device says "online" or "unavailable", with each sync and by PUT; what is said last counts.
- With any device that says "online", the user is online, until nothing was done for IDLE_AFTER_MS. Activity
  brings them back, also where the devices said "unavailable" before it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from hs.rooms.clock import Clock

OFFLINE_AFTER_MS = 30_000
IDLE_AFTER_MS = 300_000
# Users of other servers of whom nothing is heard for this long are taken to be offline.
REMOTE_AFTER_MS = 30 * 60_000
# Of these so many at most, about 1 KB each: whoever has a server can make up users.
MAX_REMOTE = 100_000
# Users are looked at this late at most.
TICK_MS = 2_000
# Stands for the devices that were there before a restart, until they come back.
_FORMER = ""
_NO_SYNC = nullcontext()


class Device:
    """A device that is there or was a moment ago; as a context manager, one sync of it."""

    __slots__ = ("_clock", "seen_ms", "syncs", "wanted")

    def __init__(self, clock: Clock, wanted: str) -> None:
        self._clock = clock
        self.wanted = wanted
        self.syncs = 0
        self.seen_ms = clock.now_ms()

    def __enter__(self) -> None:
        self.syncs += 1

    def __exit__(self, *_: object) -> None:
        self.syncs -= 1
        self.seen_ms = self._clock.now_ms()


class UserState:
    """What one user is."""

    __slots__ = (
        "away_ms",
        "bucket",
        "devices",
        "is_loaded",
        "is_remote",
        "last_active_ms",
        "own_serial",
        "state",
        "status_msg",
        "user_id",
    )

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.state = "offline"
        self.status_msg: str | None = None
        self.last_active_ms = 0
        # When a device last said "unavailable"; of another server's user, until when what it said holds.
        self.away_ms = 0
        self.devices: dict[str, Device] = {}
        # When the user is looked at next, in ticks.
        self.bucket: int | None = None
        # Whether what was written down of the user is known here.
        self.is_loaded = False
        # Of another server, which says what they are.
        self.is_remote = False
        # The change that the user's own devices are told of.
        self.own_serial = 0


class PresenceStates:
    """All users who are not offline, and those who have changed; `on_change` hears of each new state."""

    def __init__(self, clock: Clock, on_change: Callable[[UserState], None]) -> None:
        self._clock = clock
        self._on_change = on_change
        self.users: dict[str, UserState] = {}
        self._devices: dict[tuple[str, str], Device] = {}
        self._remote_count = 0
        # Users to look at, by tick. Each is in one of them at most.
        self._buckets: dict[int, set[UserState]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether time changes nothing."""
        return not self._buckets

    def syncing(self, user_id: str, device_id: str, wanted: str) -> AbstractContextManager[None]:
        """A sync of the device, for as long as it lasts. Called by each of them: mind the microseconds."""
        device = self._devices.get((user_id, device_id))
        if device is not None and device.wanted == wanted:
            return device
        if wanted == "offline":
            if device is not None:
                self._say(user_id, device_id, wanted)
            return _NO_SYNC
        return self._say(user_id, device_id, wanted)

    def set(self, user_id: str, device_id: str, wanted: str) -> UserState:
        """The user has said what they are."""
        user = self.users.get(user_id) or self._add(user_id)
        user.devices.pop(_FORMER, None)
        self._say(user_id, device_id, wanted)
        if wanted == "online":
            self.active(user_id)
        return user

    def active(self, user_id: str) -> None:
        """The user has done something."""
        user = self.users.get(user_id)
        if user is not None:
            user.last_active_ms = self._clock.now_ms()
            if user.state == "unavailable" and not user.is_remote:
                self._look(user)

    def set_remote(self, user_id: str, state: str, last_active_ms: int, status_msg: str | None) -> None:
        """Another server has said what a user of its own is; where that are too many, new ones are passed over."""
        user = self.users.get(user_id)
        if user is None:
            if state == "offline" or self._remote_count >= MAX_REMOTE:
                return
            user = self._add(user_id)
        self._remote_count += not user.is_remote
        user.is_remote = user.is_loaded = True
        user.devices.clear()
        user.last_active_ms = max(user.last_active_ms, last_active_ms)
        if state != "offline":
            # A plan that comes earlier is made anew when it is carried out.
            user.away_ms = self._clock.now_ms() + REMOTE_AFTER_MS
            self._plan(user, user.away_ms)
        if (user.state, user.status_msg) != (state, status_msg):
            user.state, user.status_msg = state, status_msg
            self._on_change(user)

    def restore(self, user_id: str, state: str, grace_ms: int) -> UserState:
        """A user as they were before a restart; their devices have `grace_ms` to come back."""
        user = self._add(user_id)
        user.state = state
        if state != "offline":
            former = user.devices[_FORMER] = Device(self._clock, state)
            former.seen_ms += grace_ms - OFFLINE_AFTER_MS
            # Whatever made them unavailable, it was after what they did last.
            user.away_ms = self._clock.now_ms() if state == "unavailable" else 0
            self._plan(user, former.seen_ms + OFFLINE_AFTER_MS)
        return user

    def look(self) -> None:
        """Find out who is idle or has gone; call it every TICK_MS."""
        tick = self._clock.now_ms() // TICK_MS
        for bucket in sorted(bucket for bucket in self._buckets if bucket <= tick):
            for user in self._buckets.pop(bucket):
                user.bucket = None
                self._look(user)

    def forget(self, user_id: str) -> bool:
        """Forget a user who is offline; False where they are not."""
        user = self.users.get(user_id)
        if user is not None and (user.devices or user.state != "offline"):
            return False
        if user is not None:
            self._remote_count -= user.is_remote
            del self.users[user_id]
        return True

    def _add(self, user_id: str) -> UserState:
        user = self.users[user_id] = UserState(user_id)
        return user

    def _say(self, user_id: str, device_id: str, wanted: str) -> Device:
        user = self.users.get(user_id) or self._add(user_id)
        device = user.devices.get(device_id)
        if device is None:
            device = user.devices[device_id] = Device(self._clock, wanted)
            self._devices[user_id, device_id] = device
        device.wanted = wanted
        device.seen_ms = now = self._clock.now_ms()
        if wanted == "unavailable":
            user.away_ms = now
        elif wanted == "online" and _FORMER not in user.devices:
            # Coming back after a restart of the server is nothing that the user has done.
            user.last_active_ms = now
        self._look(user)
        return device

    def _look(self, user: UserState) -> None:
        """Work out what the user is, and when to look again."""
        now = self._clock.now_ms()
        if user.is_remote:
            if user.state != "offline" and now < user.away_ms:
                self._plan(user, user.away_ms)
            elif user.state != "offline":
                user.state = "offline"
                self._on_change(user)
            return
        for device_id, device in list(user.devices.items()):
            if not device.syncs and now - device.seen_ms >= OFFLINE_AFTER_MS:
                del user.devices[device_id]
                self._devices.pop((user.user_id, device_id), None)
        state = _judge(user, now)
        if user.devices:
            ends = [now if device.syncs else device.seen_ms for device in user.devices.values()]
            again = max(ends) + OFFLINE_AFTER_MS
            if state == "online":
                again = min(again, user.last_active_ms + IDLE_AFTER_MS)
            self._plan(user, again)
        if state != user.state:
            user.state = state
            self._on_change(user)

    def _plan(self, user: UserState, when_ms: int) -> None:
        bucket = when_ms // TICK_MS + 1
        if user.bucket is not None:
            if user.bucket <= bucket:
                return
            self._buckets[user.bucket].discard(user)
        user.bucket = bucket
        self._buckets.setdefault(bucket, set()).add(user)


def _judge(user: UserState, now_ms: int) -> str:
    wanted = {device.wanted for device in user.devices.values()}
    if not wanted & {"online", "unavailable"}:
        return "offline"
    if now_ms - user.last_active_ms >= IDLE_AFTER_MS:
        return "unavailable"
    return "online" if "online" in wanted or user.last_active_ms > user.away_ms else "unavailable"
