"""Filters. Spec: client-server-api "Filtering"."""

from typing import Any

from hs.accounts.filters import Filters
from hs.client_api.own_user import check_own
from hs.client_api.paths import v3
from hs.http.endpoint import Auth, Caller, RawJson, endpoint


class FiltersApi:
    """Takes and gives back filters."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters

    @endpoint("POST", *v3("/user/{user_id}/filter"), auth=Auth.USER, limit="other")
    async def post_filter(self, caller: Caller, user_id: str, body: RawJson) -> dict[str, Any]:
        """The id under which the filter can be named."""
        check_own(caller, user_id)
        return {"filter_id": await self._filters.add(user_id, body.body)}

    @endpoint("GET", *v3("/user/{user_id}/filter/{filter_id}"), auth=Auth.USER, limit="other")
    async def get_filter(self, caller: Caller, user_id: str, filter_id: str) -> RawJson:
        """The filter as it was uploaded."""
        check_own(caller, user_id)
        return RawJson(await self._filters.get_json(user_id, filter_id))
