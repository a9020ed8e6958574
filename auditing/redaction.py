"""Secrets never reach a log: by the name of a column or key, and by their look in any text.

The same rules stand in sql/0001_redaction.up.sql for the triggers; a test drives both with the same corpus.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any

REDACTED = "[redacted]"

_NAMES = re.compile(
    r"(password|passwd|secret|token|private_?key|api_?key|credential|credentials|authorization|cookie)(_hash)?\Z",
    re.IGNORECASE | re.ASCII,
)
_PRICES = re.compile(r"cost_per_([a-z]+_)?token\Z", re.IGNORECASE | re.ASCII)
# Ours keep their public prefix, which names the key without opening anything. A token is found inside a longer word too
# (`old_cpk_live_…_backup`); those whose beginning is a common syllable need a border before them.
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(cpk_(?:live|test)_[0-9A-Za-z]{12})_[0-9A-Za-z]{49}"), r"\1" + REDACTED),
    (re.compile(r"cpr_[0-9A-Za-z]{49}"), REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]*?PRIVATE KEY-----.*?(-----END [A-Z ]*?PRIVATE KEY-----|\Z)", re.DOTALL), REDACTED),
    (
        re.compile(r"(?<![0-9A-Za-z])(Bearer|Basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE | re.ASCII),
        r"\1 " + REDACTED,
    ),
    (re.compile(r"(?<![0-9A-Za-z])sk-[A-Za-z0-9_-]{16,}"), REDACTED),
    (re.compile(r"(?<![0-9A-Za-z])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"), REDACTED),
    (re.compile(r"(?<![0-9A-Za-z])(AKIA|ASIA)[0-9A-Z]{16}"), REDACTED),
    (re.compile(r"(?<![0-9A-Za-z])AIza[0-9A-Za-z_-]{35}"), REDACTED),
    (re.compile(r"(?<![0-9A-Za-z])gh[pousr]_[0-9A-Za-z]{36,}"), REDACTED),
    # up to the last @ of the authority: a password may hold one
    (re.compile(r"://([^/ \t\r\n:@]*):[^/ \t\r\n]*@"), r"://\1:" + REDACTED + "@"),
)
_SUSPICIOUS = re.compile(
    r"cpk_|cpr_|PRIVATE KEY|bearer|basic|sk-|eyJ|AKIA|ASIA|AIza|gh[pousr]_|://[^/ \t\r\n]*@", re.IGNORECASE | re.ASCII
)


def _may_be_secret(text: str) -> bool:
    """Whether a look is worth its time: words one by one take a thirtieth of it."""
    low = text.lower()
    return (
        "sk-" in low or "bearer" in low or "basic" in low or "://" in low or "eyj" in low or "cpk_" in low or "cpr_" in low
        or "private key" in low or "akia" in low or "asia" in low or "aiza" in low or "ghp_" in low or "gho_" in low
        or "ghu_" in low or "ghs_" in low or "ghr_" in low
    ) and _SUSPICIOUS.search(text) is not None  # fmt: skip


@lru_cache(maxsize=1024)
def names_a_secret(name: str) -> bool:
    """Whether a column or key of that name holds a secret: `client_secret` does; `prompt_tokens` and
    `input_cost_per_token` do not."""
    return _NAMES.search(name) is not None and _PRICES.search(name) is None


def is_clean(text: str) -> bool:
    """Whether `clean` leaves a text as it is, as it does most; may say no to some that it would."""
    return text.isascii() and "\x00" not in text and not _may_be_secret(text)


def clean(text: str) -> str:
    """The text as PostgreSQL takes it: NUL and lone surrogates become U+FFFD; and without secrets."""
    if "\x00" in text or not text.isascii():
        text = text.replace("\x00", "�").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return redact_text(text)


def redact_text(text: str) -> str:
    """The text with everything that looks like a secret replaced."""
    if not _may_be_secret(text):
        return text
    for pattern, replacement in _TEXTS:
        text = pattern.sub(replacement, text)
    return text


def redact(value: Any, columns: Collection[str] = ()) -> Any:
    """A JSON value without secrets, at any depth; keys in `columns` are secret too. None stays None."""
    if isinstance(value, dict):
        return {
            key: REDACTED
            if item is not None and (key in columns or names_a_secret(str(key)))
            else redact(item, columns)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item, columns) for item in value]
    return redact_text(value) if isinstance(value, str) else value
