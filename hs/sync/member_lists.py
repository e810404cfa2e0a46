"""Who is in a room, as clients ask for it again and again: read once, kept until the room's members change."""

import msgspec
from cachetools import LRUCache

from hs.rooms.drafts import Committed
from hs.storage.members import MemberStore

# Bytes of answers, and numbers of events at eight bytes each.
_MAX_BYTES = 32 * 2**20
_ENTRY_BYTES = 300

_Filter = tuple[str | None, str | None]


class MemberLists:
    """Lists of members of rooms."""

    def __init__(self, members: MemberStore) -> None:
        self._members = members
        self._profiles: LRUCache[int, bytes] = LRUCache(
            _MAX_BYTES, lambda answer: min(len(answer) + _ENTRY_BYTES, _MAX_BYTES)
        )
        self._nids: LRUCache[int, dict[_Filter, tuple[int, ...]]] = LRUCache(
            _MAX_BYTES, lambda lists: min(_size(lists), _MAX_BYTES)
        )
        # Counts changes, so that what was read before one is not kept after it.
        self._changes = 0

    async def joined_profiles(self, room_nid: int) -> bytes:
        """The answer of GET /joined_members."""
        known = self._profiles.get(room_nid)
        if known is not None:
            return known
        before = self._changes
        answer = await self._render_profiles(room_nid)
        if before == self._changes:
            self._profiles[room_nid] = answer
        return answer

    async def list_nids(
        self, room_nid: int, membership: str | None, not_membership: str | None
    ) -> tuple[int, ...]:
        """The current member events: with one membership OR with any but another; None is not asked for."""
        lists = self._nids.get(room_nid, {})
        known = lists.get((membership, not_membership))
        if known is not None:
            return known
        before = self._changes
        nids = tuple(await self._members.list_member_nids(room_nid, membership, not_membership))
        if before == self._changes:
            # Put anew, so that its size is taken again.
            self._nids[room_nid] = {**self._nids.pop(room_nid, {}), (membership, not_membership): nids}
        return nids

    def on_commit(self, committed: Committed) -> None:
        """Forget rooms whose members, or the names of these, have changed."""
        if (
            committed.is_uncertain
            or committed.membership_changes
            or committed.redacted_nids
            or committed.state_changes
        ):
            self._changes += 1
            self._profiles.pop(committed.room.room_nid, None)
            self._nids.pop(committed.room.room_nid, None)

    async def _render_profiles(self, room_nid: int) -> bytes:
        joined = {}
        for user_id, display_name, avatar_url in await self._members.list_joined_profiles(room_nid):
            # Other servers' users may have put anything there, addresses that tell who looks at them above all.
            is_media = avatar_url is not None and avatar_url.startswith("mxc://")
            profile = {"display_name": display_name, "avatar_url": avatar_url if is_media else None}
            joined[user_id] = {name: value for name, value in profile.items() if value is not None}
        return msgspec.json.encode({"joined": joined})


def _size(lists: dict[_Filter, tuple[int, ...]]) -> int:
    return sum(_ENTRY_BYTES + 8 * len(nids) for nids in lists.values())
