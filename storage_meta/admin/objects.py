"""Objects: a list by cursor or by words, a page of each, and what people do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from auditing.admin.filters import period
from auditing.context import audit_context
from controlplane.core import display
from controlplane.core.admin import confirmed_action
from controlplane.core.bigtables import BigTableAdmin
from storage_meta.admin import browsing, changing, comparing, downloading, object_page
from storage_meta.admin.base import TenantScopedAdmin, handle, narrowed, size_cell, size_text, visible
from storage_meta.admin.finding import FILTERS, Heads, ObjectChangeList, by_address, is_address
from storage_meta.highlighting import Piece, found_in, headline
from storage_meta.models import StorageObject

LONGEST = 64


def marked(pieces: Sequence[Piece]) -> SafeString:
    """Pieces of a text, those that were searched marked; all of it is escaped."""
    return format_html_join(
        "", "{}", ((format_html("<mark>{}</mark>" if one.hit else "{}", visible(one.text)),) for one in pieces)
    )


def _told(rows: Sequence[StorageObject]) -> list[tuple[str, str]]:
    return [
        (visible(row.object_key), f"in {row.bucket.name} of {row.tenant}, {size_text(_size(row))}".removesuffix(", –"))
        for row in rows
    ]


Act = Callable[[Any, StorageObject, str], object]


def _action(label: str, act: Act, **options: Any) -> Any:
    """An action that calls the handle of the row's bucket, in the name of who asks for it."""

    def perform(row: StorageObject, request: HttpRequest, reason: str) -> None:
        with audit_context(reason=reason):
            act(handle(request, row.tenant).bucket(row.bucket.name), row, reason)

    return confirmed_action(label, perform=perform, preview=_told, **options)


def _verify(docs: Any, row: StorageObject, reason: str) -> None:
    """Read the whole blob: at its end the handle compares the SHA-256. Raises BlobMissing, ChecksumMismatch, NoBlob."""
    with docs.get_object(row.object_key) as stored:
        for _ in stored:
            pass


def _live(row: StorageObject) -> bool:
    return not row.is_delete_marker


def _size(row: StorageObject) -> int | None:
    """None: it is deleted, and there is nothing to measure."""
    return row.size if _live(row) else None


def _held(row: StorageObject) -> bool:
    return _live(row) and row.current_version.legal_hold


@admin.register(StorageObject)
class StorageObjectAdmin(TenantScopedAdmin, BigTableAdmin):
    list_display = ("key", "where", "size_shown", "kind", "versions", "state", "tagged", "at")
    list_filter = FILTERS
    search_fields = ("object_key",)
    search_help_text = "Words, “a phrase”, -not; an id; or s3://bucket/key"
    list_select_related = False
    change_list_template = "cp_storage_meta/object_list.html"
    actions = (
        _action(
            "Restore",
            lambda docs, row, reason: docs.restore_object(row.object_key),
            permission="restore",
            command="storage_restore",
            past="restored",
            explain="The delete markers above the newest version go, and the object is what it was. Live ones stay as they are.",
            offered=lambda row: row.is_delete_marker,
        ),
        _action(
            "Hold",
            lambda docs, row, reason: docs.put_object_legal_hold(row.object_key, True, reason=reason),
            permission="hold",
            command="storage_hold",
            past="held",
            explain="Nothing removes the current version while it is held: no person, no lifecycle. A delete marker may be put.",
            offered=lambda row: _live(row) and not _held(row),
        ),
        _action(
            "Release hold",
            lambda docs, row, reason: docs.put_object_legal_hold(row.object_key, False, reason=reason),
            permission="hold",
            command="storage_hold",
            past="released",
            explain="The legal hold of the current version is taken back. A retention time that it has still counts.",
            offered=_held,
        ),
        _action(
            "Delete",
            lambda docs, row, reason: docs.delete_object(row.object_key),
            permission="remove",
            command="storage_rm",
            past="deleted",
            explain="A versioned bucket gets a delete marker, and the object can be restored. An unversioned one loses it.",
            offered=_live,
            danger=True,
        ),
        _action(
            "Verify",
            _verify,
            permission="read",
            command="storage_reconcile",
            past="read to the end, and its SHA-256 is the one that was put",
            explain="The whole content is read where it lies, and its SHA-256 compared with the one that was put.",
            offered=_live,
        ),
    )  # fmt: skip
    empty_help = (
        "Nothing is stored here yet, or nothing live. Put a file: manage.py storage_put --tenant … --bucket … KEY FILE."
    )
    every_row = "state=any"

    def get_urls(self) -> list[Any]:
        view, info = self.admin_site.admin_view, "cp_storage_meta_storageobject"
        pages = {
            "compare": comparing.page,
            "restore": changing.restore,
            "tags": changing.tags,
            "lock": changing.lock,
            "download": downloading.page,
        }
        own = [
            path(f"<path:object_id>/{name}/", view(self._about(show)), name=f"{info}_{name}")
            for name, show in pages.items()
        ]
        browse = path("browse/", view(self.browse_view), name=f"{info}_browse")
        return [browse, *own, *super().get_urls()]

    def _about(self, show: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        """A page about one object that this person may see; one of another tenant is not found."""

        def view(request: HttpRequest, object_id: str) -> HttpResponseBase:
            return show(self, request, self._row(request, object_id))

        return view

    def _row(self, request: HttpRequest, object_id: str) -> StorageObject:
        if not self.has_view_permission(request):
            raise PermissionDenied
        found: StorageObject | None = self.get_object(request, unquote(object_id))
        if found is None:
            raise Http404
        return found

    def browse_view(self, request: HttpRequest) -> HttpResponse:
        return browsing.page(self, request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        return object_page.page(self, request, self._row(request, object_id))

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """What became of an object is in the access log."""
        return HttpResponseRedirect(object_page.trail_url(self._row(request, object_id)))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return period(request) or super().changelist_view(request, extra_context)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ObjectChangeList]:
        return ObjectChangeList

    def get_list_display(self, request: HttpRequest) -> Any:
        """Of a search, where it found its words; what the filters say of all rows gives room for that."""
        query = request.GET.get("q", "").strip()
        found = ("key", "hit", "where", "size_shown", "kind", "at")
        return found if query and not is_address(query) else self.list_display

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        rows = Heads(StorageObject, using=super().get_queryset(request).db).defer("search_vector")
        return narrowed(request, rows).select_related("bucket", "tenant", "current_version")

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """Words are searched by the list itself, which knows the tenant and the filters."""
        text = search_term.strip().replace("\x00", "")
        return (by_address(queryset, text) if is_address(text) else queryset), False

    def prepare(self, rows: list[Any], changelist: Any) -> None:
        words = None if is_address(changelist.query) else changelist.query or None
        for row in rows:
            row.__dict__["words"] = words

    def has_restore_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_storage_meta.change_storageobject"))

    def has_hold_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_storage_meta.change_storageversion"))

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_storage_meta.delete_storageobject"))

    def has_read_permission(self, request: HttpRequest) -> bool:
        """Contents are more than names: to read them is a permission of its own."""
        return bool(request.user.has_perm("cp_storage_meta.view_storageversion"))

    @admin.display(description="Key")
    def key(self, row: StorageObject) -> str:
        key = row.object_key
        around = None if len(key) <= LONGEST else LONGEST // 2
        pieces = headline(key, row.__dict__.get("words"), prefix_match=True, around=around)
        if around is not None and len(pieces) == 1:  # no hit to keep: the end tells keys of one folder apart
            pieces = [Piece(f"{key[:20]}…{key[20 - LONGEST :]}")]
        return format_html('<span class="cp-key" title="{}">{}</span>', visible(key), marked(pieces))

    @admin.display(description="Found in")
    def hit(self, row: StorageObject) -> str:
        """The first place beside the key that holds a word that was searched."""
        found = found_in(row, row.__dict__.get("words"), prefix_match=True, around=24)
        one = next((each for each in found if each.name != "object_key"), None)
        if one is None:
            return "key" if found else display.NOTHING
        name = one.name.replace("content_type", "type")
        return format_html('<span><span class="cp-quiet">{}:</span> {}</span>', visible(name), marked(one.pieces))

    @admin.display(description="Bucket")
    def where(self, row: StorageObject) -> str:
        return row.bucket.name

    @admin.display(description="Size")
    def size_shown(self, row: StorageObject) -> str:
        return size_cell(_size(row))

    @admin.display(description="Type")
    def kind(self, row: StorageObject) -> str:
        return row.content_type or display.NOTHING

    @admin.display(description="Version")
    def versions(self, row: StorageObject) -> str:
        return display.number(row.next_seq - 1)

    @admin.display(description="State")
    def state(self, row: StorageObject) -> str:
        return display.pill("deleted", "warn") if row.is_delete_marker else "live"

    @admin.display(description="Tags")
    def tagged(self, row: StorageObject) -> str:
        if not row.tags:
            return display.NOTHING
        told = ", ".join(f"{name}={value}" for name, value in row.tags.items())
        return format_html('<span title="{}">{}</span>', told, Truncator(told).chars(28))

    @admin.display(description="Changed (UTC)")
    def at(self, row: StorageObject) -> str:
        return display.instant(row.last_modified)

    def tools(self, request: HttpRequest, row: StorageObject) -> dict[str, Any]:
        """What the object's page needs for its actions: names, labels, and the list that they are posted to."""
        url = reverse("admin:cp_storage_meta_storageobject_changelist")
        return {
            "object_actions": self.object_actions(request, row),
            "actions_url": f"{url}?{urlencode({'state': 'any', 'tenant': str(row.tenant_id)})}",
        }
