"""How deep JSON is nested, told from its bytes: decoders and encoders of the language give up at 1,000 levels."""

from typing import Final

# Both kinds of brackets become one, quotes stay, everything else goes.
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHERS: Final = bytes(set(range(256)) - set(b'{}[]"'))


def is_nested_deeper(data: bytes, depth: int) -> bool:
    """Whether valid JSON has more than `depth` levels of arrays and objects."""
    if data.count(b"{") + data.count(b"[") <= depth:
        return False
    if b"\\" in data:
        # Pairs from the left, so that what is left before a quote escapes it.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    data = data.translate(_BRACKETS, _OTHERS)
    # Strings without brackets first, which are most. Whether these are the quotes of one string or of two
    # neighbours makes no difference to what is outside.
    data = b"".join(data.replace(b'""', b"").split(b'"')[::2])
    for _ in range(depth):
        if not data:
            return False
        # Each turn takes the innermost level.
        data = data.replace(b"[]", b"")
    return bool(data)
