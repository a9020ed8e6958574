"""Models that resemble a text. The candidates come from trigram indexes, in SQL; here they are put in order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.postgres.search import TrigramSimilarity, TrigramWordSimilarity
from django.db.models import FloatField, OuterRef, Q, QuerySet, Subquery
from django.db.models.expressions import Combinable, RawSQL
from django.db.models.functions import Greatest, Length, Lower

MAX_TEXT = 200
"""Characters of a text that count: no key is longer."""


def alike(models: QuerySet[Any], aliases: QuerySet[Any], text: str, tenant_id: UUID | None) -> QuerySet[Any]:
    """Those of the models whose key, name for people or alias resembles the text, the most alike first.

    aliases: all; those of everybody and of this tenant count. Similarity and word similarity are added: that finds more of
    what is meant than the greater of the two. Equally alike: the shorter key first.
    """
    text = text[:MAX_TEXT].lower()
    if "\x00" in text or text.encode(errors="ignore").decode() != text:
        return models.none()
    seen = aliases.filter(Q(tenant=None) | Q(tenant=tenant_id), model=OuterRef("pk"), enabled=True)
    by_alias = seen.annotate(likeness=_likeness("alias", text)).order_by("-likeness").values("likeness")[:1]
    likeness = Greatest(
        _likeness("key", text),
        _likeness("display_name", text),
        Subquery(by_alias, output_field=FloatField()),
    )
    found = models.filter(pk__in=RawSQL("SELECT cp_catalog_alike(%s, %s)", [text, tenant_id]))
    ordered: QuerySet[Any] = found.annotate(likeness=likeness).order_by("-likeness", Length("key"), "key")
    return ordered


def _likeness(field: str, text: str) -> Combinable:
    lowered = Lower(field)
    return TrigramSimilarity(lowered, text) + TrigramWordSimilarity(text, lowered)
