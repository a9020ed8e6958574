"""Where in a text the words stand that were looked for: as pieces, which a page escapes and marks by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from storage_meta import queries
from storage_meta.errors import InvalidArgument
from storage_meta.models import StorageObject
from storage_meta.queries import Query

MOST_VALUES = 20
"""Values of one object's metadata that are shown with hits."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text as it is stored. hit: it was looked for. All pieces together are the text, unless it was cut."""

    text: str
    hit: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A value of an object that holds hits. name: object_key, content_type, or the way through metadata, as owner.name."""

    name: str
    pieces: list[Piece]


def headline(
    text: str, query: str | Query | None, *, prefix_match: bool = False, around: int | None = None
) -> list[Piece]:
    """The pieces of a text. around: keep so many characters on both sides of the first hit, … for the rest.

    Words are those of the query that are not excluded; a phrase is marked where all of it stands. What cannot be read as a
    query marks nothing.
    """
    phrases = _phrases(query, prefix_match)
    runs = list(_runs(text))
    marked = _marked(runs, phrases)
    pieces = [
        Piece("".join(runs[place].text for place in places), hit)
        for hit, places in groupby(range(len(runs)), key=marked.__contains__)
    ]
    return pieces if around is None else _cut(pieces, around)


def found_in(
    head: StorageObject, query: str | Query | None, *, prefix_match: bool = False, around: int | None = 60
) -> list[Found]:
    """What of an object holds hits, at most 20 values of metadata: key and content type first."""
    asked = _query(query, prefix_match)
    texts = [("object_key", head.object_key), ("content_type", head.content_type), *_values(head.metadata)]
    found = (Found(name, headline(text, asked, around=around)) for name, text in texts)
    return [one for one in found if any(piece.hit for piece in one.pieces)][: MOST_VALUES + 2]


@dataclass(frozen=True, slots=True)
class _Run:
    """Characters that make words, or that stand between them (words: none)."""

    text: str
    words: tuple[str, ...]


def _query(query: str | Query | None, prefix_match: bool) -> Query | None:
    if query is None or isinstance(query, Query):
        return query
    try:
        return queries.parse(query, prefix_match=prefix_match)
    except InvalidArgument:
        return None


def _phrases(query: str | Query | None, prefix_match: bool) -> list[tuple[tuple[str, ...], bool]]:
    asked = _query(query, prefix_match)
    return [] if asked is None else list(asked.phrases())


def _runs(text: str) -> Iterator[_Run]:
    for spoken, characters in groupby(text, key=queries.speaks):
        run = "".join(characters)
        yield _Run(run, tuple(queries.words(run)) if spoken else ())


def _marked(runs: list[_Run], phrases: list[tuple[tuple[str, ...], bool]]) -> set[int]:
    """Places of runs that hold a word of a phrase that stands there in full."""
    said = [(word, place) for place, run in enumerate(runs) for word in run.words]
    marked: set[int] = set()
    for phrase, prefix in phrases:
        for start in range(len(said) - len(phrase) + 1):
            window = said[start : start + len(phrase)]
            if all(
                word == wanted or (prefix and n == len(phrase) - 1 and word.startswith(wanted))
                for n, ((word, _), wanted) in enumerate(zip(window, phrase, strict=True))
            ):
                marked.update(place for _, place in window)
    return marked


def _cut(pieces: list[Piece], around: int) -> list[Piece]:
    """Of a text with a hit: the hit, `around` characters before it and as many after it."""
    first = next((place for place, piece in enumerate(pieces) if piece.hit), 0)
    kept = []
    if first:
        [before] = pieces[:first]  # pieces that are no hits have hits between them
        kept.append(before if len(before.text) <= around else Piece("…" + before.text[-around:]))
    left = around
    for place, piece in enumerate(pieces[first:]):
        if len(piece.text) <= left or (place == 0 and piece.hit):
            kept.append(piece)
        else:
            kept.append(Piece(piece.text[:left] + "…", piece.hit))
            break
        left -= 0 if place == 0 and piece.hit else len(piece.text)
    return kept


def _values(metadata: Any) -> Iterator[tuple[str, str]]:
    """Texts and numbers at any depth with the way to them."""
    waiting: list[tuple[str, Any]] = [("", metadata)]
    while waiting:
        way, value = waiting.pop(0)
        if isinstance(value, Mapping):
            waiting[:0] = [(f"{way}.{name}" if way else str(name), below) for name, below in value.items()]
        elif isinstance(value, list):
            waiting[:0] = [(f"{way}.{place}" if way else str(place), below) for place, below in enumerate(value)]
        elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield way, str(value)
