"""Filters of syncs are remembered, and long ones do not fill the memory."""

import json

import pytest

from hs.client_api.compiled_filters import CompiledFilters
from hs.matrix.errors import BadJson, NotFound, NotJson
from hs.matrix.filters import Filter, parse_filter

ALICE, BOB = "@alice:test.example", "@bob:test.example"


class Uploaded:
    """Filters by user and id."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}

    async def get_filter(self, user_id: str, filter_id: str) -> Filter:
        """The filter; NotFound."""
        if (user_id, filter_id) not in self.texts:
            raise NotFound("no such filter")
        return parse_filter(self.texts[user_id, filter_id])


def long_filter(number: int) -> str:
    """About 50 KB."""
    return json.dumps({"room": {"rooms": [f"!{number}.{i}" for i in range(5000)]}})


async def test_the_same_filter_is_compiled_once() -> None:
    uploaded = Uploaded()
    filters = CompiledFilters(uploaded)
    text = '{"room":{"timeline":{"limit":5}}}'
    uploaded.texts = {(ALICE, "0"): text, (BOB, "1"): text + " "}
    found = [await filters.find(*key) for key in ((ALICE, "0"), (BOB, "1"), (ALICE, text), (ALICE, "0"))]
    assert len(set(map(id, found))) == 1
    assert found[0].definition.room.timeline.limit == 5
    assert await filters.find(ALICE, None) is await filters.find(BOB, None)


async def test_an_id_means_the_filter_of_its_user() -> None:
    uploaded = Uploaded()
    uploaded.texts = {(ALICE, "0"): "{}", (BOB, "0"): '{"room":{"timeline":{"limit":5}}}'}
    filters = CompiledFilters(uploaded)
    assert await filters.find(ALICE, "0") is not await filters.find(BOB, "0")


@pytest.mark.parametrize("inline", [True, False])
async def test_long_filters_make_room_for_each_other(inline: bool) -> None:
    uploaded = Uploaded()
    filters = CompiledFilters(uploaded, max_bytes=5_000_000)
    for number in range(20):
        uploaded.texts[ALICE, str(number)] = long_filter(number)
        await filters.find(ALICE, long_filter(number) if inline else str(number))
    assert 1 <= len(filters) <= 5


async def test_the_longest_filter_that_there_is_can_be_used() -> None:
    filters = CompiledFilters(Uploaded())
    text = json.dumps({"room": {"rooms": [f"!{i}" for i in range(9_000)]}}, separators=(",", ":"))
    assert len(text) > 64_000
    assert (await filters.find(ALICE, text)).accepts_room("!8999")


async def test_what_is_no_filter_is_told() -> None:
    filters = CompiledFilters(Uploaded())
    for text, error in (("0", NotFound), ("{", NotJson), ('{"room":7}', BadJson)):
        with pytest.raises(error):
            await filters.find(ALICE, text)
