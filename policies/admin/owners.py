"""Names for the plain ids that counters and reservations carry, found for a whole page in one statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import CharField, QuerySet
from django.db.models.functions import Cast, Concat

from tenants.models import APIKey, App, Branch, User

SOURCES = {"app": (App, "slug"), "branch": (Branch, "code"), "user": (User, "email"), "key": (APIKey, "name")}


def named(rows: Iterable[object], *more: QuerySet[Any, Any]) -> dict[str, str]:
    """By id as text: slug of an app, code of a branch, e-mail of a user, name of a key, of all whose id the rows carry.

    more: further query sets of (id, text), asked for in the same statement.
    """
    asked: list[QuerySet[Any, Any]] = [*more]
    rows = list(rows)
    for level, (model, field) in SOURCES.items():
        ids: set[UUID] = {id for row in rows if (id := getattr(row, f"{level}_id")) is not None}
        if ids:
            asked.append(texts(model._base_manager.filter(pk__in=ids), field))
    if not asked:
        return {}
    first, *rest = asked
    return {str(id): text for id, text in first.union(*rest, all=True)}


def texts(rows: QuerySet[Any, Any], field: str | Concat) -> QuerySet[Any, Any]:
    """(id, text) of each row, of one type whatever the column is, so that they can be united. field: a column, or more."""
    found: QuerySet[Any, Any] = rows.order_by().annotate(_text=Cast(field, CharField())).values_list("pk", "_text")
    return found
