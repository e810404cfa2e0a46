"""What is written to standard error: text for people, JSON lines for machines."""

import logging
import re
import sys
import time

import msgspec

from hs.config import LogConfig

# Ends of lines, escape sequences of terminals, and what turns the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """One line for people; what servers and clients have named stays on it, whatever characters it has."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without the traceback; control characters are written as escapes."""
        line = super().formatMessage(record)
        return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def set_up_logging(config: LogConfig) -> None:
    """Send all records of the wanted level to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if config.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())
    # Request lines would hold access tokens of the deprecated query parameter.
    logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
