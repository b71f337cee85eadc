"""How the log looks, and what never stands in it (decision 28)."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Collection
from typing import Any, Final

import orjson

from relay.app.redaction import Redactor
from relay.cli.lines import LinesHandler
from relay.ids import current_request

_HIDDEN: Final = "[secret]"
_BEARER: Final = re.compile(r"(?<=Bearer )(?!\[secret\])[^\s\"',]+", re.IGNORECASE)
_PLAIN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    """One line a record; configured secrets and whatever follows ``Bearer`` are blanked, in tracebacks too."""

    def __init__(self, secrets: Collection[str], headers: Collection[str] = ()) -> None:
        super().__init__()
        self._redactor = Redactor(secrets, _HIDDEN, headers)

    def format(self, record: logging.LogRecord) -> str:
        return _BEARER.sub(_HIDDEN, self._redactor.text(self.line(record)))

    def line(self, record: logging.LogRecord) -> str:
        raise NotImplementedError

    def trouble(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class TextFormatter(_Formatter):
    """``2026-11-22T11:14:01.123Z info relay.server: message key=value``."""

    def line(self, record: logging.LogRecord) -> str:
        words = [f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"]
        words += [f"{key}={value}" for key, value in _fields(record).items()]
        trouble = self.trouble(record)
        # A client's words must not be able to begin a line of the log.
        first = " ".join(words).replace("\r", "\\r").replace("\n", "\\n")
        return f"{first}\n{trouble}" if trouble else first


class JSONFormatter(_Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, then the record's own fields."""

    def line(self, record: logging.LogRecord) -> str:
        document = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if trouble := self.trouble(record):
            document["traceback"] = trouble
        return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


_FORMATTERS: Final = {"text": TextFormatter, "json": JSONFormatter}


class RequestFilter(logging.Filter):
    """Gives each line the id of the request that it is written for, where it has none of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        identifier = current_request.get()
        if identifier and "request_id" not in record.__dict__:
            record.request_id = identifier
        return True


def configure(level: str, form: str, secrets: Collection[str] = (), headers: Collection[str] = ()) -> LinesHandler:
    """Write the log to stderr. Other libraries' warnings come too, their chatter does not.

    Until ``start`` of the handler that comes back, only what stderr takes at once is written.
    """
    handler = LinesHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[form](secrets, headers))
    handler.addFilter(RequestFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("relay").setLevel(level.upper())
    return handler


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller passed as ``extra``."""
    return {key: value for key, value in record.__dict__.items() if key not in _PLAIN}
