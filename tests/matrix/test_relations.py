"""What m.relates_to says, and what it cannot make us believe."""

from typing import Any

import pytest

from hs.matrix.relations import Relation, find_relation


def test_relation_of_a_reaction() -> None:
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$one", "key": "+1"}}
    assert find_relation(content) == Relation("m.annotation", "$one", "+1")


@pytest.mark.parametrize(
    "declared",
    [
        None,
        "text",
        [],
        {},
        {"m.in_reply_to": {"event_id": "$one"}},
        {"rel_type": "m.thread"},
        {"rel_type": "", "event_id": "$one"},
        {"rel_type": 3, "event_id": "$one"},
        {"rel_type": "m.thread", "event_id": ["$one"]},
        {"rel_type": "m.thread", "event_id": "$o\x00ne"},
        {"rel_type": "m.thread", "event_id": "$\ud800"},
        {"rel_type": "m" * 256, "event_id": "$one"},
    ],
)
def test_other_shapes_are_no_relations(declared: Any) -> None:
    assert find_relation({"m.relates_to": declared}) is None


def test_a_key_of_another_type_is_left_out() -> None:
    content = {"m.relates_to": {"rel_type": "m.annotation", "event_id": "$one", "key": {"x": 1}}}
    assert find_relation(content) == Relation("m.annotation", "$one", None)
