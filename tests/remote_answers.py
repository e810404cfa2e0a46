"""What a well-behaved homeserver answers about its keys, rooms and people: the usual answers of a scripted remote.

Independent of the server under test: each answer is written after the specification's server-server files. What
is about events of rooms is in `tests.remote_room_answers`.
"""

from typing import Any

from hs.matrix.event import InvalidEvent
from tests.remote_room import RemoteRoom
from tests.remote_room_answers import FEDERATION, RoomAnswers, Route, stripped
from tests.remote_scripts import Received, Reply
from tests.remote_world import Refused, RemoteWorld

KEYS = "/_matrix/key/v2"


class RemoteAnswers:
    """Answers requests out of a world."""

    def __init__(self, world: RemoteWorld) -> None:
        self._world = world
        routes = [*self._list_routes(), *RoomAnswers(world).list_routes()]
        self._routes = [(method, template.split("/")[1:], handler) for method, template, handler in routes]

    def _list_routes(self) -> list[Route]:
        v1 = f"{FEDERATION}/v1"
        return [
            ("GET", f"{KEYS}/server", self._keys),
            ("GET", f"{KEYS}/server/{{}}", self._keys),
            ("POST", f"{KEYS}/query", self._query_keys),
            ("GET", f"{v1}/version", self._version),
            ("GET", f"{v1}/query/profile", self._profile),
            ("GET", f"{v1}/query/directory", self._directory),
            ("GET", f"{v1}/publicRooms", self._public_rooms),
            ("POST", f"{v1}/publicRooms", self._public_rooms),
            ("GET", f"{v1}/hierarchy/{{}}", self._hierarchy),
            ("GET", f"{v1}/openid/userinfo", self._openid),
        ]

    async def answer(self, request: Received) -> Reply:
        """The usual answer."""
        parts = request.parts
        for method, template, handler in self._routes:
            if method != request.method or len(template) != len(parts):
                continue
            if all(wanted in ("{}", part) for wanted, part in zip(template, parts, strict=True)):
                values = [p for wanted, p in zip(template, parts, strict=True) if wanted == "{}"]
                try:
                    reply: Reply = await handler(request, *values)
                except Refused as refused:
                    return refused.reply
                except InvalidEvent as error:
                    return Refused(400, "M_INVALID_PARAM", str(error)).reply
                return reply
        return Refused(404, "M_UNRECOGNIZED").reply

    # --- keys and small things

    async def _keys(self, _: Received, __: str = "") -> Reply:
        return Reply(200, self._world.key_document())

    async def _query_keys(self, request: Received) -> Reply:
        known = {self._world.name: self._world.key_document()} | self._world.notary_keys
        found = [known[name] for name in request.body["server_keys"] if name in known]
        return Reply(200, {"server_keys": [self._world.signed(document) for document in found]})

    async def _version(self, _: Received) -> Reply:
        return Reply(200, {"server": {"name": "scripted", "version": "1"}})

    async def _openid(self, request: Received) -> Reply:
        user_id = self._world.openid_tokens.get(request.first("access_token"))
        if user_id is None:
            raise Refused(401, "M_UNKNOWN_TOKEN")
        return Reply(200, {"sub": user_id})

    async def _profile(self, request: Received) -> Reply:
        profile = self._world.profiles.get(request.first("user_id"))
        if profile is None:
            raise Refused(404, "M_NOT_FOUND")
        name = request.first("field")
        return Reply(200, {name: profile[name]} if name in profile else {} if name else profile)

    async def _directory(self, request: Received) -> Reply:
        room_id = self._world.aliases.get(request.first("room_alias"))
        if room_id is None:
            raise Refused(404, "M_NOT_FOUND")
        room = self._world.rooms.get(room_id)
        servers = {self._world.name} | (set() if room is None else room.servers())
        return Reply(200, {"room_id": room_id, "servers": sorted(servers)})

    async def _public_rooms(self, _: Received) -> Reply:
        chunk = [self._summary(room) for room in self._world.rooms.values() if room.is_public]
        return Reply(200, {"chunk": chunk, "total_room_count_estimate": len(chunk)})

    async def _hierarchy(self, request: Received, room_id: str) -> Reply:
        room = self._world.room(room_id)
        children = [
            event.pdu
            for (type, _), event in room.current.items()
            if type == "m.space.child" and event.pdu["content"]
        ]
        rooms = self._world.rooms
        return Reply(
            200,
            {
                "room": self._summary(room) | {"children_state": [stripped(pdu) for pdu in children]},
                "children": [
                    self._summary(rooms[pdu["state_key"]]) | {"children_state": []}
                    for pdu in children
                    if pdu["state_key"] in rooms
                ],
                "inaccessible_children": [],
            },
        )

    def _summary(self, room: RemoteRoom) -> dict[str, Any]:
        state = {type: event.pdu["content"] for (type, key), event in room.current.items() if key == ""}
        members = [key for type, key in room.current if type == "m.room.member"]
        visibility = state.get("m.room.history_visibility", {}).get("history_visibility")
        summary = {
            "room_id": room.room_id,
            "num_joined_members": sum(room.membership(user_id) == "join" for user_id in members),
            "world_readable": visibility == "world_readable",
            "guest_can_join": False,
            "join_rule": state.get("m.room.join_rules", {}).get("join_rule", "invite"),
            "room_version": room.version_id,
            "name": state.get("m.room.name", {}).get("name"),
            "topic": state.get("m.room.topic", {}).get("topic"),
            "room_type": state.get("m.room.create", {}).get("type"),
        }
        return {key: value for key, value in summary.items() if value is not None}
