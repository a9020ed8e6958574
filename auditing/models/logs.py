"""What the two logs share: append-only querysets, windows and keyset pages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NoReturn, Self, TypeVar
from uuid import UUID

from django.core import signing
from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.functions import Cast

from auditing.errors import AppendOnly, InvalidCursor
from auditing.windows import id_bounds

Row = TypeVar("Row", bound=models.Model)

current_xid = Cast(Cast(models.Func(function="pg_current_xact_id"), models.TextField()), models.BigIntegerField())


def id_of(value: object) -> UUID:
    """The id of a row, or the id itself, given as UUID or text."""
    found = getattr(value, "pk", value)
    return found if isinstance(found, UUID) else UUID(str(found))


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows, newest first, and the cursors of the pages after and before them (None: there is none)."""

    rows: list[Row]
    next: str | None
    previous: str | None


class LogQuerySet(models.QuerySet[Row]):
    """Rows of a log. Read by window and page: nothing here counts rows, and no page costs more than the first."""

    def for_tenant(self, tenant: object) -> Self:
        return self.filter(tenant_id=id_of(tenant))

    def for_app(self, app: object) -> Self:
        return self.filter(app_id=id_of(app))

    def for_user(self, user: object) -> Self:
        return self.filter(user_id=id_of(user))

    def for_api_key(self, key: object) -> Self:
        return self.filter(api_key_id=id_of(key))

    def for_request(self, request_id: str) -> Self:
        return self.filter(request_id=request_id)

    def between(self, start: datetime, end: datetime) -> Self:
        """Rows with start <= created_at < end; both aware, else InvalidWindow. Bounds the id too, to prune."""
        low, high = id_bounds(start, end)
        return self.filter(id__gte=low, id__lt=high, created_at__gte=start, created_at__lt=end)

    def page(self, after: str | None = None, size: int = 100, binding: str | None = None) -> Page[Row]:
        """`size` rows (1 to 1,000), newest first, from a cursor of `next` or `previous` on.

        A cursor is bound to the filters, or to the text `binding` where the filters move with the clock. Rows that arrive
        meanwhile neither repeat nor hide others. Raises InvalidCursor.
        """
        size = max(1, min(size, 1000))
        digest = hashlib.sha256((binding or self._filters()).encode()).hexdigest()[:16]
        backwards, at = _read(after, digest) if after else (False, None)
        query = self.order_by("id" if backwards else "-id")
        if at is not None:
            query = query.filter(id__gt=at) if backwards else query.filter(id__lt=at)
        rows = list(query[: size + 1])
        more, rows = len(rows) > size, rows[:size]
        if backwards:
            rows.reverse()
        older, newer = (bool(rows), more) if backwards else (more, at is not None and bool(rows))
        return Page(
            rows,
            _cursor("<", rows[-1].pk, digest) if older else None,
            _cursor(">", rows[0].pk, digest) if newer else None,
        )

    def _filters(self) -> str:
        try:
            return str(self.order_by("id").values("id").query)
        except EmptyResultSet:  # filters that nothing passes
            return "nothing"

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnly

    def delete(self) -> NoReturn:
        raise AppendOnly


def _cursor(direction: str, id: UUID, digest: str) -> str:
    return signing.dumps([direction, id.hex, digest], salt="auditing.page")


def _read(cursor: str, expected: str) -> tuple[bool, UUID]:
    try:
        direction, id, digest = signing.loads(cursor, salt="auditing.page")
    except (signing.BadSignature, UnicodeEncodeError):
        raise InvalidCursor from None
    if digest != expected:
        raise InvalidCursor
    return direction == ">", UUID(id)
