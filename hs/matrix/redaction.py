"""What is left of an event that was redacted. Spec: rooms/v1 to v12 "Redactions".

The keys that survive are listed in the kernel `hs._fast.event_hash`; ids and signatures cover the
redacted form, so it is one piece of code for all three.
"""

from typing import Any

from hs._fast import event_hash
from hs.matrix.room_versions import RoomVersion


def redact(pdu: dict[str, Any], version: RoomVersion) -> dict[str, Any]:
    """A new PDU with only the keys that outlive a redaction; values are shared with `pdu`.

    Signatures and hashes stay, `unsigned` does not: the caller sets unsigned.redacted_because.
    """
    return event_hash.redact(pdu, version.number)


def find_redacts(pdu: dict[str, Any], version: RoomVersion) -> str | None:
    """The id of the event that this PDU redacts, or None where it is no redaction.

    Since v11 it stands in the content, before that on the top level.
    """
    if pdu.get("type") != "m.room.redaction":
        return None
    redacts = pdu["content"].get("redacts") if version.redacts_in_content else pdu.get("redacts")
    # No event has an id with NUL in it.
    return redacts if isinstance(redacts, str) and "\x00" not in redacts else None
