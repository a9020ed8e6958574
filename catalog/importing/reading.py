"""A price file as text: fetched, decoded, taken apart with the numbers as they were written and every place known. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import URLError

from catalog.errors import ImportRefused

MAX_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 30

_URL = re.compile(r"https?://", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n]*")


class Number(str):
    """A number as it was written: `4.2000000000000006e-08` would be another one as a float."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Member:
    """One name and value of a JSON object. at: where the name begins; start, end: of the value. repeated: names that
    an object inside of the value has twice."""

    name: str
    value: Any
    at: int
    start: int
    end: int
    repeated: tuple[str, ...]


def load(source: str | Path) -> tuple[str, bytes]:
    """Name and content of a file, by its path or http(s) URL. Raises ImportRefused("import_unreadable")."""
    text = str(source)
    try:
        if _URL.match(text):
            name, data = text.partition("?")[0].rstrip("/").rpartition("/")[2], _fetch(text)
        else:
            name = Path(source).name
            with Path(source).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError, HTTPException) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise _unreadable(f"{text[:500]} cannot be read: {why}. Check the path or address.") from error
    return name.encode(errors="replace").decode(), data  # a name of a file is bytes, not text


def decode(name: str, data: bytes) -> str:
    """The text of a file, without a byte order mark. Raises ImportRefused("import_unreadable")."""
    if len(data) > MAX_BYTES:
        raise _unreadable(
            f"{name} is larger than {MAX_BYTES // 1024**2} MiB. A price file has a few; check what it is."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"{name} is no UTF-8 text: line {line} has the byte {data[error.start]:#04x}.") from None


def members(name: str, text: str, at: int = 0) -> Iterator[Member]:
    """The names and values of the JSON object at a place, one after the other, repeated names too.

    At place 0 the object has to be all there is. Raises ImportRefused("import_unreadable") with line and column.
    """
    try:
        yield from _members(text, at)
    except json.JSONDecodeError as error:
        raise _unreadable(
            f"{name} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}. "
            "If it was cut off, get it again; nothing was changed."
        ) from None
    except RecursionError:
        raise _unreadable(f"{name} is nested too deeply to be a price file. Check what it is.") from None


def _members(text: str, at: int) -> Iterator[Member]:
    repeated: list[str] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            repeated.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        return built

    decoder = json.JSONDecoder(
        object_pairs_hook=build, parse_int=Number, parse_float=Number, parse_constant=Number
    )  # NaN is read, for the check of the entry to name it
    whole = at == 0
    at = _expect(text, at, "{", "Expecting an object")
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            begin = at
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
            key, at = decoder.raw_decode(text, at)
            start = _expect(text, at, ":", "Expecting ':' delimiter")
            repeated.clear()
            value, end = decoder.raw_decode(text, start)
            yield Member(key, value, begin, start, end, tuple(repeated))
            at = _skip(text, end)
            if text[at : at + 1] == "}":
                at += 1
                break
            at = _expect(text, at, ",", "Expecting ',' delimiter")
    if whole and _skip(text, at) < len(text):
        raise json.JSONDecodeError("Extra data", text, _skip(text, at))


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, character: str, otherwise: str) -> int:
    """The place behind a character and the space around it."""
    at = _skip(text, at)
    if text[at : at + 1] != character:
        raise json.JSONDecodeError(otherwise, text, at)
    return _skip(text, at + 1)


def _fetch(url: str) -> bytes:
    """GET over http(s), redirects too: without the handlers of urllib that open files and FTP."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler, request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    answer = opener.open(url, timeout=TIMEOUT_S)
    if answer is None:
        raise URLError("it leads away from http")
    with answer:
        data: bytes = answer.read(MAX_BYTES + 1)
    return data


def _unreadable(message: str) -> ImportRefused:
    return ImportRefused("import_unreadable", message)
