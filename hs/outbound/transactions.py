"""The bytes of a transaction. Spec: server-server-api "Transactions"; transactions.yaml.

A PDU or EDU is encoded once and its bytes go into every server's transaction: what is put together here is
canonical JSON as it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hs._fast import canonical_json
from hs.storage.outbound_edus import StoredEdu

MAX_PDUS: Final = 50
MAX_EDUS: Final = 100
# Bytes of all events of a transaction; one at least is in it. Servers limit bodies, and slow lines take their time.
MAX_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Pdu:
    """An event on its way; `is_farewell` where the server it goes to is not in the room any more."""

    room_nid: int
    event_nid: int
    stream_ordering: int
    pdu: bytes
    is_farewell: bool = False


@dataclass(frozen=True, slots=True)
class Transaction:
    """What is sent at once; it keeps its id and its bytes when it is sent again."""

    txn_id: str
    body: bytes
    pdus: Sequence[Pdu]
    # The ids of its EDUs that must arrive.
    stored_ids: Sequence[int] = ()


def build_transaction(
    origin: bytes,
    txn_id: str,
    now_ms: int,
    pdus: Sequence[Pdu],
    edus: Sequence[bytes],
    stored: Sequence[StoredEdu] = (),
) -> Transaction:
    """A transaction of these; `origin` is our name as JSON, each EDU canonical JSON. `stored` are EDUs, too."""
    body = b'{"edus":[%b],"origin":%b,"origin_server_ts":%d,"pdus":[%b]}' % (
        b",".join([*(one.edu for one in stored), *edus]),
        origin,
        now_ms,
        b",".join([one.pdu for one in pdus]),
    )
    return Transaction(txn_id, body, pdus, [one.edu_id for one in stored])


def encode_edu(edu_type: str, content: object) -> bytes:
    """An EDU as it goes into transactions."""
    return canonical_json.encode({"content": content, "edu_type": edu_type}, strict=False)
