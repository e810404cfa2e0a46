"""Profiles of other servers' users.

Spec: server-server-api "Querying for information", GET /query/profile.
"""

import asyncio
from typing import Any

import msgspec
from cachetools import TTLCache

from hs.matrix.errors import NotFound
from hs.matrix.ids import server_of
from hs.net.bounds import Bounds
from hs.net.errors import RemoteError
from hs.net.federation_client import FederationClient

# Clients ask for the same few people again and again while they draw a room.
_REMEMBERED = 5000
_REMEMBERED_S = 60.0
# The spec's bound for a whole profile, and what JSON is around it.
_BOUNDS = Bounds(80 * 1024, 10.0)
_NAMES = ("displayname", "avatar_url")


class RemoteProfiles:
    """Asks the servers of users."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client
        self._known: TTLCache[str, dict[str, Any]] = TTLCache(_REMEMBERED, _REMEMBERED_S)
        self._asking: dict[str, asyncio.Task[dict[str, Any]]] = {}

    async def get_json(self, user_id: str) -> bytes:
        """The whole profile, a JSON object; NotFound where their server knows none, or cannot be asked."""
        return msgspec.json.encode(await self._get(user_id))

    async def get_field_json(self, user_id: str, field: str) -> bytes:
        """The value of one field; NotFound where there is none."""
        profile = await self._get(user_id)
        if field not in profile:
            raise NotFound("this user has no such field")
        return msgspec.json.encode(profile[field])

    async def _get(self, user_id: str) -> dict[str, Any]:
        known = self._known.get(user_id)
        if known is not None:
            return known
        task = self._asking.get(user_id)
        if task is None:
            task = self._asking[user_id] = asyncio.create_task(self._ask(user_id))
            task.add_done_callback(lambda done: self._asking.pop(user_id, None))
        return await asyncio.shield(task)

    async def _ask(self, user_id: str) -> dict[str, Any]:
        try:
            answer = await self._client.ask(
                "GET",
                server_of(user_id),
                "/_matrix/federation/v1/query/profile",
                dict[str, Any],
                query={"user_id": user_id},
                bounds=_BOUNDS,
            )
        except RemoteError as error:
            raise NotFound("the profile of this user cannot be had") from error
        # What is no text where clients count on one is left out.
        profile = {
            name: value for name, value in answer.items() if name not in _NAMES or isinstance(value, str)
        }
        self._known[user_id] = profile
        return profile
