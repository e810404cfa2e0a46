"""The test rooms are real rooms: their events parse, their hashes and ids are right, their signatures verify."""

import pytest
from signedjson.key import generate_signing_key, get_verify_key

from hs.matrix.event import parse_event
from hs.matrix.keys import key_id_of
from hs.matrix.room_versions import ROOM_VERSIONS
from hs.matrix.signing import verify_event_signature
from tests.room_builder import RoomBuilder


@pytest.mark.parametrize("version_id", ROOM_VERSIONS)
@pytest.mark.parametrize("is_signed", [True, False])
def test_built_events_are_valid(version_id: str, is_signed: bool) -> None:
    keys = {server: generate_signing_key(server) for server in ("a", "b")}
    room = RoomBuilder(version_id, keys if is_signed else None)
    room.start("@alice:a")
    room.member("@bob:b", "@bob:b", "join")
    topic = room.send("m.room.topic", "@alice:a", {"topic": "x"}, state_key="")
    room.send("m.room.redaction", "@bob:b", {"reason": "x"}, redacts=topic.event_id)
    for built in room.events:
        assert built.rejected is None or (built.pdu["type"] == "m.room.redaction" and int(version_id) <= 2)
        event = parse_event(built.pdu, room.version)
        assert (event.event_id, event.room_id) == (built.event_id, room.room_id)
        assert not event.redacted_for_hash
        if is_signed:
            server = built.pdu["sender"].partition(":")[2]
            verify_event_signature(event, server, key_id_of(keys[server]), get_verify_key(keys[server]))
