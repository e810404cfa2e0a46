"""Invites by third-party identifiers become invites of users.

Spec: server-server-api "Third-party invites"; third_party_invite.yaml.
"""

import asyncio
import logging
from typing import Any, Final

import msgspec

from hs.http.endpoint import Auth, ClientInfo, Empty, endpoint
from hs.matrix.errors import Forbidden, InvalidParam, LimitExceeded, MatrixError
from hs.matrix.ids import server_of
from hs.net.fetch_budget import FetchBudget
from hs.rooms.resident import RoomDoors
from hs.rooms.third_party_invites import ThirdPartyInvites, read_claim

logger = logging.getLogger(__name__)

_API: Final = "/_matrix/federation/v1"
# A member event at most; of onbind, as many invites as somebody may have waiting, about 1 KiB each.
_MAX_BODY: Final = 128 * 1024
_MAX_INVITES: Final = 100
_AT_ONCE: Final = 4
# Identity servers tell us once: what takes longer is not waited for.
_TIMEOUT_S: Final = 120.0
_RETRY_MS: Final = 60_000


class _ThirdParty(msgspec.Struct):
    signed: dict[str, Any]
    display_name: str = ""


class _Content(msgspec.Struct):
    membership: str
    third_party_invite: _ThirdParty


class ExchangeBody(msgspec.Struct):
    """A part of an invite: what we make of it is an event."""

    type: str
    room_id: str
    sender: str
    state_key: str
    content: _Content


class PendingInvite(msgspec.Struct):
    """An invite that has waited for whom the identifier belongs to."""

    mxid: str
    room_id: str
    sender: str
    signed: dict[str, Any]
    medium: str = ""
    address: str = ""


class BoundBody(msgspec.Struct):
    """An identifier and its user, and the invites that were sent to it."""

    medium: str
    address: str
    mxid: str
    invites: list[PendingInvite]


class ThirdPartyInvitesApi:
    """Takes news from identity servers, and claims from the servers of the invited."""

    def __init__(
        self, doors: RoomDoors, invites: ThirdPartyInvites, budget: FetchBudget, server_name: str
    ) -> None:
        self._doors = doors
        self._invites = invites
        self._budget = budget
        self._server_name = server_name

    @endpoint(
        "PUT",
        _API + "/exchange_third_party_invite/{room_id}",
        auth=Auth.SERVER,
        limit="federation",
        max_body=_MAX_BODY,
    )
    async def put_exchange(self, origin: str, room_id: str, body: ExchangeBody) -> Empty:
        """Invite a user whom one of ours has invited by a third-party identifier."""
        if body.type != "m.room.member" or body.content.membership != "invite":
            raise InvalidParam("the event is no invite")
        if body.room_id != room_id:
            raise InvalidParam("the event is of another room")
        claim = read_claim(room_id, body.sender, body.state_key, body.content.third_party_invite.signed)
        if server_of(body.sender) != self._server_name:
            # Others would not take the invite from us.
            raise Forbidden("the sender is not of this server")
        await self._invites.issue(await self._doors.open(origin, room_id), claim)
        return Empty()

    # Identity servers have no keys that we know; a claim is proven by what it has been signed with.
    @endpoint("PUT", _API + "/3pid/onbind", auth=Auth.NONE, limit="federation", max_body=_MAX_BODY)
    async def put_onbind(self, client: ClientInfo, body: BoundBody) -> Empty:
        """Have one of our users invited to the rooms that an identifier of theirs was invited to."""
        if len(body.invites) > _MAX_INVITES:
            raise InvalidParam(f"more than {_MAX_INVITES} invites")
        if server_of(body.mxid) != self._server_name:
            raise InvalidParam("the user is not of this server")
        # Anybody may say this, and each invite may have us ask another server.
        if self._budget.take(client.address, len(body.invites)) < len(body.invites):
            raise LimitExceeded("too many invites", retry_after_ms=_RETRY_MS)
        slots = asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await asyncio.gather(*(self._redeem(slots, body.mxid, one) for one in body.invites))
        except TimeoutError:
            logger.info("not all invites of %s were made in time", body.mxid)
        return Empty()

    # As identity servers say it: the method that the specification has is not the one in use.
    @endpoint("POST", _API + "/3pid/onbind", auth=Auth.NONE, limit="federation", max_body=_MAX_BODY)
    async def post_onbind(self, client: ClientInfo, body: BoundBody) -> Empty:
        """As `put_onbind`."""
        return await self.put_onbind(client, body)

    async def _redeem(self, slots: asyncio.Semaphore, user_id: str, invite: PendingInvite) -> None:
        async with slots:
            try:
                claim = read_claim(invite.room_id, invite.sender, user_id, invite.signed)
                await self._invites.redeem(claim)
            except MatrixError as error:
                # The others are not to suffer for it.
                logger.info("no invite of %s to %.255r: %s", user_id, invite.room_id, error)
