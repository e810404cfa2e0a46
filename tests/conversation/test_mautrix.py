"""A bot written with mautrix answers people on the real server process."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable

import nio
import pytest
from mautrix.client import Client, MemorySyncStore
from mautrix.client.state_store import MemoryStateStore
from mautrix.errors import MForbidden, MNotFound
from mautrix.types import (
    EventID,
    EventType,
    Filter,
    Membership,
    MessageEvent,
    MessageType,
    PaginationDirection,
    PresenceState,
    RoomEventFilter,
    RoomFilter,
    RoomID,
    RoomTagAccountDataEventContent,
    RoomTagInfo,
    StateEvent,
    TextMessageEventContent,
    UserID,
)

from tests.conversation.conftest import MakeNio
from tests.nio_client import NioClient
from tests.people import Town
from tests.server_process import ServerProcess

pytestmark = pytest.mark.interop

WAIT_S = 30
# mautrix numbers its transactions from 0; two clients of one device would mistake them for repeats.
_first_txn = itertools.count(1000, 1000)


class EchoBot:
    """Joins where it is invited, repeats what it is told to, and reacts to what it has repeated."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.answered: list[EventID] = []
        self.stopped_with: list[object] = []
        client.add_event_handler(EventType.ROOM_MEMBER, self.on_member)
        client.add_event_handler(EventType.ROOM_MESSAGE, self.on_message)
        self.running: asyncio.Task[None] | None = None

    def start(self) -> None:
        wanted = Filter(room=RoomFilter(timeline=RoomEventFilter(limit=50)))
        self.running = self.client.start(wanted)

    async def stop(self) -> None:
        running, self.running = self.running, None
        self.client.stop()
        if running is not None:
            await asyncio.gather(running, return_exceptions=True)

    async def on_member(self, event: StateEvent) -> None:
        if event.state_key == self.client.mxid and event.content.membership == Membership.INVITE:
            await self.client.join_room(event.room_id)

    async def on_message(self, event: MessageEvent) -> None:
        command, _, text = event.content.body.partition(" ")
        if event.sender == self.client.mxid or command != "!echo":
            return
        await self.client.send_receipt(event.room_id, event.event_id)
        await self.client.set_typing(event.room_id, timeout=5000)
        content = TextMessageEventContent(msgtype=MessageType.TEXT, body=text)
        content.set_reply(event)
        await self.client.send_message(event.room_id, content)
        await self.client.set_typing(event.room_id, timeout=0)
        await self.client.react(event.room_id, event.event_id, "🔁")
        self.answered.append(event.event_id)


MakeBot = Callable[[str], Awaitable[EchoBot]]


@pytest.fixture
async def bot(server: ServerProcess, town: Town) -> AsyncIterator[MakeBot]:
    """Makes running bots that have logged in with a password."""
    bots: list[EchoBot] = []

    async def make(name: str) -> EchoBot:
        await town.visitor.post(
            "register",
            body={"username": name, "password": f"{name} beeps", "auth": {"type": "m.login.dummy"}},
        )
        client = Client(
            mxid=UserID(f"@{name}:{server.server_name}"),
            base_url=server.base_url,
            state_store=MemoryStateStore(),
            sync_store=MemorySyncStore(),
        )
        client.api.txn_id = next(_first_txn)
        await client.login(password=f"{name} beeps", device_name="bot")
        made = EchoBot(client)
        bots.append(made)
        made.start()
        return made

    try:
        yield make
    finally:
        for made in bots:
            await made.stop()
            await made.client.api.session.close()


async def invite(anna: NioClient, bot: EchoBot) -> str:
    """A room that the bot has come to."""
    bot_id = str(bot.client.mxid)
    room_id = str((await anna.client.room_create(invite=[bot_id])).room_id)

    def has_come() -> bool:
        return any(
            isinstance(event, nio.RoomMemberEvent) and (event.state_key, event.membership) == (bot_id, "join")
            for _, event in anna.seen
        )

    await anna.wait_until(has_come, "the bot in the room")
    return room_id


async def test_a_bot_answers_where_it_is_invited(bot: MakeBot, nio_user: MakeNio) -> None:
    echo, anna = await bot("echo-bot"), await nio_user("bot-anna")
    room_id = await invite(anna, echo)
    asked = await anna.say(room_id, "!echo hello there")
    answer = await anna.wait_for_text(room_id, str(echo.client.mxid), "hello there")
    reply = answer.source["content"]["m.relates_to"]["m.in_reply_to"]["event_id"]
    assert reply == asked
    await anna.wait_until(
        lambda: any(
            event.source["type"] == "m.reaction"
            and event.source["content"]["m.relates_to"]
            == {"rel_type": "m.annotation", "event_id": asked, "key": "🔁"}
            for _, event in anna.seen
        ),
        "the reaction",
    )
    receipts = anna.client.rooms[room_id].read_receipts
    await anna.wait_until(lambda: receipts.get(str(echo.client.mxid)), "the bot's receipt")
    assert receipts[str(echo.client.mxid)].event_id == asked


async def test_a_bot_that_restarts_goes_on_where_it_stopped(bot: MakeBot, nio_user: MakeNio) -> None:
    echo, anna = await bot("restart-bot"), await nio_user("bot-ben")
    room_id = await invite(anna, echo)
    await anna.say(room_id, "!echo one")
    await anna.wait_for_text(room_id, str(echo.client.mxid), "one")
    await echo.stop()
    while_away = [await anna.say(room_id, f"!echo away {number}") for number in range(3)]
    echo.answered.clear()
    echo.start()
    for number in range(3):
        await anna.wait_for_text(room_id, str(echo.client.mxid), f"away {number}")
    await anna.say(room_id, "!echo last")
    await anna.wait_for_text(room_id, str(echo.client.mxid), "last")
    # Events of one sync are handled side by side: in any order, but each once.
    assert sorted(echo.answered[:3]) == sorted(while_away)


async def test_what_bots_do_beside_talking(bot: MakeBot, nio_user: MakeNio) -> None:
    echo, anna = await bot("busy-bot"), await nio_user("bot-clara")
    client = echo.client
    await client.set_displayname("Busy Bot")
    profile = await client.get_profile(client.mxid)
    assert profile.displayname == "Busy Bot"

    room_id = await client.create_room(name="Workshop", alias_localpart="workshop", invitees=[anna.user_id])
    await anna.wait_for_invite(room_id)
    await anna.client.join(room_id)
    assert (await client.resolve_room_alias(f"#workshop:{client.mxid.split(':', 1)[1]}")).room_id == room_id
    assert set(await client.get_joined_members(room_id)) == {client.mxid, anna.user_id}
    assert room_id in await client.get_joined_rooms()

    power = await client.get_state_event(room_id, EventType.ROOM_POWER_LEVELS)
    power.users[UserID(anna.user_id)] = 50
    await client.send_state_event(room_id, EventType.ROOM_POWER_LEVELS, power)
    await client.send_state_event(room_id, EventType.ROOM_TOPIC, {"topic": "Tools"})
    assert (await client.get_state_event(room_id, EventType.ROOM_TOPIC)).topic == "Tools"
    assert {event.type for event in await client.get_state(room_id)} >= {
        EventType.ROOM_CREATE,
        EventType.ROOM_NAME,
    }

    first = await client.send_text(room_id, "one")
    await client.send_notice(room_id, "two")
    redaction = await client.redact(room_id, first, reason="no")
    page = await client.get_messages(room_id, PaginationDirection.BACKWARD, limit=3)
    assert page.events[0].event_id == redaction
    assert (await client.get_event(room_id, first)).unsigned is not None
    context = await client.get_event_context(room_id, first, limit=2)
    assert context.event.event_id == first

    await client.set_room_tag(room_id, "u.work", RoomTagInfo(order=0.5))
    tags: RoomTagAccountDataEventContent = await client.get_room_tags(room_id)
    assert [*tags.tags] == ["u.work"]
    await client.remove_room_tag(room_id, "u.work")
    await client.set_account_data("org.example.settings", {"volume": 3})
    assert await client.get_account_data("org.example.settings") == {"volume": 3}
    await client.set_fully_read_marker(room_id, first, first)
    # What a device says last counts, and each sync says it.
    client.presence = PresenceState.UNAVAILABLE
    await client.set_presence(PresenceState.UNAVAILABLE, status="hammering")
    assert (await client.get_presence(client.mxid)).presence == PresenceState.UNAVAILABLE

    await client.kick_user(room_id, UserID(anna.user_id), "out")
    await client.ban_user(room_id, UserID(anna.user_id), "and stay out")
    await client.unban_user(room_id, UserID(anna.user_id))
    with pytest.raises(MForbidden):
        await client.kick_user(RoomID("!nowhere:" + client.mxid.split(":", 1)[1]), UserID(anna.user_id))
    with pytest.raises(MNotFound):
        await client.resolve_room_alias("#nothing:" + client.mxid.split(":", 1)[1])
    await client.leave_room(room_id)
    await client.forget_room(room_id)
    assert room_id not in await client.get_joined_rooms()
    assert (await client.versions()).versions
    await echo.stop()
    await client.logout()
