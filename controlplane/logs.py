"""Log lines: one JSON object, or one text line, each redacted when it is finished."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

# What a record may carry by `extra=…`, in this order.
FIELDS = ("request_id", "tenant_id", "actor", "method", "path", "status", "duration_ms")

_NAMES = r"password|passwd|secret|token|private_key|api_key|credentials?|authorization|cookie"
_REDACTIONS = [
    # Our own tokens: the public part of a key stays, it is what people look for.
    (re.compile(r"\b(cpk_(?:live|test)_[0-9A-Za-z]{12})_[0-9A-Za-z]{20,}"), r"\1"),
    (re.compile(r"\bcpr_[0-9A-Za-z]{20,}"), "cpr_[redacted]"),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 [redacted]"),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{16,}"), "[redacted]"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@]+@", re.IGNORECASE), r"\1:[redacted]@"),
    # Cookies to the end of the header: each of them is one.
    (re.compile(r"""(cookie["']?\s*[:=]\s*["']?)[^"'\n]+""", re.IGNORECASE), r"\1[redacted]"),
    # name=value, "name": "value", Name: value; the name may have a prefix (db_password) or `_hash` behind.
    (
        re.compile(
            rf"""((?:{_NAMES})(?:_hash)?\\?["']?\s*[=:]\s*)(\\?["'])?(?!\[redacted\])[^\s"'\\&,;}}]+""",
            re.IGNORECASE,
        ),
        r"\1\2[redacted]",
    ),
]


def redact(line: str) -> str:
    """The line without key tokens, passwords in URLs, credentials of headers and values of secret names."""
    for pattern, replacement in _REDACTIONS:
        line = pattern.sub(replacement, line)
    return line


class JsonFormatter(logging.Formatter):
    """One object a line: ts (UTC), level, logger, msg, then what the record carries, exc last."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "msg": redact(record.getMessage()),
        }
        fields |= {name: redact(str(getattr(record, name))) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            fields["exc"] = redact(self.formatException(record.exc_info))
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """For a terminal: time, level, logger, message; a traceback follows on its own lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
