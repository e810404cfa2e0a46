"""PUT /_matrix/federation/v1/send: what other servers push to us.

Spec: server-server-api "Transactions"; transactions.yaml.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from hs.http.endpoint import Auth, endpoint
from hs.matrix.errors import InvalidParam
from hs.rooms.inbound import InboundTransactions

MAX_PDUS = 50
MAX_EDUS = 100
# 50 events of 64 KiB each, 100 ephemeral events, and what canonical JSON may grow by in others' encoders.
_MAX_BODY = 16 * 2**20
_MAX_TXN_ID = 255


class TransactionBody(msgspec.Struct):
    """A transaction; what is wrong with one of its events is that event's matter alone."""

    pdus: list[Any] = []
    edus: list[Any] = []


class TransactionsApi:
    """Takes transactions in."""

    def __init__(self, inbound: InboundTransactions) -> None:
        self._inbound = inbound

    @endpoint(
        "PUT",
        "/_matrix/federation/v1/send/{txn_id}",
        auth=Auth.SERVER,
        limit="federation",
        max_body=_MAX_BODY,
    )
    async def put_transaction(self, origin: str, txn_id: str, body: TransactionBody) -> dict[str, Any]:
        """Take in events and ephemeral events; says of each event what was wrong with it."""
        if len(body.pdus) > MAX_PDUS or len(body.edus) > MAX_EDUS:
            raise InvalidParam(f"a transaction holds at most {MAX_PDUS} PDUs and {MAX_EDUS} EDUs")
        if len(txn_id) > _MAX_TXN_ID:
            raise InvalidParam("the transaction id is too long")
        pdus = [pdu for pdu in body.pdus if isinstance(pdu, dict)]
        edus = [edu for item in body.edus if (edu := _read_edu(item)) is not None]
        results = await self._inbound.receive(origin, txn_id, pdus, edus)
        return {
            "pdus": {
                # The code is not in the specification; other servers send it, and test suites look for it.
                event_id: {} if error is None else {"errcode": "M_FORBIDDEN", "error": error}
                for event_id, error in results.items()
            }
        }


def _read_edu(item: Any) -> tuple[str, Mapping[str, Any]] | None:
    if not isinstance(item, dict):
        return None
    kind, content = item.get("edu_type"), item.get("content")
    return (kind, content) if isinstance(kind, str) and isinstance(content, dict) else None
