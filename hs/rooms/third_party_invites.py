"""Invites by third-party identifiers: who has proven to an identity server that an address is theirs is invited.

An `m.room.third_party_invite` of the room names a token and public keys; a claim is the token, bound to a user and
signed with one of the keys. Spec: server-server-api "Third-party invites"; client-server-api "Third-party invites".
"""

import logging
from dataclasses import dataclass
from typing import Any, Final

from hs.matrix.auth_rules import verify_third_party_signed
from hs.matrix.errors import Forbidden, InvalidParam
from hs.matrix.ids import is_user_id, parse_room_id, server_of
from hs.net.errors import RemoteError
from hs.net.key_validity import KeyValidity
from hs.net.room_client import RoomClient
from hs.rooms.drafts import Draft
from hs.rooms.invites import Inviter
from hs.rooms.participation import Participation
from hs.rooms.state import RoomStates
from hs.storage.events import EventStore
from hs.storage.memberships import MembershipStore
from hs.storage.rooms import RoomInfo, RoomStore

logger = logging.getLogger(__name__)

# Keys of one invite that are tried: identity servers give two, one of them theirs for long.
_MAX_KEYS: Final = 10


@dataclass(frozen=True, slots=True)
class Claim:
    """What a user shows to be invited: `signed` is as the identity server gave it, to whom `sender` has invited."""

    room_id: str
    sender: str
    signed: dict[str, Any]

    @property
    def target(self) -> str:
        """Who is to be invited."""
        return str(self.signed["mxid"])


def read_claim(room_id: str, sender: str, target: str, signed: object) -> Claim:
    """The claim of a request; InvalidParam where it is none, or another user's."""
    if not isinstance(signed, dict) or not isinstance(signed.get("token"), str):
        raise InvalidParam("signed needs a token")
    if signed.get("mxid") != target or not is_user_id(target) or not is_user_id(sender):
        raise InvalidParam("signed is for another user")
    if "\x00" in signed["token"]:
        raise InvalidParam("the token holds a NUL character")
    parse_room_id(room_id)
    return Claim(room_id, sender, signed)


class PendingInvites:
    """The third-party invites of rooms."""

    def __init__(self, states: RoomStates, events: EventStore, validity: KeyValidity) -> None:
        self._states = states
        self._events = events
        self._validity = validity

    async def check(self, room: RoomInfo, claim: Claim) -> str:
        """How the invited are called in the room; Forbidden where the room has no such invite or the keys are not good."""
        root = await self._states.current(room.room_nid)
        token = claim.signed["token"]
        nid = await self._states.get(room.room_nid, root, "m.room.third_party_invite", token)
        if not nid:
            raise Forbidden("the room has no such invite")
        content = (await self._events.get(nid)).content
        for public_key, url in _list_keys(content)[:_MAX_KEYS]:
            if verify_third_party_signed(claim.signed, [public_key]):
                if url is not None and not await self._validity.is_valid(url, public_key):
                    raise Forbidden("the key of the invite is not good any more, or nobody says that it is")
                name = content.get("display_name")
                return name if isinstance(name, str) else ""
        raise Forbidden("the invite is signed with no key of the room's")


def _list_keys(content: dict[str, Any]) -> list[tuple[str, str | None]]:
    """The public keys of an m.room.third_party_invite, each with where to ask whether it is still good."""
    more = content.get("public_keys")
    # The first key stands beside the list, as before there was one.
    found = [content, *(more if isinstance(more, list) else [])]
    keys: dict[str, str | None] = {}
    for entry in found:
        public_key = entry.get("public_key") if isinstance(entry, dict) else None
        if isinstance(public_key, str):
            url = entry.get("key_validity_url")
            keys.setdefault(public_key, url if isinstance(url, str) else None)
    return list(keys.items())


class ThirdPartyInvites:
    """Makes real invites of third-party invites."""

    def __init__(
        self,
        rooms: RoomStore,
        participation: Participation,
        members: MembershipStore,
        pending: PendingInvites,
        inviter: Inviter,
        client: RoomClient,
        server_name: str,
    ) -> None:
        self._rooms = rooms
        self._participation = participation
        self._members = members
        self._pending = pending
        self._inviter = inviter
        self._client = client
        self._server_name = server_name

    async def issue(self, room: RoomInfo, claim: Claim) -> None:
        """Invite the claim's user into a room that one of us is in. Forbidden where the room does not allow it."""
        if await self._members.find_membership(room.room_nid, claim.target) in ("join", "invite"):
            # A claim can be shown again: it takes nobody out of the room.
            return
        name = await self._pending.check(room, claim)
        content = {
            "membership": "invite",
            "third_party_invite": {"display_name": name, "signed": claim.signed},
        }
        draft = Draft("m.room.member", claim.sender, content, state_key=claim.target)
        await self._inviter.invite(room, draft)

    async def redeem(self, claim: Claim) -> None:
        """Have a user of ours invited, here or by the server of who has invited them; Forbidden where they are not."""
        room = await self._rooms.find(claim.room_id)
        if room is not None and await self._participation.is_in(room.room_nid):
            await self.issue(room, claim)
            return
        inviter = server_of(claim.sender)
        if inviter == self._server_name:
            raise Forbidden("who has invited you is not in the room any more")
        event = {
            "type": "m.room.member",
            "room_id": claim.room_id,
            "sender": claim.sender,
            "state_key": claim.target,
            "content": {
                "membership": "invite",
                # What the room calls them only the other server knows.
                "third_party_invite": {"display_name": claim.target, "signed": claim.signed},
            },
        }
        try:
            await self._client.exchange_third_party_invite(inviter, claim.room_id, event)
        except RemoteError as error:
            logger.info("%s does not make an invite of a third-party invite: %s", inviter, error)
            raise Forbidden("the server of who has invited you does not confirm the invite") from error
