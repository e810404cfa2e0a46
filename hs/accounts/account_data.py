"""What clients store with us for themselves. Spec: client-server-api module "Client Config"."""

from contextlib import suppress

import msgspec

from hs.matrix.errors import BadJson, InvalidParam, MatrixError, NotFound, TooLarge
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

    async def get_tags(self, user_id: str, room_id: str) -> bytes:
        """The user's tags of the room, as the content of m.tag."""
        return _encode_tags(_tags(await self._store.find_account_data(user_id, room_id, TAGS)))

    async def set_tag(self, user_id: str, room_id: str, tag: str, info: bytes) -> None:
        """Add or replace a tag, with a JSON object of its own.

        InvalidParam for a name that is none, BadJson for an order that is none, TooLarge for too much.
        """
        # tags.md: the name of a tag must not exceed 255 bytes.
        if not 0 < len(tag.encode()) <= MAX_TYPE_LENGTH:
            raise InvalidParam(f"a tag has 1 to {MAX_TYPE_LENGTH} bytes")
        checked = _check_tag(info)

        def change(stored: bytes | None) -> bytes:
            content = _encode_tags(_tags(stored) | {tag: checked})
            if len(content) > MAX_CONTENT_BYTES:
                raise TooLarge(f"a room's tags have at most {MAX_CONTENT_BYTES} bytes")
            return content

        await self._store.change_account_data(user_id, room_id, TAGS, change)

    async def delete_tag(self, user_id: str, room_id: str, tag: str) -> None:
        """Remove a tag; one that is not there is removed already."""
        if tag in _tags(await self._store.find_account_data(user_id, room_id, TAGS)):

            def change(stored: bytes | None) -> bytes:
                tags = _tags(stored)
                tags.pop(tag, None)
                return _encode_tags(tags)

            await self._store.change_account_data(user_id, room_id, TAGS, change)


class _TagContent(msgspec.Struct):
    # Whatever a client stores with a tag stays as it is, numbers of any size included.
    tags: dict[str, msgspec.Raw] = {}


class _TagInfo(msgspec.Struct):
    # What we understand of a tag: the place of the room among those that have it.
    order: float | None = None


def _check_tag(info: bytes | msgspec.Raw) -> msgspec.Raw:
    """The JSON object as it is, without an order that is null; BadJson where it is none."""
    try:
        has_order = msgspec.json.decode(info, type=_TagInfo).order is not None
        if not has_order and b"null" in bytes(info):
            fields = msgspec.json.decode(info, type=dict[str, msgspec.Raw])
            fields.pop("order", None)
            return msgspec.Raw(msgspec.json.encode(fields))
    except msgspec.ValidationError as error:
        raise BadJson(str(error)) from error
    return msgspec.Raw(info)


def _tags(stored: bytes | None) -> dict[str, msgspec.Raw]:
    # Clients may also store m.tag as account data, in whatever shape: what are no tags there is left out.
    tags: dict[str, msgspec.Raw] = {}
    try:
        found = {} if stored is None else msgspec.json.decode(stored, type=_TagContent).tags
    except msgspec.ValidationError:
        return tags
    for tag, info in found.items():
        with suppress(BadJson):
            tags[tag] = _check_tag(info)
    return tags


def _encode_tags(tags: dict[str, msgspec.Raw]) -> bytes:
    return msgspec.json.encode(_TagContent(tags))
