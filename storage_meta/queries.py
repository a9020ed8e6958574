"""What people type to find something, taken apart: pure, no SQL. No text is ever read as the language of to_tsquery."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from storage_meta.errors import InvalidArgument

CHARACTERS = 4096
"""Characters of a query that count, normalised."""

TERMS = 64
"""Terms of a query that count."""

PREFIX = 3
"""Characters that the beginning of a word has at least: of fewer, the index would be read by halves."""

_TOKEN = re.compile(r'(?P<signs>[-!]*)"(?P<phrase>[^"]*)(?:"|\Z)|(?P<either>\|+)|(?P<word>[^\s"|]+)')
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~\s\x00-\x1f]+")
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or several that stand next to each other. prefix: the last is the beginning of one, if it is long enough."""

    text: str
    excluded: bool = False
    prefix: bool = False

    @property
    def sure(self) -> bool:
        """Whether the database sees a word in it. Of signs beyond ASCII only its own tables know."""
        return any((character.isascii() and character.isalnum()) or character.isalpha() for character in self.text)


@dataclass(frozen=True, slots=True)
class Query:
    """terms: all must hold, of each one of its alternatives. text: what counts of what was typed. cut: that this is not all."""

    terms: tuple[tuple[Term, ...], ...]
    text: str
    cut: bool = False

    @property
    def certain(self) -> bool:
        """Whether the words of one term at least can be looked up in an index, as far as can be told without the database."""
        return any(
            any(term.sure for term in either) and not any(term.excluded for term in either) for either in self.terms
        )

    @property
    def doubtful(self) -> bool:
        """Whether it holds what may be a word and may be none."""
        return not all(term.sure for either in self.terms for term in either)

    def as_json(self) -> list[list[dict[str, str | bool]]]:
        """As the SQL function cp_storage_query takes it."""
        return [
            [{"words": term.text, "not": term.excluded, "prefix": term.prefix} for term in either]
            for either in self.terms
        ]

    def phrases(self) -> Iterator[tuple[tuple[str, ...], bool]]:
        """What is looked for, to be marked where it stands: words in lower case, and whether the last is a beginning."""
        for either in self.terms:
            for term in either:
                if not term.excluded and (found := tuple(words(term.text))):
                    yield found, term.prefix and len(found[-1]) >= PREFIX


def parse(typed: object, *, prefix_match: bool = False) -> Query:
    """Take apart what somebody typed. Raises InvalidArgument for what is no text, or excludes without naming anything.

    All terms must hold. "a phrase"; - or ! before a term excludes it; `or` or | between two terms: either. Everything else is
    a word or punctuation. An unclosed phrase runs to the end. prefix_match: the last word is the beginning of one.
    """
    if not isinstance(typed, str):
        raise InvalidArgument(
            message=f"query is {type(typed).__name__}, no text. Give text, or None for filters alone."
        )
    text, cut = _normalised(typed)
    items: list[Term | None] = []
    counted = 0
    for item in _items(text):
        counted += item is not None
        if counted > TERMS:
            cut = True
            break
        items.append(item)
    if prefix_match and items and isinstance(last := items[-1], Term) and not last.excluded:
        items[-1] = Term(last.text, prefix=True)
    found = Query(terms=tuple(_joined(items)), text=text, cut=cut)
    if found.terms and not found.certain and not found.doubtful:
        raise only_excludes()
    return found


def only_excludes() -> InvalidArgument:
    """Everything but a word is nearly everything: no index finds that."""
    return InvalidArgument(message="The query only says what is not wanted. Add a word that is.")


def words(text: str) -> list[str]:
    """The words of a text, in lower case, nearly as the database splits it; to mark them, not to find them."""
    normal = unicodedata.normalize("NFKC", text)
    return "".join(character if speaks(character) else " " for character in normal).lower().split()


@lru_cache(maxsize=4096)
def speaks(character: str) -> bool:
    """Whether a character is part of a word."""
    return any(unicodedata.category(part)[0] in "LMN" for part in unicodedata.normalize("NFKC", character))


def _normalised(typed: str) -> tuple[str, bool]:
    # normalising may make four characters one, but no more
    text = unicodedata.normalize("NFKC", _NO_TEXT.sub(" ", typed[: 4 * CHARACTERS]))
    return text[:CHARACTERS], len(typed) > 4 * CHARACTERS or len(text) > CHARACTERS


def _items(text: str) -> Iterator[Term | None]:
    """Terms, and None for |; `or` is a term yet."""
    for token in _TOKEN.finditer(text):
        if token["either"]:
            yield None
        elif (phrase := token["phrase"]) is not None:
            if _says(phrase):
                yield Term(phrase, excluded=bool(token["signs"]))
        elif _says(word := token["word"]):
            yield Term(word.lstrip("-!"), excluded=word[0] in "-!")


def _says(text: str) -> bool:
    """Whether more than ASCII punctuation is in it."""
    return bool(_PUNCTUATION.sub("", text))


def _joined(items: list[Term | None]) -> Iterator[tuple[Term, ...]]:
    """Terms with their alternatives. `or` at the beginning or the end is a word, | there is nothing."""
    either: list[Term] = []
    joining = False
    for place, item in enumerate(items):
        follows = place + 1 < len(items)
        if item is None or (item.text.lower() == "or" and not item.excluded and either and not joining and follows):
            joining = bool(either) and follows
            continue
        if either and not joining:
            yield tuple(either)
            either = []
        either.append(item)
        joining = False
    if either:
        yield tuple(either)
