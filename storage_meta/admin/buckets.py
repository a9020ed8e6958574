from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.core.files.storage import storages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from auditing.context import audit_context
from controlplane.core import display
from controlplane.core.admin import WritableModelAdmin, confirmed_action
from controlplane.core.conf import conf
from storage_meta import buckets
from storage_meta.admin.base import NamedForm, TenantScopedAdmin, handle
from storage_meta.models import Bucket, StorageHook, StorageObject
from storage_meta.models.bucket import ONE_AT_LEAST

TONES = {"suspended": "warn"}
CAP = 10_000
LIFECYCLE = ("expire_days", "noncurrent_days", "keep_versions", "default_retain_days", "audit_days")


class BucketForm(NamedForm):
    class Meta:
        help_texts = {
            "name": "3 to 63 of a-z, 0-9, dot and hyphen. It stands in every address: s3://name/key.",
            "versioning": "Enabled keeps every version. Once enabled it can be suspended, and never be unversioned again.",
            "storage": "Alias in STORAGES where new blobs are written; empty: the usual one. What is there stays where it is.",
            "audit_reads": "Changes are always recorded; of reads those chosen here.",
            "expire_days": "Days after which an object gets a delete marker by itself. Empty: never.",
            "noncurrent_days": "Days that a version is kept after a newer one came. Empty: for ever.",
            "keep_versions": "So many of the newest old versions stay, whatever their age. Empty: none.",
            "default_retain_days": "Days that nobody can remove a new version. Empty: not at all.",
            "audit_days": "Days that its rows of the access log are kept. Empty: as all others.",
        }
        labels = {
            "storage": "Where blobs are written",
            "audit_reads": "Recorded reads",
            "expire_days": "Objects expire after",
            "noncurrent_days": "Old versions go after",
            "keep_versions": "Old versions kept at least",
            "default_retain_days": "New versions locked for",
            "audit_days": "Access log kept for",
        }
        error_messages = {name: {"min_value": ONE_AT_LEAST} for name in LIFECYCLE}

    def clean(self) -> dict[str, Any] | None:
        for name in LIFECYCLE:
            if self.cleaned_data.get(name) == 0:
                self.add_error(name, ONE_AT_LEAST)
        return super().clean()

    def clean_storage(self) -> str:
        alias: str = self.cleaned_data["storage"]
        if alias and alias not in storages.backends:
            known = ", ".join(sorted(set(storages.backends) - {"staticfiles"}))
            raise forms.ValidationError(f"STORAGES has no {alias!r}. Choose one of: {known}.", code="unknown_alias")
        return alias

    def clean_versioning(self) -> str:
        given: str = self.cleaned_data["versioning"]
        if given == Bucket.Versioning.UNVERSIONED and self.initial.get("versioning", given) != given:
            raise forms.ValidationError(
                "What was versioned never becomes unversioned again: suspend it instead.", code="versioned_once"
            )
        return given


def _what_ends(rows: Sequence[Bucket]) -> list[tuple[str, str]]:
    """What stands in the way of a bucket's end, counted from its index to CAP; or that nothing does."""
    told = []
    for bucket in rows:
        of = {"tenant_id": bucket.tenant_id, "bucket_id": bucket.pk}
        heads = StorageObject.objects.filter(**of)
        held = [
            (heads.live()[:CAP].count(), "live object", "live objects"),
            (
                heads.filter(is_delete_marker=True)[:CAP].count(),
                "deleted key with its old versions",
                "deleted keys with their old versions",
            ),
            (StorageHook.objects.filter(**of)[:CAP].count(), "hook of it alone", "hooks of it alone"),
        ]
        inside = ", ".join(f"{n:,}{'+' if n == CAP else ''} {one if n == 1 else many}" for n, one, many in held if n)
        end = "It is empty, and its rules end; its rows of the access log stay."
        told.append((bucket.name, f"{inside}: it cannot go before they do." if inside else end))
    return told


def _remove(bucket: Bucket, request: HttpRequest, reason: str) -> None:
    with audit_context(reason=reason):
        buckets.remove(handle(request, bucket.tenant).bucket(bucket.name))


class ReadsFilter(admin.ChoicesFieldListFilter):
    """Called as the column is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "recorded reads"


@admin.register(Bucket)
class BucketAdmin(TenantScopedAdmin, WritableModelAdmin):
    form = BucketForm
    list_display = ("name", "tenant", "browse", "versioned", "lifecycle", "reads", "where", "changed")
    list_filter = ("versioning", ("audit_reads", ReadsFilter))
    search_fields = ("name__istartswith", "tenant__slug__exact")
    search_help_text = "How a name begins, or a tenant's slug"
    list_select_related = ("tenant",)
    ordering = ("tenant__name", "name", "id")
    fieldsets = (
        (None, {"fields": ("tenant", "name", "versioning", "storage", "audit_reads")}),
        ("Lifecycle", {"fields": LIFECYCLE}),
        ("Record", {"fields": ("id", "browse", "created", "changed")}),
    )
    readonly_fields = ("id", "browse", "created", "changed")
    actions = (
        confirmed_action(
            "Delete",
            permission="remove",
            command="storage_bucket remove",
            past="deleted",
            explain="Only an empty bucket goes: without objects, without old versions, without hooks.",
            perform=_remove,
            preview=_what_ends,
            danger=True,
        ),
    )
    empty_help = "Objects lie in buckets, and a bucket says how they live: versions, lifecycle, what is recorded."

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Its name and owner stand in addresses and in every key's rows."""
        return (*self.readonly_fields, "tenant", "name") if obj is not None else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj is not None else self.fieldsets[:2]

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_storage_meta.delete_bucket"))

    @admin.display(description="Objects")
    def browse(self, row: Bucket) -> str:
        query = urlencode({"tenant": str(row.tenant_id), "bucket": row.name})
        return format_html('<a href="{}?{}">Browse</a>', reverse("admin:cp_storage_meta_storageobject_browse"), query)

    @admin.display(description="Versioning", ordering="versioning")
    def versioned(self, row: Bucket) -> str:
        return display.status(row.versioning, TONES)

    @admin.display(description="Lifecycle")
    def lifecycle(self, row: Bucket) -> str:
        told = [
            (row.expire_days, "expires after {} d"),
            (row.noncurrent_days, "old versions {} d"),
            (row.keep_versions, "keeps {} old"),
            (row.default_retain_days, "locked {} d"),
        ]
        return ", ".join(text.format(n) for n, text in told if n) or display.NOTHING

    @admin.display(description="Recorded reads", ordering="audit_reads")
    def reads(self, row: Bucket) -> str:
        return row.get_audit_reads_display()

    @admin.display(description="Blobs in")
    def where(self, row: Bucket) -> str:
        return row.storage or str(conf.STORAGE_ALIAS)

    @admin.display(description="Created (UTC)")
    def created(self, row: Bucket) -> str:
        return display.instant(row.created_at)

    @admin.display(description="Changed", ordering="updated_at")
    def changed(self, row: Bucket) -> str:
        return display.day(row.updated_at)
