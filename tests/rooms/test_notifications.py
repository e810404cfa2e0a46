"""Whom events notify and which thread they are in, as a commit writes it."""

import asyncio
from typing import Any

import msgspec
import pytest

from hs.engine import Engine
from hs.matrix.push_rules import Action, PushRules, Rule, RuleBody, delete_rule, put_rule, set_enabled
from hs.rooms.audience import Audience, reduce_rules
from hs.rooms.drafts import Committed, Draft, SentEvent
from hs.storage.database import Database, Writer
from hs.storage.notifications import UserRules
from hs.storage.rooms import RoomInfo
from hs.storage.streams import StreamIds
from hs.storage.user_data import AccountDataStore
from tests.rooms.conftest import ALICE, BOB, CAROL
from tests.rooms.making import make_room, message, redaction, topic

NOTHING, NOTIFY, HIGHLIGHT = 0, 1, 2


@pytest.fixture
def rules(engine: Engine, database: Database) -> AccountDataStore:
    """Push rules whose changes the engine hears of."""
    store = AccountDataStore(database, StreamIds(0), lambda user_id, stream_id: None)
    store.on_rules(engine.judge.on_rules)
    return store


@pytest.fixture
async def room(engine: Engine) -> RoomInfo:
    """A room of Alice's with Bob and Carol in it."""
    room = await make_room(engine, preset="public_chat")
    for user_id in (BOB, CAROL):
        await engine.memberships.join(room, user_id)
    return room


def text(sender: str, body: str = "hello", mentions: Any = None, msgtype: str = "m.text") -> Draft:
    content = {"msgtype": msgtype, "body": body}
    return Draft(
        "m.room.message", sender, content if mentions is None else content | {"m.mentions": mentions}
    )


def mention(sender: str, *user_ids: str) -> Draft:
    return text(sender, mentions={"user_ids": list(user_ids)})


def related(sender: str, rel_type: str, event_id: str, type: str = "m.room.message") -> Draft:
    relation = {"rel_type": rel_type, "event_id": event_id}
    return Draft(type, sender, {"msgtype": "m.text", "body": "there", "m.relates_to": relation})


async def push_of(database: Database, sent: SentEvent) -> int:
    return int(await database.fetchval("SELECT push FROM events WHERE event_nid = $1", sent.event_nid))


async def exceptions_of(database: Database, sent: SentEvent) -> dict[str, tuple[int, int]]:
    """{user: (base, push)}."""
    rows = await database.fetch(
        "SELECT user_id, base, push FROM push_exceptions WHERE stream_ordering = $1", sent.stream_ordering
    )
    return {row["user_id"]: (row["base"], row["push"]) for row in rows}


async def thread_of(database: Database, sent: SentEvent) -> int:
    return int(await database.fetchval("SELECT thread_nid FROM events WHERE event_nid = $1", sent.event_nid))


async def quiet_users(database: Database, room: RoomInfo) -> set[str]:
    rows = await database.fetch(
        "SELECT user_id FROM push_quiet WHERE room_nid = $1 AND until IS NULL", room.room_nid
    )
    return {row["user_id"] for row in rows}


# --- default rules --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "push"),
    [
        (message(), NOTIFY),
        (Draft("m.room.encrypted", ALICE, {"ciphertext": "x"}), NOTIFY),
        (text(ALICE, msgtype="m.notice"), NOTHING),
        (Draft("m.reaction", ALICE, {}), NOTHING),
        (topic("a topic"), NOTHING),
        (Draft("m.room.tombstone", ALICE, {"body": "b", "replacement_room": "!r"}, state_key=""), HIGHLIGHT),
        (text(ALICE, mentions={"room": True}), HIGHLIGHT),
        (text(BOB, mentions={"room": True}), NOTIFY),
        (text(ALICE, mentions={"user_ids": ["@nobody:hs.test", 7, None]}), NOTIFY),
        (text(ALICE, mentions={"user_ids": "@bob:hs.test"}), NOTIFY),
        (text(ALICE, mentions=[BOB]), NOTIFY),
    ],
)
async def test_what_the_default_rules_say_is_a_fact_of_the_event(
    engine: Engine, database: Database, room: RoomInfo, draft: Draft, push: int
) -> None:
    sent = await engine.writer.send(room, draft)
    assert await push_of(database, sent) == push
    assert await exceptions_of(database, sent) == {}


async def test_joins_and_new_names_notify_nobody(engine: Engine, database: Database, room: RoomInfo) -> None:
    assert not await database.fetch("SELECT FROM events WHERE type = 'm.room.member' AND push > 0")
    assert not await database.fetch("SELECT FROM push_exceptions")


async def test_who_is_mentioned_gets_a_highlight(engine: Engine, database: Database, room: RoomInfo) -> None:
    sent = await engine.writer.send(room, mention(ALICE, BOB, "@stranger:hs.test"))
    assert await push_of(database, sent) == NOTIFY
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}


async def test_nobody_is_notified_of_what_they_said(
    engine: Engine, database: Database, room: RoomInfo
) -> None:
    sent = await engine.writer.send(room, mention(BOB, BOB))
    assert await exceptions_of(database, sent) == {}


async def test_an_invitation_notifies_who_is_invited(engine: Engine, database: Database) -> None:
    room = await make_room(engine)
    await engine.memberships.invite(room, ALICE, BOB)
    rows = await database.fetch("SELECT user_id, base, push FROM push_exceptions")
    assert [tuple(row) for row in rows] == [(BOB, NOTHING, NOTIFY)]


async def test_who_has_left_is_not_told(engine: Engine, database: Database, room: RoomInfo) -> None:
    await engine.writer.send(room, message())
    await engine.memberships.leave(room, BOB)
    sent = await engine.writer.send(room, mention(ALICE, BOB, CAROL))
    assert await exceptions_of(database, sent) == {CAROL: (NOTIFY, HIGHLIGHT)}
    await engine.memberships.join(room, BOB)
    sent = await engine.writer.send(room, mention(ALICE, BOB))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}


async def test_power_to_call_everybody_is_what_it_is_at_the_event(
    engine: Engine, database: Database, room: RoomInfo
) -> None:
    everybody = text(BOB, mentions={"room": True})
    assert await push_of(database, await engine.writer.send(room, everybody)) == NOTIFY
    levels = {"users": {ALICE: 100}, "notifications": {"room": 0}}
    if room.version.privileged_creators:
        levels["users"] = {}
    await engine.writer.send(room, Draft("m.room.power_levels", ALICE, levels, state_key=""))
    assert await push_of(database, await engine.writer.send(room, everybody)) == HIGHLIGHT


# --- rules of users -------------------------------------------------------------------------------


def keyword(word: str) -> Any:
    body = RuleBody(["notify", {"set_tweak": "highlight"}], pattern=word)
    return lambda rules: put_rule(rules, "content", word, body)


def muted(room: RoomInfo) -> Any:
    """All but mentions, as clients do it."""
    return lambda rules: put_rule(rules, "room", room.room_id, RuleBody([]))


def silenced(room: RoomInfo) -> Any:
    """Mentions, too."""
    conditions = [{"kind": "event_match", "key": "room_id", "pattern": room.room_id}]
    return lambda rules: put_rule(rules, "override", room.room_id, RuleBody([], conditions))


async def test_a_keyword_is_a_highlight_for_whom_it_is_one(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    await engine.writer.send(room, message())
    await rules.change_push_rules(BOB, keyword("cake"))
    sent = await engine.writer.send(room, text(ALICE, "there is CAKE!"))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}
    sent = await engine.writer.send(room, text(ALICE, "there is none"))
    assert await exceptions_of(database, sent) == {}
    await rules.change_push_rules(BOB, lambda r: delete_rule(r, "content", "cake"))
    sent = await engine.writer.send(room, text(ALICE, "cake"))
    assert await exceptions_of(database, sent) == {}


async def test_rules_that_were_set_before_the_start_count(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    await rules.change_push_rules(BOB, keyword("cake"))
    engine.judge.forget(room.room_nid)
    sent = await engine.writer.send(room, text(ALICE, "cake"))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}


async def test_rules_of_who_joins_later_count(
    engine: Engine, database: Database, rules: AccountDataStore
) -> None:
    room = await make_room(engine, preset="public_chat")
    await rules.change_push_rules(BOB, keyword("cake"))
    await engine.memberships.join(room, BOB)
    sent = await engine.writer.send(room, text(ALICE, "cake"))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}


async def test_rules_whose_change_is_in_doubt_are_read_again(
    engine: Engine, database: Database, room: RoomInfo
) -> None:
    await engine.writer.send(room, message())
    deaf = AccountDataStore(database, StreamIds(0), lambda user_id, stream_id: None)
    await deaf.change_push_rules(BOB, keyword("cake"))
    engine.judge.on_rules(BOB)
    sent = await engine.writer.send(room, text(ALICE, "cake"))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}


async def test_a_muted_room_costs_no_rows_but_for_mentions(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    await rules.change_push_rules(BOB, muted(room))
    await rules.change_push_rules(CAROL, silenced(room))
    sent = await engine.writer.send(room, message())
    assert await push_of(database, sent) == NOTIFY
    assert await exceptions_of(database, sent) == {}
    assert await quiet_users(database, room) == {BOB, CAROL}
    sent = await engine.writer.send(room, mention(ALICE, BOB, CAROL))
    assert await exceptions_of(database, sent) == {BOB: (NOTHING, HIGHLIGHT)}
    sent = await engine.writer.send(room, text(ALICE, mentions={"room": True}))
    assert await push_of(database, sent) == HIGHLIGHT
    assert await exceptions_of(database, sent) == {BOB: (NOTHING, HIGHLIGHT)}


async def test_a_room_is_quiet_for_as_long_as_it_is_muted(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    before = await engine.writer.send(room, message())
    await rules.change_push_rules(BOB, muted(room))
    await engine.writer.send(room, message())
    last = await engine.writer.send(room, message())
    engine.judge.forget(room.room_nid)
    await rules.change_push_rules(BOB, lambda r: delete_rule(r, "room", room.room_id))
    await engine.writer.send(room, message())
    spans = "SELECT user_id, since, until FROM push_quiet ORDER BY since"
    once = (BOB, before.stream_ordering, last.stream_ordering)
    assert [tuple(row) for row in await database.fetch(spans)] == [once]
    await rules.change_push_rules(BOB, muted(room))
    await engine.writer.send(room, message())
    again = (BOB, last.stream_ordering + 1, None)
    assert [tuple(row) for row in await database.fetch(spans)] == [once, again]


async def test_all_notifications_off_is_quiet_everywhere(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    await rules.change_push_rules(BOB, lambda r: set_enabled(r, "override", ".m.rule.master", True))
    sent = await engine.writer.send(room, mention(ALICE, BOB))
    assert await exceptions_of(database, sent) == {}
    assert await quiet_users(database, room) == {BOB}


async def test_own_display_names_and_member_counts_can_be_rules(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    highlight: list[Action] = ["notify", {"set_tweak": "highlight"}]
    name = RuleBody(highlight, [{"kind": "contains_display_name"}])
    for user_id in (BOB, CAROL):
        await rules.change_push_rules(user_id, lambda r: put_rule(r, "override", "name", name))
    sent = await engine.writer.send(room, text(ALICE, "hello bob"))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}
    three = RuleBody(highlight, [{"kind": "room_member_count", "is": "3"}])
    await rules.change_push_rules(CAROL, lambda r: put_rule(r, "override", "three", three))
    sent = await engine.writer.send(room, message())
    assert await exceptions_of(database, sent) == {CAROL: (NOTIFY, HIGHLIGHT)}
    await engine.memberships.leave(room, BOB)
    sent = await engine.writer.send(room, message())
    assert await exceptions_of(database, sent) == {}


async def test_a_rule_about_somebody_else_is_not_about_oneself(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    condition = {
        "kind": "event_property_contains",
        "key": r"content.m\.mentions.user_ids",
        "value": "@boss:hs.test",
    }
    body = RuleBody(["notify", {"set_tweak": "highlight"}], [condition])
    await rules.change_push_rules(BOB, lambda r: put_rule(r, "override", "boss", body))
    sent = await engine.writer.send(room, mention(ALICE, "@boss:hs.test"))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}
    sent = await engine.writer.send(room, mention(ALICE, CAROL))
    assert await exceptions_of(database, sent) == {CAROL: (NOTIFY, HIGHLIGHT)}


async def test_who_is_ignored_notifies_nobody_who_ignores_them(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    async def ignore(*user_ids: str) -> None:
        content = msgspec.json.encode({"ignored_users": {user_id: {} for user_id in user_ids}})
        await rules.set_account_data(BOB, "", "m.ignored_user_list", content)

    await engine.writer.send(room, message())
    await ignore(ALICE)
    sent = await engine.writer.send(room, mention(ALICE, BOB, CAROL))
    assert await exceptions_of(database, sent) == {BOB: (NOTIFY, NOTHING), CAROL: (NOTIFY, HIGHLIGHT)}
    assert await exceptions_of(database, await engine.writer.send(room, message(CAROL))) == {}
    other = await make_room(engine)
    await engine.memberships.invite(other, ALICE, BOB)
    assert not await database.fetch("SELECT FROM push_exceptions WHERE room_nid = $1", other.room_nid)
    await rules.change_push_rules(BOB, muted(room))
    sent = await engine.writer.send(room, mention(ALICE, BOB))
    assert await exceptions_of(database, sent) == {}
    await ignore()
    sent = await engine.writer.send(room, mention(ALICE, BOB))
    assert await exceptions_of(database, sent) == {BOB: (NOTHING, HIGHLIGHT)}
    await rules.set_account_data(BOB, "", "m.ignored_user_list", b'{"ignored_users":["@alice:hs.test"]}')
    sent = await engine.writer.send(room, mention(ALICE, BOB))
    assert await exceptions_of(database, sent) == {BOB: (NOTHING, HIGHLIGHT)}


def test_rules_of_other_rooms_are_left_out() -> None:
    def mute(rule_id: str, room_id: str, **other: Any) -> Rule:
        condition = {"kind": "event_match", "key": "room_id", "pattern": room_id}
        return Rule(rule_id, [], conditions=[condition], **other)

    rules = PushRules(
        override=(mute("a", "!a"), mute("b", "!b"), mute("c", "!*"), mute("d", "!a", enabled=False)),
        room=(Rule("!a", []), Rule("!b", [])),
        content=(Rule("x", [], enabled=False, pattern="x"),),
    )
    reduced = reduce_rules(rules, "!a")
    assert [rule.rule_id for rule in reduced.override] == ["a", "c"]
    assert [rule.rule_id for rule in reduced.room] == ["!a"]
    assert reduced.content == ()


def test_users_without_rules_for_the_room_are_one_group() -> None:
    audience = Audience("!a")
    for number in range(100):
        rules = PushRules(room=(Rule(f"!{number}", []),))
        audience.add(f"@{number}:hs.test", None, UserRules(rules, frozenset(), False))
    assert len(audience) == 100
    assert len(audience._groups) == 1
    for number in range(100):
        audience.remove(f"@{number}:hs.test")
    assert not audience._groups


# --- threads --------------------------------------------------------------------------------------


async def test_a_thread_is_found_through_other_relations(
    engine: Engine, database: Database, room: RoomInfo
) -> None:
    root = await engine.writer.send(room, message())
    reply = await engine.writer.send(room, related(BOB, "m.thread", root.event_id))
    edit = await engine.writer.send(room, related(BOB, "m.replace", reply.event_id))
    reaction = await engine.writer.send(room, related(ALICE, "m.annotation", edit.event_id, "m.reaction"))
    for sent in (reply, edit, reaction):
        assert await thread_of(database, sent) == root.event_nid
    # What relates to the root otherwise is not in the thread, and the root is not either.
    beside = await engine.writer.send(room, related(ALICE, "m.annotation", root.event_id, "m.reaction"))
    for sent in (root, beside):
        assert await thread_of(database, sent) == 0


async def test_a_thread_is_found_after_a_restart_and_within_a_batch(
    engine: Engine, database: Database, room: RoomInfo
) -> None:
    root = await engine.writer.send(room, message())
    reply = await engine.writer.send(room, related(BOB, "m.thread", root.event_id))
    engine.judge._threads.clear()
    reaction = await engine.writer.send(room, related(ALICE, "m.annotation", reply.event_id, "m.reaction"))
    assert await thread_of(database, reaction) == root.event_nid
    engine.judge._threads.clear()
    again = related(BOB, "m.thread", root.event_id)
    batch = await engine.writer.send_all(room, [again, message(), again])
    assert [await thread_of(database, sent) for sent in batch] == [root.event_nid, 0, root.event_nid]


@pytest.mark.parametrize("event_id", ["$unknown", "$a:b", "x", ""])
async def test_a_thread_of_nothing_is_the_main_timeline(
    engine: Engine, database: Database, room: RoomInfo, event_id: str
) -> None:
    sent = await engine.writer.send(room, related(ALICE, "m.thread", event_id))
    assert await thread_of(database, sent) == 0


async def test_a_thread_cannot_be_rooted_in_another_room(
    engine: Engine, database: Database, room: RoomInfo
) -> None:
    elsewhere = await engine.writer.send(await make_room(engine), message())
    sent = await engine.writer.send(room, related(ALICE, "m.thread", elsewhere.event_id))
    assert await thread_of(database, sent) == 0


async def test_exceptions_know_their_thread(engine: Engine, database: Database, room: RoomInfo) -> None:
    root = await engine.writer.send(room, message())
    draft = related(BOB, "m.thread", root.event_id)
    draft.content["m.mentions"] = {"user_ids": [ALICE]}
    await engine.writer.send(room, draft)
    assert await database.fetchval("SELECT thread_nid FROM push_exceptions") == root.event_nid


# --- commits --------------------------------------------------------------------------------------


async def test_what_is_redacted_notifies_nobody(engine: Engine, database: Database, room: RoomInfo) -> None:
    sent = await engine.writer.send(room, mention(ALICE, BOB))
    other = await engine.writer.send(room, mention(ALICE, CAROL))
    await engine.writer.send(room, redaction(sent.event_id))
    assert await push_of(database, sent) == NOTHING
    assert await exceptions_of(database, sent) == {}
    assert await exceptions_of(database, other) == {CAROL: (NOTIFY, HIGHLIGHT)}


async def test_listeners_are_told_what_the_database_was(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    heard: list[Committed] = []
    engine.committer.on_commit(heard.append)
    await rules.change_push_rules(CAROL, muted(room))
    root = await engine.writer.send(room, mention(ALICE, BOB))
    await engine.writer.send(room, related(BOB, "m.thread", root.event_id))
    first, second = heard
    assert first.judgements.quiet == {CAROL: True}
    [judgement] = first.judgements.events
    assert judgement.push == NOTIFY
    assert judgement.exceptions == {BOB: (NOTIFY, HIGHLIGHT)}
    [judgement] = second.judgements.events
    assert (judgement.thread_nid, judgement.thread_id) == (root.event_nid, root.event_id)
    assert second.judgements.quiet == {}


async def test_a_failed_commit_leaves_nobody_counted_in(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    async def refuse(writer: Writer, room: RoomInfo) -> None:
        raise RuntimeError("no")

    await rules.change_push_rules(BOB, muted(room))
    dave = "@dave:hs.test"
    join = Draft("m.room.member", dave, {"membership": "join"}, state_key=dave)
    with pytest.raises(RuntimeError):
        await engine.writer.send(room, join, refuse)
    assert await quiet_users(database, room) == set()
    sent = await engine.writer.send(room, mention(ALICE, dave, BOB))
    assert await exceptions_of(database, sent) == {BOB: (NOTHING, HIGHLIGHT)}
    assert await quiet_users(database, room) == {BOB}


async def test_a_batch_is_judged_event_by_event(engine: Engine, database: Database, room: RoomInfo) -> None:
    dave = "@dave:hs.test"
    join = Draft("m.room.member", dave, {"membership": "join"}, state_key=dave)
    leave = Draft("m.room.member", dave, {"membership": "leave"}, state_key=dave)
    call = mention(ALICE, dave)
    sent = await engine.writer.send_all(room, [call, join, call, leave, call, join, call])
    outcomes = [await exceptions_of(database, one) for one in sent]
    there = {dave: (NOTIFY, HIGHLIGHT)}
    assert outcomes == [{}, {}, there, {}, {}, {}, there]


async def test_rules_that_change_while_a_room_is_read_are_not_missed(
    engine: Engine, database: Database, room: RoomInfo, rules: AccountDataStore
) -> None:
    for _ in range(10):
        engine.judge.forget(room.room_nid)
        await asyncio.gather(
            engine.writer.send(room, message()), rules.change_push_rules(BOB, keyword("cake"))
        )
        sent = await engine.writer.send(room, text(ALICE, "cake"))
        assert await exceptions_of(database, sent) == {BOB: (NOTIFY, HIGHLIGHT)}
        await rules.change_push_rules(BOB, lambda r: delete_rule(r, "content", "cake"))


async def test_who_writes_has_read_up_to_there(engine: Engine, database: Database, room: RoomInfo) -> None:
    await engine.writer.send(room, message())
    await engine.memberships.leave(room, CAROL)
    reaction = await engine.writer.send(room, Draft("m.reaction", BOB, {}))
    await engine.writer.send(room, redaction(reaction.event_id, BOB))
    position = await database.fetchval("SELECT stream_ordering FROM sent_positions WHERE user_id = $1", BOB)
    assert position == reaction.stream_ordering
    assert not await database.fetch("SELECT FROM sent_positions WHERE user_id = $1", CAROL)
