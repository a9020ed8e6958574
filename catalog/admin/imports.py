from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models.fields.json import KeyTextTransform
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from catalog import drafts, units
from catalog.admin import diffs
from catalog.admin.importforms import ApplyForm, CompareForm, UploadForm
from catalog.errors import CatalogError
from catalog.models import PriceImport, PriceImportDraft
from controlplane.core import display
from controlplane.core.admin import ModelAdmin

COUNTS = ("entries", "added", "changed", "removed", "kept", "flagged", "errors", "warnings")
"""What an import counts, in the order of its page."""


@admin.register(PriceImport)
class PriceImportAdmin(ModelAdmin):
    """Price files that were applied, which nothing changes; and the way there: upload, diff, apply."""

    has_history = False
    list_display = (
        "file",
        "source",
        "source_version",
        "applied",
        "start",
        "actor",
        "added",
        "changed",
        "removed",
        "flagged",
        "errors",
    )
    search_fields = ("source__icontains", "source_version__exact", "sha256__startswith")
    search_help_text = "A part of the source, its version, or the beginning of the SHA-256"
    ordering = ("-applied_at", "-id")
    sortable_by = ("source", "applied", "start")
    change_list_template = "cp_catalog/import_list.html"
    empty_help = "An import reads a price file and shows what it would change. The command: manage.py prices_import."

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[PriceImport]:
        """Without the reports, which have megabytes."""
        rows: models.QuerySet[PriceImport] = super().get_queryset(request).defer("report", "meta")
        return rows.annotate(file_name=KeyTextTransform("file", "report"))

    def get_urls(self) -> list[Any]:
        pages = [("upload", self.upload_view), ("draft", self.draft_view)]
        return [
            *(path(f"{name}/", self.admin_site.admin_view(page), name=f"cp_catalog_priceimport_{name}") for name, page in pages),
            *super().get_urls(),
        ]  # fmt: skip

    def has_upload_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("cp_catalog.add_priceimport"))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        tool = {"may_upload": self.has_upload_permission(request)}
        return super().changelist_view(request, {**(extra_context or {}), **tool})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """What an import changed and what was wrong in its file, as its report says."""
        if not self.has_view_permission(request) or request.method == "POST":
            raise PermissionDenied
        row: PriceImport | None = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        listed = f"{reverse('admin:cp_catalog_modelprice_changelist')}?when=any&import={row.pk}"
        context = self._context(request, str(row)) | {
            "row": row, "view": diffs.view(row.report, request.GET), "list_url": listed,
            "counts": [(name, f"{row.counts[name]:,}") for name in COUNTS if row.counts.get(name)],
            "threshold": units.plain(row.threshold), "made": f"{row.prices.count():,}",
        }  # fmt: skip
        return TemplateResponse(request, "cp_catalog/import.html", context)

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Take a file and lead to what it would change."""
        if not self.has_upload_permission(request):
            raise PermissionDenied
        form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
        if form.is_bound and form.is_valid():
            uploaded = form.cleaned_data["file"]
            try:
                drafts.keep(uploaded.read(), uploaded.name, _person(request), form.asked)
                return _to("draft")
            except CatalogError as refused:
                form.add_error("file", f"{refused.message} ({refused.code})")
        context = self._context(request, "Import a price file") | {"form": form, "draft": _draft(request)}
        return TemplateResponse(request, "cp_catalog/import_upload.html", context, status=422 if form.errors else 200)

    def draft_view(self, request: HttpRequest) -> HttpResponse:
        """The diff of the file that this person uploaded. POST: compare it otherwise, apply it, or throw it away."""
        if not self.has_upload_permission(request):
            raise PermissionDenied
        posted = request.method == "POST"
        draft = _draft(request, lock=posted)
        if draft is None:
            messages.warning(request, "No file waits for you: it was applied or thrown away, or is over a day old.")
            return _to("upload")
        if "_discard" in request.POST:
            draft.delete()
            messages.success(request, f"{draft.name} was thrown away. Nothing was changed.")
            return _to("changelist")
        compared = CompareForm(request.POST if "_compare" in request.POST else None, initial=_asked(draft))
        applied = ApplyForm(request.POST if posted and not compared.is_bound else None)
        status = 200
        try:
            done = self._done(request, draft, compared if compared.is_bound else applied) if posted else None
            if done is not None:
                return done
            status = 422 if posted else 200
        except CatalogError as refused:
            messages.error(request, f"{refused.message} ({refused.code})")
            status = refused.http_status
        context = self._context(request, draft.name) | {
            "draft": draft, "view": diffs.view(draft.diff, request.GET), "compare": compared, "apply": applied,
            "ticked": request.POST.getlist("key"), "threshold": units.plain(draft.threshold),
            "all": sum(int(draft.diff["counts"][name]) for name in ("added", "changed", "removed")),
        }  # fmt: skip
        return TemplateResponse(request, "cp_catalog/import_draft.html", context, status=status)

    def _done(
        self, request: HttpRequest, draft: PriceImportDraft, form: CompareForm | ApplyForm
    ) -> HttpResponse | None:
        """Do what was asked for and lead on; None: something in the form is wrong. Raises CatalogError."""
        only = request.POST.getlist("key") if "_ticked" in request.POST else None
        if not form.is_valid():
            return None
        if isinstance(form, CompareForm):
            drafts.compare(draft, form.asked)
            return _to("draft")
        if only == []:
            form.add_error(None, "Tick at least one entry, or apply all.")
            return None
        given = form.cleaned_data
        made = drafts.apply(
            draft, given["digest"], only=only, reason=given["reason"], allow_shrink=given["allow_shrink"]
        )
        messages.success(request, f"{draft.name} was applied: {made.prices.count():,} new prices.")
        return _to("draft") if draft.pk else _to("change", made.pk)

    def _context(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts}

    @admin.display(description="File")
    def file(self, row: Any) -> str:
        return str(row.file_name or row.source)

    @admin.display(description="Applied (UTC)", ordering="applied_at")
    def applied(self, row: PriceImport) -> str:
        return display.instant(row.applied_at)

    @admin.display(description="Holds from", ordering="effective_from")
    def start(self, row: PriceImport) -> str:
        return display.day(row.effective_from)

    @admin.display(description="Added")
    def added(self, row: PriceImport) -> str:
        return display.number(row.counts.get("added"))

    @admin.display(description="Changed")
    def changed(self, row: PriceImport) -> str:
        return display.number(row.counts.get("changed"))

    @admin.display(description="Removed")
    def removed(self, row: PriceImport) -> str:
        return display.number(row.counts.get("removed"))

    @admin.display(description="Flagged")
    def flagged(self, row: PriceImport) -> str:
        return display.number(row.counts.get("flagged"))

    @admin.display(description="Errors")
    def errors(self, row: PriceImport) -> str:
        return display.number(row.counts.get("errors"))


def _person(request: HttpRequest) -> str:
    return str(request.user.pk)


def _draft(request: HttpRequest, lock: bool = False) -> PriceImportDraft | None:
    rows = PriceImportDraft.objects.of(_person(request))
    return (rows.select_for_update() if lock else rows).first()


def _to(page: str, *args: Any) -> HttpResponse:
    return HttpResponseRedirect(reverse(f"admin:cp_catalog_priceimport_{page}", args=args))


def _asked(draft: PriceImportDraft) -> dict[str, Any]:
    return {
        "source": draft.source, "source_version": draft.source_version, "tenant": draft.owner,
        "effective_from": draft.effective_from, "threshold": f"{draft.threshold:f}",
    }  # fmt: skip
