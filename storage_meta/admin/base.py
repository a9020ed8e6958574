"""What the pages of storage share: whose rows a person sees, the handle that acts for them, how keys and bytes are shown."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import models
from django.http import HttpRequest, QueryDict
from django.utils.html import format_html
from django.utils.safestring import SafeString

from auditing.admin.filters import SubjectFilter, is_uuid
from controlplane.core import display
from controlplane.core.admin import ModelAdmin
from storage_meta.handle import Files
from storage_meta.models import Bucket, StorageObject
from tenants.models import Tenant
from tenants.scope import current_scope

OFFERED = 50
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

MOST_BYTES = 2**63 - 1
_TYPED_SIZE = re.compile(r"(?P<number>(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)", re.ASCII)
_BYTES = {"": 1} | {
    name: base**power
    for power, unit in enumerate(UNITS)
    for name, base in ((unit.upper(), 1024), (unit.upper().replace("I", ""), 1000))
}

Rows = TypeVar("Rows", bound="models.QuerySet[Any]")


def own_tenant(request: HttpRequest) -> UUID | None:
    """The tenant that a person is of, or works in; None for operators, who are of none."""
    found: UUID | None = current_scope() or getattr(request.user, "tenant_id", None)
    return found


def narrowed(request: HttpRequest, rows: Rows, field: str = "tenant_id") -> Rows:
    """Those rows that this person may know of: of the own tenant, of all for operators. Where users are of another model
    than ours, for superusers alone."""
    own = own_tenant(request)
    if own is not None:
        return rows.filter(**{field: own})
    return rows if hasattr(request.user, "tenant_id") or request.user.is_superuser else rows.none()


class TenantScopedAdmin(ModelAdmin):
    """Shows a tenant's staff the rows of that tenant alone; another's are not found, as if they were not there."""

    class Media:
        css: ClassVar[dict[str, Any]] = {"all": ["cp_storage_meta/storage.css"]}

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        return narrowed(request, super().get_queryset(request))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        target = db_field.remote_field.model
        if target in (Tenant, Bucket):
            rows = target._default_manager.all()
            kwargs.setdefault("queryset", narrowed(request, rows, "pk" if target is Tenant else "tenant_id"))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


def tenants_with_buckets(request: HttpRequest) -> list[Tenant]:
    """Those that a page of storage can be about, by name; the first OFFERED."""
    rows = Tenant.objects.filter(models.Exists(Bucket.objects.filter(tenant=models.OuterRef("pk"))))
    return list(narrowed(request, rows, "pk").order_by("name", "id")[:OFFERED])


def chosen_tenant(request: HttpRequest, offered: list[Tenant], asked: str) -> Tenant | None:
    """The tenant of that id or slug, else the first that is offered; None if there is none that this person may see."""
    if asked:
        rows = narrowed(request, Tenant.objects.all(), "pk")
        return rows.filter(**({"pk": asked} if is_uuid(asked) else {"slug": asked})).first()
    return offered[0] if offered else None


def handle(request: HttpRequest, tenant: Tenant) -> Files:
    """What this person does goes into the access log under their name; policies are for callers, not for operators."""
    return StorageObject.objects.for_tenant(tenant, actor=request.user, request=request)


class TenantFilter(SubjectFilter):
    """By tenant, of those that have buckets. With nothing chosen the first: an index that orders all tenants' objects by
    time would cost every put, so a list is of one tenant."""

    title = "tenant"
    parameter_name = "tenant"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.one = own_tenant(request) is not None
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self.offered = tenants_with_buckets(request)
        found = {str(tenant.pk): tenant.name for tenant in self.offered}
        given = self.used_parameters.get(self.parameter_name) or ""
        if given not in found:
            one = chosen_tenant(request, [], given) if given else None
            if one is not None and str(one.pk) not in found:
                self.offered.insert(0, one)
                found = {str(one.pk): one.name, **found}
        return list(found.items())

    def value(self) -> str | None:
        """An id; where a slug was typed into the address, the id of that tenant."""
        given = super().value()
        if not given:
            return str(self.offered[0].pk) if self.offered else None
        return next((str(tenant.pk) for tenant in self.offered if tenant.slug == given), given)

    def tenant(self) -> Tenant | None:
        value = self.value()
        return next((tenant for tenant in self.offered if str(tenant.pk) == value), None)

    def has_output(self) -> bool:
        return not self.one and bool(self.offered)

    def choices(self, changelist: Any) -> Any:
        """Without "All": see above."""
        yield from list(super().choices(changelist))[1:]


def filters_as_fields(query: QueryDict, *own: str) -> list[tuple[str, str]]:
    """What else the address of a page asks, for a form to send along."""
    return [(name, value) for name, values in query.lists() for value in values if name not in own]


def size_text(size: int | None) -> str:
    """Bytes as people read them: 0 B, 1.4 KiB, 12 MiB."""
    if size is None:
        return display.NOTHING
    value, unit = float(size), 0
    while value >= 1023.5 and unit < len(UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size:,} B" if unit == 0 else f"{value:.3g} {UNITS[unit]}"


class NamedForm(forms.ModelForm):  # type: ignore[type-arg]
    """Tells beside the name that another row of the tenant has it; the constraint is of two fields, so of neither."""

    def add_error(self, field: str | None, error: Any) -> None:
        told = getattr(error, "error_dict", {})
        general = told.pop(NON_FIELD_ERRORS, [])
        for each in general:
            beside = "name" if each.code == "name_taken" and "name" in self.fields else NON_FIELD_ERRORS
            told.setdefault(beside, []).append(each)
        super().add_error(field, error)


class SizeField(forms.Field):
    """A number of bytes, typed with its unit: 500 MiB, 1.5 GiB, 1073741824. MB and GB are powers of 1000, as of disks."""

    def prepare_value(self, value: Any) -> Any:
        """In the greatest unit that says it whole, so that a form saved unchanged changes nothing."""
        if not isinstance(value, int):
            return value
        unit = next(power for power in range(len(UNITS) - 1, -1, -1) if value % 1024**power == 0) if value else 0
        return f"{value // 1024**unit} {UNITS[unit]}"

    def to_python(self, value: Any) -> int | None:
        text = str(value or "").strip()
        if not text:
            return None
        found = _TYPED_SIZE.fullmatch(text) if len(text) <= 40 else None
        unit = found["unit"].upper() if found else ""
        if found is None or unit not in _BYTES:
            raise forms.ValidationError(
                f"{text[:40]!r} is no size. Write a number with its unit, as 10 GiB.", code="invalid"
            )
        size = Decimal(found["number"].replace(",", "")) * _BYTES[unit]
        if size > MOST_BYTES:
            raise forms.ValidationError(
                "More than 8,191 PiB cannot be counted. Leave it empty for no limit.", code="size"
            )
        return int(size)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != initial)
        except forms.ValidationError:
            return True


def size_cell(size: int | None) -> SafeString:
    title = "" if size is None else f"{size:,} byte{'' if size == 1 else 's'}"
    return format_html('<span class="cp-num" title="{}">{}</span>', title, size_text(size))


_CONTROLS = {code: 0x2400 + code for code in range(32)} | {127: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_TURNS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F), 0xFFFD)


def visible(text: str) -> str:
    """A key as a page can show it: control characters by their pictures, and nothing that turns the line around."""
    return text.translate(_CONTROLS | _TURNS)
