"""Names of models: which keys of the catalog a name may mean, the most direct first. Pure; the look-up is in `resolution`.

The rules restate those of LiteLLM 1.109.1 for its price file: docs/models.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ROUTES = ("bedrock/", "converse/", "invoke/", "chat_completions/", "openai/", "mantle/", "nova/", "nova-2/")
"""What callers of Bedrock put before a model to say how it is called: no part of its name."""

GEOS = frozenset({"us", "eu", "apac", "jp", "au", "global", "us-gov"})
"""Where an inference profile of Bedrock may run: `us.` before a model."""

DEFAULT_SIZE = "1024-x-1024"

_FAMILIES = ("vertex_ai", "fireworks_ai", "bedrock")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]", re.ASCII)
_THROUGHPUT = re.compile(r"(:[0-9]+):[0-9]+k$", re.ASCII)
_WINDOW = re.compile(r"\[\w+\]$", re.ASCII)
_VERSION = re.compile(r"-[0-9]+$", re.ASCII)
_DATE = re.compile(r"-[0-9]{4}-[0-9]{2}-[0-9]{2}$", re.ASCII)
_TUNED = re.compile(r"(:[^:]*){3}$")


class Candidate(NamedTuple):
    """A way to read a name. key: of the model, in any case; provider: whose it has to be (`serves`), "" = anybody's.

    canonical: key is the name of a model within the provider instead, as the second part of a canonical id.
    """

    key: str
    provider: str = ""
    canonical: bool = False


def lowered(name: str) -> str:
    """A name in lower case as the database has it, character by character: what is one name there is one here."""
    return name.lower() if name.isascii() else "".join(character.lower()[0] for character in name)


def fold(word: str) -> str:
    """The slug of a source's word for a provider: `vertex_ai-mistral_models` is vertex_ai."""
    for family in ("vertex_ai", "fireworks_ai"):
        if word.startswith(family):
            return family
    return "bedrock" if word == "bedrock_converse" else word


def serves(provider: str, word: str) -> bool:
    """Whether a model with this source_provider counts as one of the provider that was asked for.

    Azure AI serves models of Azure and OpenAI under their names, at their prices.
    """
    return (
        word == provider
        or (provider in _FAMILIES and word.startswith(provider))
        or (provider == "azure_ai" and word in ("azure", "openai"))
    )


def candidates(
    name: str,
    provider: str | None = None,
    region: str | None = None,
    size: str | None = None,
    quality: str | None = None,
) -> tuple[Candidate, ...]:
    """What `name` may mean, in order, without aliases.

    provider: slug or source word, None = the part of the name before its first `/`, if that is one. region: the provider's
    word for where the call ran. size (`1024x1536` or `1024-x-1536`), quality: of an image; either one asks for image keys.
    """
    if not name:
        return ()
    head, slash, rest = name.partition("/")
    given = (provider or "").lower()
    asked = given or (head.lower() if slash else "")
    plain = rest if slash and head.lower() == asked else name
    ways: list[Candidate] = []
    if size or quality:
        ways += (Candidate(key, asked) for key in _image_keys(name, asked, plain, size, quality))
    if not given:
        ways.append(Candidate(name))
    if asked:
        ways += _of_provider(name, asked, plain, region)
    if not given:
        ways.append(Candidate(strip(name)))
    return tuple(dict.fromkeys(ways))


def strip(name: str, provider: str = "") -> str:
    """A name without what does not change the model: a date, a version, a fine-tune's owner, a region; by provider."""
    if fold(provider) == "bedrock":
        return _strip_bedrock(name)
    if provider in ("vertex_ai", "gemini", "databricks"):
        return _VERSION.sub("", name)
    return _TUNED.sub("", name) if "ft:" in name else _DATE.sub("", name)


def _of_provider(name: str, provider: str, plain: str, region: str | None) -> Iterator[Candidate]:
    """The names of a model of a provider; plain: the name without a leading `provider/`."""
    keys = [f"{provider}/{region}/{plain}"] if region else []
    keys += [f"{provider}/{plain}", name]
    inner = _without_route(plain) if fold(provider) == "bedrock" else plain
    stripped = strip(plain, provider)
    later = [f"{provider}/{stripped}", stripped, f"{provider}/{name}"]
    if provider == "fireworks_ai":
        later.append(f"fireworks_ai/accounts/fireworks/models/{plain}")
    yield from (Candidate(key, provider) for key in (*keys, inner))
    yield Candidate(plain, provider, canonical=True)
    yield from (Candidate(key, provider) for key in later)


def _image_keys(name: str, provider: str, plain: str, size: str | None, quality: str | None) -> Iterable[str]:
    """Keys of images of a size and a quality, as `hd/1024-x-1792/dall-e-3`."""
    size = DEFAULT_SIZE if not size else size if "-x-" in size else size.replace("x", "-x-")
    sized = f"{provider}/{size}/{plain}" if name != plain else f"{size}/{plain}"
    last = f"{size}/{name.rpartition('/')[2]}"
    if quality:
        yield f"{quality}/{sized}"
        if provider:
            yield f"{provider}/{quality}/{size}/{plain}"
    yield sized
    yield f"high/{sized}"
    if quality:
        yield f"{quality}/{last}"
    yield last


def _strip_bedrock(name: str) -> str:
    name = _WINDOW.sub("", _THROUGHPUT.sub(r"\1", _without_route(name)))
    geo, dot, rest = name.partition(".")
    return rest if dot and geo in GEOS else _without_region(name)


def _without_route(name: str) -> str:
    """A name at Bedrock without route prefixes, its region kept; of an ARN only what follows the last `/`."""
    while prefix := next((route for route in ROUTES if name.startswith(route)), ""):
        name = name.removeprefix(prefix)
    return name.rpartition("/")[2] if _without_region(name).startswith("arn:") else name


def _without_region(name: str) -> str:
    region, slash, rest = name.partition("/")
    return rest if slash and _REGION.fullmatch(region) else name
