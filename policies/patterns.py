"""Which models a pattern names, and which storage addresses. Pure.

`*` is any run of characters, `/` included. In model patterns `?` is one character and ASCII case is ignored; in storage
patterns everything but `*` is literal, compared by code point. All else is literal in both: `[` too, unlike fnmatch.
"""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=20_000)
def _compile(pattern: str, storage: bool) -> re.Pattern[str]:
    """A regular expression for fullmatch, in time linear in the text for each star.

    Each run between two stars is matched where it first occurs and never again (an atomic group): that is enough for
    stars, and without it `*a*a*a*a*b` takes time without end.
    """
    first, *rest = (_literal(run, storage) for run in re.sub(r"\*+", "*", pattern).split("*"))
    if rest:
        *middle, last = rest
        first += "".join(f"(?>.*?{run})" for run in middle) + f".*{last}"
    return re.compile(first, re.DOTALL if storage else re.DOTALL | re.ASCII | re.IGNORECASE)


def _literal(run: str, storage: bool) -> str:
    return re.escape(run) if storage else ".".join(re.escape(part) for part in run.split("?"))


def names_model(pattern: str, model: str) -> bool:
    """Whether `pattern` names `model` (`<provider>/<name>`): with a slash it meets the whole, else the whole name part.

    Only the first slash of a model parts provider and name: `anthropic.*` does not name `bedrock/eu/anthropic.claude`.
    """
    subject = model if "/" in pattern else model.partition("/")[2]
    return _compile(pattern, False).fullmatch(subject) is not None


def covers_uri(pattern: str, uri: str) -> bool:
    """Whether a storage `pattern` covers a canonical `uri`."""
    return _compile(pattern, True).fullmatch(uri) is not None


def covers_below(pattern: str, beginning: str) -> bool:
    """Whether a storage `pattern` covers all that begins so."""
    return pattern.endswith("*") and covers_uri(pattern, beginning)


def covers_some_below(pattern: str, beginning: str) -> bool:
    """Whether a storage `pattern` covers anything that begins so."""
    literal, star, _ = pattern.partition("*")
    return literal.startswith(beginning) or (bool(star) and beginning.startswith(literal))


def canonical_uri(uri: str) -> bool:
    """Whether `uri` has one spelling only: anything else could mean one thing here and another in the store.

    That is `scheme://…` without `%`, backslash, control characters and empty, `.` or `..` segments; a slash may end it.
    """
    scheme, separator, path = uri.partition("://")
    if not separator or re.fullmatch(r"[a-z0-9]+", scheme) is None or re.search(r"[%\\\x00-\x1f\x7f-\x9f]", path):
        return False
    return not {"", ".", ".."} & {*path.removesuffix("/").split("/")}
