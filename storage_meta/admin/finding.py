"""The list of objects: filters, keyset pages by (last_modified, id), and words that the search of the handle finds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from django.contrib import admin, messages
from django.core import signing
from django.db import models
from django.http import HttpRequest

from auditing.admin.filters import PeriodFilter, TypedFilter, is_uuid
from auditing.errors import InvalidCursor
from auditing.models.logs import Page
from controlplane.core.bigtables import KeysetChangeList
from storage_meta.admin.base import OFFERED, TenantFilter, handle
from storage_meta.handle import Files
from storage_meta.keys import upper_bound
from storage_meta.models import Bucket, StorageObject

SALT = "storage_meta.admin.objects"
KIB, MIB = 1024, 1024**2
SIZES: dict[str, tuple[str, int | None, int | None]] = {
    "small": ("Under 10 KiB", None, 10 * KIB),
    "medium": ("10 KiB to 1 MiB", 10 * KIB, MIB),
    "large": ("1 to 100 MiB", MIB, 100 * MIB),
    "huge": ("Over 100 MiB", 100 * MIB, None),
}
SHOWN = (
    "id", "tenant", "bucket__name", "object_key", "current_version", "next_seq", "is_delete_marker", "last_modified",
    "size", "content_type", "storage_class", "tags",
)  # fmt: skip


class Heads(models.QuerySet[StorageObject]):
    """Heads by time of their change, newest first, a page at a time: nothing here counts."""

    def between(self, start: datetime, end: datetime) -> Self:
        return self.filter(last_modified__gte=start, last_modified__lt=end)

    def page(self, after: str | None = None, size: int = 50, binding: str = "") -> Page[StorageObject]:
        """`size` heads from a cursor on; bound to the text `binding`. Raises InvalidCursor."""
        digest = hashlib.sha256(binding.encode()).hexdigest()[:16]
        backwards, place = _read(after, digest) if after else (False, None)
        rows = self.order_by("last_modified", "id") if backwards else self.order_by("-last_modified", "-id")
        if place is not None:
            at, id = place
            # the first bound alone is what the index begins at, the rest decides among those of one instant
            rows = (
                rows.filter(models.Q(last_modified__gt=at) | models.Q(id__gt=id), last_modified__gte=at)
                if backwards
                else rows.filter(models.Q(last_modified__lt=at) | models.Q(id__lt=id), last_modified__lte=at)
            )
        found = list(rows.select_related("bucket").only(*SHOWN)[: size + 1])
        more, found = len(found) > size, found[:size]
        if backwards:
            found.reverse()
        older, newer = (bool(found), more) if backwards else (more, place is not None and bool(found))
        return Page(
            found,
            _cursor("<", found[-1], digest) if older else None,
            _cursor(">", found[0], digest) if newer else None,
        )


def _cursor(direction: str, row: StorageObject, digest: str) -> str:
    return signing.dumps([direction, row.last_modified.isoformat(), row.pk.hex, digest], salt=SALT)


def _read(cursor: str, expected: str) -> tuple[bool, tuple[datetime, UUID]]:
    try:
        direction, at, id, digest = signing.loads(cursor, salt=SALT)
    except (signing.BadSignature, UnicodeEncodeError):
        raise InvalidCursor from None
    if digest != expected:
        raise InvalidCursor
    return direction == ">", (datetime.fromisoformat(at), UUID(id))


class TenantOfObjects(TenantFilter):
    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """A whole id or address is looked for among all tenants that this person sees, unless one was chosen."""
        given = self.used_parameters.get(self.parameter_name)
        if not given and is_address(request.GET.get("q", "")):
            return queryset
        value = self.value()
        return queryset.filter(tenant_id=value) if value and is_uuid(value) else queryset.none()


class BucketFilter(TypedFilter):
    title = "bucket"
    parameter_name = "bucket"
    help = "Its name"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(bucket__in=Bucket.objects.filter(name=value)) if value else queryset


class PrefixFilter(TypedFilter):
    title = "prefix"
    parameter_name = "prefix"
    help = "How keys begin, as reports/2026/"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        above = upper_bound(value)
        found = queryset.filter(object_key__gte=value)
        return found if above is None else found.filter(object_key__lt=above)


class TypeFilter(TypedFilter):
    title = "type"
    parameter_name = "content_type"
    help = "Content type, as application/pdf"

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset.filter(content_type=value) if value else queryset


class SizeFilter(admin.SimpleListFilter):
    title = "size"
    parameter_name = "size"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, label) for name, (label, _, _) in SIZES.items()]

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """Least and most, the second excluded; None: no bound."""
        return SIZES.get(self.value() or "", ("", None, None))[1:]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        least, most = self.bounds
        if least is not None:
            queryset = queryset.filter(size__gte=least)
        return queryset if most is None else queryset.filter(size__lt=most)


class StateFilter(admin.SimpleListFilter):
    """Live ones, unless those under a delete marker are asked for: the index of live ones is the one that is quick."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("live", "Live"), ("deleted", "Deleted, restorable"), ("any", "Any")]

    def value(self) -> str:
        given = super().value()
        return given if given in ("deleted", "any") else "live"

    def choices(self, changelist: Any) -> Any:
        yield from list(super().choices(changelist))[1:]

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
        value = self.value()
        return queryset if value == "any" else queryset.filter(is_delete_marker=value == "deleted")


class WindowOfObjects(PeriodFilter):
    """All time, unless a window is chosen: what was put years ago is as much there as what came today."""

    def value(self) -> str:
        return super().value() if self.used_parameters.get(self.parameter_name) else "all"


FILTERS = (
    WindowOfObjects,
    TenantOfObjects,
    BucketFilter,
    PrefixFilter,
    TypeFilter,
    SizeFilter,
    StateFilter,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What the search of a handle finds, as pages of the list. window: start and end, None: of all time."""

    files: Files
    query: str
    options: dict[str, Any]
    window: tuple[datetime, datetime] | None
    request: HttpRequest

    def page(self, after: str | None = None, size: int = 50, binding: str = "") -> Page[StorageObject]:
        """A window moves with the clock, so the cursor carries that of the first page. Raises StorageError, InvalidCursor."""
        window, token = _bounds(after) if after else (self.window, None)
        start, end = window or (None, None)
        found = self.files.search_objects(
            self.query, limit=size, continuation_token=token, prefix_match=True, modified_after=start, modified_before=end,
            **self.options,
        )  # fmt: skip
        if found.query_cut:
            messages.info(self.request, "Only the beginning of these words was searched for: 64 words at most.")
        following = found.next_continuation_token
        return Page(found.objects, f"{_written(window)}~{following}" if following else None, None)


def _written(window: tuple[datetime, datetime] | None) -> str:
    return "..".join(at.isoformat() for at in window or ())


def _bounds(cursor: str) -> tuple[tuple[datetime, datetime] | None, str]:
    written, _, token = cursor.partition("~")
    try:
        start, end = (datetime.fromisoformat(part) for part in written.split("..")) if written else (None, None)
    except ValueError:
        raise InvalidCursor from None
    return (None if start is None or end is None else (start, end)), token


class ObjectChangeList(KeysetChangeList):
    """Words go to the search; an id or an address s3://bucket/key is looked up; without either the newest come first."""

    by_words = False

    def get_results(self, request: HttpRequest) -> None:
        self.by_words = bool(self.query and not is_address(self.query))
        if self.by_words:
            found = self._search(request)
            self.queryset: Any = found if found is not None else self.queryset.none()
        super().get_results(request)

    def _search(self, request: HttpRequest) -> Found | None:
        specs: dict[str, Any] = {str(getattr(spec, "parameter_name", "")): spec for spec in self.filter_specs}
        tenant = specs["tenant"].tenant()
        if tenant is None:
            return None
        if specs["state"].value() != "live":
            messages.info(request, "Words are searched in live objects. Clear the words to list deleted ones.")
        least, most = specs["size"].bounds
        options = {
            "bucket": specs["bucket"].value(),
            "prefix": specs["prefix"].value(),
            "content_type": specs["content_type"].value(),
            "min_size": least,
            "max_size": None if most is None else most - 1,
        }
        asked = {name: value for name, value in options.items() if value is not None}
        return Found(handle(request, tenant), self.query, asked, specs["window"].bounds, request)


def is_address(text: str) -> bool:
    return is_uuid(text.strip()) or text.strip().startswith("s3://")


def by_address(rows: models.QuerySet[Any], text: str) -> models.QuerySet[Any]:
    """Rows of a whole id, or of an address s3://bucket/key, which is a key of any tenant's bucket of this name."""
    if is_uuid(text):
        return rows.filter(pk=text)
    name, _, key = text.removeprefix("s3://").partition("/")
    found = models.Q(pk__in=[])
    for bucket in Bucket.objects.filter(name=name)[:OFFERED]:  # whole columns of the unique index, one descent each
        found |= models.Q(tenant_id=bucket.tenant_id, bucket_id=bucket.pk, object_key=key)
    return rows.filter(found)
