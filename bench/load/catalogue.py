"""All rows, in the order in which they are done."""

from bench.load.rows.accounts import Login, Profile
from bench.load.rows.base import Row
from bench.load.rows.create import CreateDirect, CreatePrivate
from bench.load.rows.ephemeral import Receipts, Typing
from bench.load.rows.fan_out import FanOut, FanOutSmall
from bench.load.rows.federation import FanOutFar, InboundMany, InboundOne, JoinFar
from bench.load.rows.join import JoinAtOnce, JoinLarge, JoinSequential
from bench.load.rows.reading import JoinedMembers, Members, Messages, State, WhoAmI
from bench.load.rows.send import SendAtOnce, SendAtOnceApart, SendInCrowd, SendSequential
from bench.load.rows.sync import (
    SyncFirst,
    SyncFirstCold,
    SyncFirstColdLazy,
    SyncFirstLazy,
    SyncIdle,
    SyncIdleFew,
    SyncOneNew,
)

ROWS: tuple[type[Row], ...] = (
    WhoAmI,
    SendSequential,
    SendAtOnce,
    SendAtOnceApart,
    SendInCrowd,
    JoinSequential,
    JoinAtOnce,
    JoinLarge,
    CreatePrivate,
    CreateDirect,
    FanOut,
    FanOutSmall,
    SyncIdleFew,
    SyncIdle,
    SyncOneNew,
    SyncFirst,
    SyncFirstLazy,
    Receipts,
    Typing,
    Messages,
    State,
    Members,
    JoinedMembers,
    Profile,
    # Those that restart the servers come last: what the others have warmed up would be lost.
    SyncFirstCold,
    SyncFirstColdLazy,
    Login,
    InboundOne,
    InboundMany,
    JoinFar,
    FanOutFar,
)
