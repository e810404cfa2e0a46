"""What waits for a server becomes transactions within the specification's limits, and loses nothing."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hs._fast import canonical_json
from hs.outbound.queues import MAX_WAITING, MAX_WAITING_EDUS, ReceiptEntry, ServerQueue
from hs.outbound.transactions import MAX_BYTES, MAX_EDUS, MAX_PDUS, Pdu, Transaction, encode_edu

ORIGIN = b'"here.example"'


def make_pdu(number: int, size: int = 10) -> Pdu:
    """An event of about this size."""
    return Pdu(1, number, number, canonical_json.encode({"number": number, "text": "x" * size}))


def drain(queue: ServerQueue) -> list[dict[str, Any]]:
    """All transactions, each confirmed; what they hold."""
    bodies = []
    while (transaction := queue.take(ORIGIN, f"t{len(bodies)}", 5)) is not None:
        bodies.append(json.loads(transaction.body))
        assert transaction.body == canonical_json.encode(bodies[-1])
        queue.confirm(0.0)
    assert queue.is_empty
    return bodies


@given(st.lists(st.integers(0, 60_000), max_size=120))
def test_all_events_are_sent_in_order_and_within_the_limits(sizes: list[int]) -> None:
    queue = ServerQueue("there.example")
    for number, size in enumerate(sizes):
        assert queue.add(make_pdu(number, size), 0.0)
    bodies = drain(queue)
    assert [pdu["number"] for body in bodies for pdu in body["pdus"]] == list(range(len(sizes)))
    for body in bodies:
        assert 0 < len(body["pdus"]) <= MAX_PDUS
        assert len(body["pdus"]) == 1 or len(json.dumps(body["pdus"])) < MAX_BYTES + 10_000


def test_a_transaction_stays_what_it_is_until_it_is_confirmed() -> None:
    queue = ServerQueue("there.example")
    queue.add(make_pdu(1), 0.0)
    first = queue.take(ORIGIN, "t1", 5)
    queue.add(make_pdu(2), 0.0)
    assert queue.take(ORIGIN, "t2", 6) is first
    assert queue.oldest == 1
    queue.confirm(1.0)
    second = queue.take(ORIGIN, "t2", 6)
    assert isinstance(second, Transaction)
    assert (second.txn_id, queue.oldest) == ("t2", 2)


def test_a_full_queue_takes_no_more() -> None:
    queue = ServerQueue("there.example")
    assert all(queue.add(make_pdu(number), 0.0) for number in range(MAX_WAITING))
    assert not queue.add(make_pdu(MAX_WAITING), 0.0)
    queue.take(ORIGIN, "t1", 5)
    dropped = queue.drop()
    assert [pdu.event_nid for pdu in dropped] == list(range(MAX_WAITING))
    assert queue.is_empty


def test_newer_ephemeral_events_take_the_place_of_older_ones() -> None:
    queue = ServerQueue("there.example")
    for number in range(3):
        queue.edus.put_typing("!a", "@x:y", encode_edu("m.typing", {"number": number}))
        queue.edus.put_presence("@x:y", {"user_id": "@x:y", "number": number})
        queue.edus.put_receipts([ReceiptEntry("!a", "@x:y", "", f"${number}", number)])
    [body] = drain(queue)
    assert [edu["edu_type"] for edu in body["edus"]] == ["m.typing", "m.presence", "m.receipt"]
    assert body["edus"][0]["content"] == {"number": 2}
    assert body["edus"][1]["content"]["push"] == [{"user_id": "@x:y", "number": 2}]
    receipt = {"data": {"ts": 2}, "event_ids": ["$2"]}
    assert body["edus"][2]["content"] == {"!a": {"m.read": {"@x:y": receipt}}}


def test_receipts_of_several_threads_go_side_by_side() -> None:
    queue = ServerQueue("there.example")
    threads = ["", "main", "$root"]
    queue.edus.put_receipts(
        [
            ReceiptEntry("!a", "@x:y", thread_id, f"${number}", number)
            for number, thread_id in enumerate(threads)
        ]
    )
    [body] = drain(queue)
    found = [edu["content"]["!a"]["m.read"]["@x:y"]["data"].get("thread_id", "") for edu in body["edus"]]
    assert found == threads


@given(st.integers(0, 2_000), st.integers(0, 2_000))
def test_ephemeral_events_are_bounded(typists: int, readers: int) -> None:
    queue = ServerQueue("there.example")
    for number in range(typists):
        queue.edus.put_typing("!a", f"@{number}:y", encode_edu("m.typing", {"number": number}))
    queue.edus.put_receipts([ReceiptEntry("!a", f"@{n}:y", "", "$event", n) for n in range(readers)])
    bodies = drain(queue)
    told = [edu["content"] for body in bodies for edu in body["edus"] if edu["edu_type"] == "m.typing"]
    assert [content["number"] for content in told] == list(range(max(typists - MAX_WAITING_EDUS, 0), typists))
    read = {
        user_id
        for body in bodies
        for edu in body["edus"]
        if edu["edu_type"] == "m.receipt"
        for user_id in edu["content"]["!a"]["m.read"]
    }
    assert read == {f"@{n}:y" for n in range(max(readers - MAX_WAITING_EDUS, 0), readers)}
    assert all(len(body["edus"]) <= MAX_EDUS for body in bodies)
