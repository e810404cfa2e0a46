"""What most tests of the room engine start with: a room, a message, a look at the state."""

from typing import Any

import msgspec

from hs.engine import Engine
from hs.rooms.create import CreateRoom
from hs.rooms.drafts import Draft, Transaction
from hs.storage.rooms import RoomInfo
from tests.rooms.conftest import ALICE


def message(sender: str = ALICE, body: str = "hello", txn_id: str | None = None) -> Draft:
    """A text message."""
    transaction = Transaction("DEVICE", "send/m.room.message", txn_id) if txn_id is not None else None
    return Draft("m.room.message", sender, {"body": body, "msgtype": "m.text"}, transaction=transaction)


def topic(text: str, sender: str = ALICE) -> Draft:
    """A change of the room's topic."""
    return Draft("m.room.topic", sender, {"topic": text}, state_key="")


def redaction(event_id: str, sender: str = ALICE) -> Draft:
    """A redaction."""
    return Draft("m.room.redaction", sender, {}, redacts=event_id)


async def make_room(engine: Engine, **wishes: Any) -> RoomInfo:
    """A room of Alice's."""
    return await engine.rooms.get(await engine.creator.create(ALICE, msgspec.convert(wishes, CreateRoom)))


async def state_content(
    engine: Engine, room: RoomInfo, type: str, state_key: str = ""
) -> dict[str, Any] | None:
    """The content of a piece of the current state."""
    root = await engine.states.current(room.room_nid)
    nid = await engine.states.get(room.room_nid, root, type, state_key)
    return (await engine.events.get(nid)).content if nid else None
