"""Whatever anybody writes into headers, pages and addresses."""

import time
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from hs.config import PRIVATE_NETWORKS
from hs.matrix.ids import parse_server_name
from hs.net.addresses import AddressGuard
from hs.net.client import HttpAnswer
from hs.net.errors import AddressRefused
from hs.net.well_known import lifetime_s, parse_page

GUARD = AddressGuard(PRIVATE_NETWORKS, ())
NOW_MS = time.time_ns() // 1_000_000

header = st.text(max_size=40) | st.from_regex(r"(max-age|no-cache|public) ?= ?\"?[0-9-]{0,30}\"?,? ?")


@given(header, header)
def test_lifetimes_are_within_bounds(control: str, expires: str) -> None:
    for headers in ({"Cache-Control": control}, {"Expires": expires}):
        assert 300 <= lifetime_s(headers, NOW_MS) <= 48 * 3600


@given(st.binary(max_size=200) | st.from_regex(rb'\{"m\.server":"[^"]{0,40}"\}', fullmatch=True))
def test_pages_name_servers_or_nothing(body: bytes) -> None:
    name = parse_page(HttpAnswer(200, CIMultiDictProxy(CIMultiDict()), body))
    if name is not None:
        port = parse_server_name(name).port
        assert port is None or 0 < port < 65536


@given(st.integers(0, 2**32 - 1) | st.sampled_from([0, 2130706433, 10 << 24, 0xA9FEA9FE, 0x08080808]))
def test_an_address_is_judged_alike_in_all_its_forms(number: int) -> None:
    plain, outcomes = IPv4Address(number), set()
    mapped, nat64 = IPv6Address(0xFFFF << 32 | number), IPv6Address(0x64FF9B << 96 | number)
    six_to_four = IPv6Address(0x2002 << 112 | number << 80 | 1)
    for form in (plain, mapped, nat64, six_to_four):
        for text in (str(form), form.exploded if form.version == 4 else f"[{form.exploded}]"):
            try:
                GUARD.check(text)
                outcomes.add(True)
            except AddressRefused:
                outcomes.add(False)
    assert len(outcomes) == 1


@given(st.text(max_size=50))
def test_what_is_no_address_is_refused(text: str) -> None:
    try:
        GUARD.check(text)
    except AddressRefused:
        return
    assert set(text) <= set("0123456789abcdefABCDEF.:[]%") or "%" in text


@pytest.mark.parametrize(
    "text", ["1.2.3.4.", "1.2.3.04", "::ffff:1.2.3.4.5", "１.2.3.4", "1.2.3.4/8", "1.2.3.4 "]
)
def test_near_addresses(text: str) -> None:
    with pytest.raises(AddressRefused):
        GUARD.check(text)
