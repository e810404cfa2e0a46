"""What clients store with us for themselves. Spec: client-server-api module "Client Config"."""

from typing import Any

import msgspec

from hs.matrix.errors import InvalidParam, MatrixError, NotFound, TooLarge
from hs.storage.user_data import AccountDataEvent, AccountDataStore

# The spec sets no limit; this is the size of an event, and clients store less than a tenth of it.
MAX_CONTENT_BYTES = 256 * 1024
MAX_TYPE_LENGTH = 255

FULLY_READ = "m.fully_read"
TAGS = "m.tag"

# These have endpoints of their own. Spec: "Client Config", "Server Behaviour".
_MANAGED = (FULLY_READ, "m.push_rules")


class ManagedType(MatrixError):
    """M_BAD_JSON with 405: data of this type is changed through an endpoint of its own."""

    status = 405
    errcode = "M_BAD_JSON"


class AccountData:
    """Reads and changes account data."""

    def __init__(self, store: AccountDataStore) -> None:
        self._store = store

    async def list_changes(self, user_id: str, since: int | None, upto: int) -> list[AccountDataEvent]:
        """What changed after stream id `since`; all there is, push rules included, where it is None."""
        if since is None:
            return await self._store.list_account_data(user_id)
        return await self._store.list_account_data_since(user_id, since, upto)

    async def get(self, user_id: str, room_id: str, type: str) -> bytes:
        """The content as JSON; NotFound where there is none. `room_id` is "" for the whole account."""
        content = await self._store.find_account_data(user_id, room_id, type)
        if content is None:
            raise NotFound("no account data of this type")
        return content

    async def set(self, user_id: str, room_id: str, type: str, content: bytes) -> None:
        """Store a JSON object; ManagedType, TooLarge or InvalidParam where that is refused."""
        if type in _MANAGED:
            raise ManagedType(f"{type} cannot be set through this API")
        if not type or len(type) > MAX_TYPE_LENGTH:
            raise InvalidParam(f"a type has 1 to {MAX_TYPE_LENGTH} characters")
        if len(content) > MAX_CONTENT_BYTES:
            raise TooLarge(f"account data has at most {MAX_CONTENT_BYTES} bytes")
        await self._store.set_account_data(user_id, room_id, type, content)

    async def set_fully_read(self, user_id: str, room_id: str, event_id: str) -> None:
        """Move the user's marker in the room."""
        content = msgspec.json.encode({"event_id": event_id})
        await self._store.set_account_data(user_id, room_id, FULLY_READ, content)

    async def list_tags(self, user_id: str, room_id: str) -> dict[str, Any]:
        """The user's tags of the room, each with what the client stored with it."""
        return _tags(await self._store.find_account_data(user_id, room_id, TAGS))

    async def set_tag(self, user_id: str, room_id: str, tag: str, info: dict[str, Any]) -> None:
        """Add or replace a tag; InvalidParam or TooLarge where it is too much."""
        if not 0 < len(tag.encode()) <= MAX_TYPE_LENGTH:
            raise InvalidParam(f"a tag has 1 to {MAX_TYPE_LENGTH} bytes")
        await self._store.change_account_data(
            user_id, room_id, TAGS, lambda stored: _encode_tags({**_tags(stored), tag: info})
        )

    async def delete_tag(self, user_id: str, room_id: str, tag: str) -> None:
        """Remove a tag; one that is not there is removed already."""
        if tag in await self.list_tags(user_id, room_id):
            await self._store.change_account_data(
                user_id,
                room_id,
                TAGS,
                lambda stored: _encode_tags({key: info for key, info in _tags(stored).items() if key != tag}),
            )


def _tags(stored: bytes | None) -> dict[str, Any]:
    # Clients may also store m.tag as account data, in whatever shape.
    content = {} if stored is None else msgspec.json.decode(stored)
    tags = content.get("tags")
    return tags if isinstance(tags, dict) else {}


def _encode_tags(tags: dict[str, Any]) -> bytes:
    content = msgspec.json.encode({"tags": tags})
    if len(content) > MAX_CONTENT_BYTES:
        raise TooLarge(f"a room's tags have at most {MAX_CONTENT_BYTES} bytes")
    return content
