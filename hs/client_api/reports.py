"""Reports to the administrators. Spec: client-server-api module "Reporting Content"."""

import msgspec

from hs.client_api.paths import v3
from hs.client_api.room_params import get_room
from hs.http.endpoint import Auth, Caller, Empty, endpoint
from hs.matrix.errors import Forbidden, InvalidParam, NotFound
from hs.matrix.ids import parse_event_id, parse_user_id, server_of
from hs.rooms.clock import Clock
from hs.storage.events import EventStore
from hs.storage.reports import Report, ReportStore
from hs.storage.rooms import RoomStore
from hs.storage.users import UserStore
from hs.sync.access import RoomAccess

MAX_REASON_LENGTH = 2000
# More than anybody reports before an administrator has looked at some.
MAX_OF_REPORTER = 500


class ReasonBody(msgspec.Struct):
    """Why; it may be blank."""

    reason: str


class OptionalReasonBody(msgspec.Struct):
    """Why, if anything is said."""

    reason: str | None = None


class ReportsApi:
    """Takes reports of users, rooms and events."""

    def __init__(
        self,
        reports: ReportStore,
        users: UserStore,
        rooms: RoomStore,
        access: RoomAccess,
        events: EventStore,
        clock: Clock,
        server_name: str,
    ) -> None:
        self._reports = reports
        self._users = users
        self._rooms = rooms
        self._access = access
        self._events = events
        self._clock = clock
        self._server_name = server_name

    @endpoint("POST", *v3("/users/{user_id}/report"), auth=Auth.USER, limit="report")
    async def post_user_report(self, caller: Caller, user_id: str, body: ReasonBody) -> Empty:
        """Report a user, of this server or another."""
        parse_user_id(user_id)
        is_ours = server_of(user_id) == self._server_name
        if is_ours and await self._users.find_user(user_id) is None:
            raise NotFound("no such user")
        return await self._keep(Report(caller.user_id, user_id=user_id, reason=body.reason))

    @endpoint("POST", *v3("/rooms/{room_id}/report"), auth=Auth.USER, limit="report")
    async def post_room_report(self, caller: Caller, room_id: str, body: ReasonBody) -> Empty:
        """Report a room, which the caller need not be in."""
        await get_room(self._rooms, room_id)
        return await self._keep(Report(caller.user_id, room_id=room_id, reason=body.reason))

    @endpoint("POST", *v3("/rooms/{room_id}/report/{event_id}"), auth=Auth.USER, limit="report")
    async def post_event_report(
        self, caller: Caller, room_id: str, event_id: str, body: OptionalReasonBody
    ) -> Empty:
        """Report an event of a room that the caller is in."""
        room = await get_room(self._rooms, room_id)
        parse_event_id(event_id)
        try:
            await self._access.check_member(room, caller.user_id)
        except Forbidden as error:
            raise NotFound("you are not in this room") from error
        if await self._events.find_nid(room.room_nid, event_id) is None:
            raise NotFound("no such event")
        return await self._keep(
            Report(caller.user_id, room_id=room_id, event_id=event_id, reason=body.reason)
        )

    async def _keep(self, report: Report) -> Empty:
        reason = report.reason or ""
        if len(reason) > MAX_REASON_LENGTH or "\x00" in reason:
            raise InvalidParam(f"a reason has at most {MAX_REASON_LENGTH} characters")
        await self._reports.insert_report(report, self._clock.now_ms(), MAX_OF_REPORTER)
        return Empty()
