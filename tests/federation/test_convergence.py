"""Three servers, people who do anything at any time, and a network that delays, drops, reorders and partitions.

Once it is whole again, all three have the same state of the room and have accepted the same events.
HS_FUZZ_EXAMPLES sets how many plays there are, HS_FUZZ_RANDOM=1 has other ones each time.
"""

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hs.storage.embedded import EmbeddedPostgres
from hs.storage.events import Flag
from tests.certificates import Authority
from tests.eyes import Eyes
from tests.federation_network import Fate
from tests.federation_town import FederationTown
from tests.interop.pairs import history, join_by, state_ids
from tests.people import Person

pytestmark = [pytest.mark.fuzz, pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = int(os.environ.get("HS_FUZZ_EXAMPLES", "3"))

# Two on each server: the first watches and stays, the second does what comes to mind.
PEOPLE = st.integers(0, 5)
SERVERS = st.integers(0, 2)

DEEDS = st.one_of(
    st.tuples(st.just("say"), PEOPLE),
    st.tuples(st.just("topic"), PEOPLE),
    st.tuples(st.just("side"), PEOPLE),
    st.tuples(st.just("levels"), PEOPLE, PEOPLE, st.sampled_from([0, 50, 100])),
    st.tuples(st.sampled_from(["kick", "ban", "unban", "invite"]), PEOPLE, PEOPLE),
    st.tuples(st.sampled_from(["leave", "join"]), PEOPLE),
    st.tuples(st.just("rule"), PEOPLE, st.sampled_from(["public", "invite"])),
    st.tuples(st.just("redact"), PEOPLE),
    st.tuples(st.just("partition"), SERVERS),
    st.tuples(st.sampled_from(["hold", "lose", "cut answer"]), SERVERS, SERVERS),
    st.tuples(st.just("heal")),
)


class Play:
    """One play on running servers."""

    def __init__(self, federation: FederationTown) -> None:
        self.federation = federation
        self.names = federation.names
        self.room_id = ""
        self.people: list[Person] = []
        self.watchers: list[Eyes] = []
        self.said: list[str] = []
        self.count = 0

    async def open(self, version_id: str) -> None:
        """Have everybody in a room."""
        towns = self.federation.towns
        self.people = [await town.person(name) for name in ("watcher", "actor") for town in towns]
        self.watchers = [Eyes(person) for person in self.people[:3]]
        levels = {"users": {person.user_id: 100 for person in self.people[1:3]}}
        if version_id != "12":
            levels["users"][self.people[0].user_id] = 100
        self.room_id = await self.people[0].create_room(
            preset="public_chat",
            room_version=version_id,
            power_level_content_override=levels | {"state_default": 0},
        )
        for person in self.people[1:]:
            await join_by(person, self.room_id, self.names[0])
        for watcher in self.watchers:
            for person in self.people:
                await watcher.sees_member(self.room_id, person.user_id, "join")

    async def do(self, deed: tuple[Any, ...]) -> None:
        """One step; what somebody may not do is refused, and never a fault of the server."""
        kind, *rest = deed
        network = self.federation.network
        if kind == "partition":
            alone = self.names[rest[0]]
            network.partition({alone}, set(self.names) - {alone})
        elif kind == "heal":
            network.heal()
        elif kind in ("hold", "lose", "cut answer"):
            link = network.link(self.names[rest[0]], self.names[rest[1]])
            if kind == "hold":
                link.hold()
            else:
                link.fate = Fate.LOSE_ANSWER if kind == "lose" else Fate.CUT_ANSWER
        else:
            # Who waits for an answer over a line that is held waits in vain.
            async with asyncio.timeout(3):
                await self._act(kind, self.people[rest[0]], *rest[1:])

    async def _act(self, kind: str, person: Person, *rest: Any) -> None:
        self.count += 1
        text = f"{kind} {self.count}"
        target = self.people[rest[0]].user_id if rest and isinstance(rest[0], int) else ""
        if kind == "say":
            content = {"msgtype": "m.text", "body": text}
            answer = await person.put("rooms", self.room_id, "send", "m.room.message", text, body=content)
            self.said += [answer.body["event_id"]] if answer.status == 200 else []
        elif kind == "redact":
            if not self.said:
                return
            answer = await person.put("rooms", self.room_id, "redact", self.said[-1], text, body={})
        elif kind == "topic":
            answer = await person.set_state(self.room_id, "m.room.topic", {"topic": text})
        elif kind == "side":
            answer = await person.set_state(self.room_id, "org.example.side", {"text": text}, person.base_url)
        elif kind == "rule":
            answer = await person.set_state(self.room_id, "m.room.join_rules", {"join_rule": rest[0]})
        elif kind == "levels":
            levels = await person.state(self.room_id, "m.room.power_levels")
            if levels is None:
                return
            levels["users"] = levels.get("users", {}) | {target: rest[1]}
            answer = await person.set_state(self.room_id, "m.room.power_levels", levels)
        elif kind in ("leave", "join"):
            # The watchers stay.
            if person in self.people[:3]:
                return
            answer = await person.post("rooms", self.room_id, kind)
        else:
            if target in [watcher.user_id for watcher in self.people[:3]]:
                return
            answer = await person.post("rooms", self.room_id, kind, body={"user_id": target})
        assert answer.status < 500, (kind, answer)

    async def come_together(self) -> None:
        """Heal, and talk until everybody has heard everybody, twice: the second time nothing else is going on."""
        self.federation.network.heal()
        for _ in range(2):
            for speaker in self.watchers:
                others = [eyes for eyes in self.watchers if eyes is not speaker]
                await self._be_heard(speaker, others)

    async def _be_heard(self, speaker: Eyes, others: list[Eyes]) -> None:
        for _ in range(15):
            self.count += 1
            said = await speaker.person.say(self.room_id, f"do you hear me {self.count}")
            try:
                async with asyncio.timeout(3):
                    for eyes in others:
                        await eyes.event(self.room_id, said)
                return
            except TimeoutError:
                continue
        raise AssertionError(f"{speaker.person.user_id} is never heard")

    async def check(self) -> None:
        """AssertionError unless the servers agree."""
        for watcher in self.watchers:
            # What went by during an outage is fetched when somebody reads.
            await history(watcher.person, self.room_id)
        states = [await state_ids(watcher.person, self.room_id) for watcher in self.watchers]
        assert states[0] == states[1] == states[2]
        accepted = [await list_accepted(url, self.room_id) for url in self.federation.database_urls]
        everything = set.union(*accepted)
        missing = [everything - one for one in accepted]
        assert missing == [set(), set(), set()]


async def list_accepted(url: str, room_id: str) -> set[str]:
    """The events of a room that a server holds and has not rejected."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT event_id FROM events JOIN rooms USING (room_nid) WHERE room_id = $1 AND flags & $2 = 0",
            room_id,
            int(Flag.OUTLIER | Flag.REJECTED),
        )
    finally:
        await connection.close()
    return {row["event_id"] for row in rows}


async def play(
    authority: Authority, postgres_url: str, version_id: str, deeds: list[tuple[Any, ...]]
) -> None:
    """Start everything, do all of it, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        async with FederationTown.start(authority, postgres_url, Path(folder), 3) as federation:
            acted = Play(federation)
            await acted.open(version_id)
            for deed in deeds:
                try:
                    await acted.do(deed)
                except TimeoutError:
                    continue
            await acted.come_together()
            await acted.check()


@settings(
    max_examples=EXAMPLES,
    derandomize=not os.environ.get("HS_FUZZ_RANDOM"),
    # A play takes seconds; the first that fails is shown as it is.
    phases=[Phase.explicit, Phase.generate],
)
@given(st.sampled_from(["10", "12"]), st.lists(DEEDS, min_size=10, max_size=40))
def test_three_servers_agree_in_the_end(
    authority: Authority, postgres: EmbeddedPostgres, version_id: str, deeds: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play(authority, postgres.url, version_id, deeds))
