"""Random rooms full of disputes, for comparing implementations: many admins, forks, bans, ties in time."""

from random import Random
from typing import Any

from tests.room_builder import BuiltEvent, RoomBuilder

USERS = [f"@{name}:{server}" for name, server in zip("abcdef", "xyxzyx", strict=True)]


def random_room(rng: Random, version_id: str, length: int) -> RoomBuilder:
    """A room of `length` allowed events by six users, and many that the rules refuse."""
    room = RoomBuilder(version_id)
    creator = USERS[0]
    levels = {user: rng.choice([0, 50, 100]) for user in USERS[1:]}
    if not room.version.privileged_creators:
        levels[creator] = 100
    room.start(creator, rng.choice(["public", "public", "invite"]), {"users": levels})
    if rng.random() < 0.8:
        for user in USERS[1:4]:
            room.member(creator, user, "invite")
            room.member(user, user, "join")
    allowed = len(room.events)
    while allowed < length and len(room.events) < 20 * length:
        newest = room.events[-12:]
        prev = rng.sample(newest, min(len(newest), rng.choice([1, 1, 1, 1, 2, 3])))
        prev = [event for event in prev if not event.rejected] or [room.events[3]]
        for _ in range(6):
            event = _random_event(rng, room, prev)
            if not event.rejected or rng.random() < 0.1:
                break
            _take_back(room, event)
        allowed += not event.rejected
    return room


def _take_back(room: RoomBuilder, event: BuiltEvent) -> None:
    # Numbers and the auth graph only grow: the event stays known, as one that nobody refers to.
    room.events.remove(event)
    room.events.insert(0, event)


def _random_event(rng: Random, room: RoomBuilder, prev: list[BuiltEvent]) -> BuiltEvent:
    sender, target = rng.choice(USERS), rng.choice(USERS)
    kind = rng.choice(["member"] * 5 + ["levels"] * 2 + ["rules", "topic", "topic", "name", "odd"])
    ts = rng.randrange(20)
    content: dict[str, Any] = {}
    state_key = ""
    type = {"levels": "m.room.power_levels", "rules": "m.room.join_rules", "name": "m.room.name"}.get(
        kind, "m.room.topic"
    )
    if kind == "member":
        type, state_key = "m.room.member", target
        content = {"membership": rng.choice(["join", "join", "leave", "ban", "invite", "knock"])}
        if content["membership"] in ("join", "knock") or rng.random() < 0.1:
            state_key = sender
        if content["membership"] == "join" and rng.random() < 0.3:
            content["join_authorised_via_users_server"] = target
    elif kind == "levels":
        before = room.find(room.resolve_roots([event.root for event in prev]), ("m.room.power_levels", ""))
        content = {**before.pdu["content"]} if before is not None else {}
        content["users"] = {**content.get("users", {}), target: rng.choice([0, 25, 50, 100])}
        if room.version.privileged_creators and target == USERS[0]:
            del content["users"][target]
        if rng.random() < 0.3:
            content[rng.choice(["ban", "kick", "invite", "state_default", "users_default"])] = rng.choice(
                [0, 25, 50]
            )
        if rng.random() < 0.2:
            content["events"] = {"m.room.topic": rng.choice([0, 50, 100])}
    elif kind == "rules":
        content = {"join_rule": rng.choice(["public", "invite", "knock", "restricted", "knock_restricted"])}
    elif kind == "odd":
        type, state_key = "org.example.odd", rng.choice(["", sender, "key"])
    else:
        content = {"value": rng.randrange(1000)}
    event = room.send(type, sender, content, state_key=state_key, prev=prev, ts=ts)
    if event.rejected is None and len(event.auth) > 3 and rng.random() < 0.03:
        # Some servers name fewer auth events than the spec selects.
        fewer = [auth for auth in event.auth if auth.pdu["type"] != "m.room.power_levels"]
        return room.send(type, sender, content, state_key=state_key, prev=prev, ts=ts, auth=fewer)
    return event
