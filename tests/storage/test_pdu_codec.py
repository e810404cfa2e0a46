"""How PDUs are stored: what goes in comes out, whatever its size; damage is noticed."""

import random

import pytest

from hs.storage.pdu_codec import decode_pdu, encode_pdu

PDU = b'{"auth_events":["$a","$b"],"content":{"body":"hello","msgtype":"m.text"},"depth":7,"type":"m.room.message"}'


@pytest.mark.parametrize("size", [0, 1, 490, 4095, 4096, 4097, 9000, 33_000, 65_536])
def test_what_goes_in_comes_out(size: int) -> None:
    noise = random.Random(size).randbytes(size)
    for pdu in (noise, (PDU * (size // len(PDU) + 1))[:size]):
        assert decode_pdu(encode_pdu(pdu)) == pdu


def test_an_ordinary_pdu_takes_less_room_than_its_text() -> None:
    assert len(encode_pdu(PDU)) < len(PDU) // 2


@pytest.mark.parametrize("stored", [b"", b"\x00abc", b"\x01", b"\x01\xff\xff", b"\x7f" + PDU])
def test_what_is_not_ours_is_no_pdu(stored: bytes) -> None:
    with pytest.raises(ValueError, match="stored event"):
        decode_pdu(stored)
