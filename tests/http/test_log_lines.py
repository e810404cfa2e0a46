"""Names that others have chosen stay within the line of the log that tells them."""

import io
import logging

import pytest

from hs.config import LogConfig
from hs.logs import set_up_logging


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_name_is_no_line_and_no_escape_sequence(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up_logging(LogConfig(format=format))
        logging.getLogger("test").warning("%s is given up", "$a\r\nb\x1b[31m\x85\u2028\u202e:a.example")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    text = written.getvalue()
    assert text.endswith("\n")
    assert "\x1b" not in text
    # JSON quotes what ends a line for machines; people's eyes are another matter.
    assert len(text.splitlines() if format == "text" else text[:-1].split("\n")) == 1
    assert "is given up" in text
