"""What is changed on an object's page: bring a version back, tags, hold and retention. Each asks for a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from auditing.context import audit_context
from controlplane.core.conf import conf
from controlplane.core.forms import reason_field
from policies.admin.asking import Moment
from storage_meta.admin.base import handle, visible
from storage_meta.errors import InvalidTag, StorageError
from storage_meta.handle import Files
from storage_meta.keys import check_tags
from storage_meta.models import StorageObject, StorageVersion


class ReasonForm(forms.Form):
    reason = reason_field("in the access log")


class TagsForm(ReasonForm):
    tags = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="One a line, as team=editorial; at most 10. They replace those that are there.",
    )
    field_order = ("tags", "reason")

    def clean_tags(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.cleaned_data["tags"].splitlines():
            name, sign, value = line.partition("=")
            if line.strip() and not sign:
                raise ValidationError(f"{line.strip()[:60]!r} has no value. Write name=value.", code="invalid")
            if line.strip():
                found[name.strip()] = value.strip()
        try:
            return check_tags(found)
        except InvalidTag as refused:
            raise ValidationError(refused.message, code=refused.code) from None


class LockForm(ReasonForm):
    legal_hold = forms.BooleanField(
        required=False, label="Legal hold", help_text="Nothing removes the version until this is taken back."
    )
    retain_until = forms.DateTimeField(
        required=False, label="Keep until (UTC)", widget=Moment, help_text="Empty: no such time."
    )
    bypass = forms.BooleanField(
        required=False,
        label="Shorten it all the same",
        help_text="An earlier time than the one before, or none, needs this.",
    )
    field_order = ("legal_hold", "retain_until", "bypass", "reason")


def restore(modeladmin: Any, request: HttpRequest, row: StorageObject) -> HttpResponse:
    """GET or POST, ?version=: make a version the current one again; without it, take the delete markers away."""
    if not modeladmin.has_restore_permission(request):
        raise PermissionDenied
    version = version_of(request, row)
    if (version is None and not row.is_delete_marker) or (version is not None and version.is_delete_marker):
        messages.info(request, "Choose the version that is to be the current one again.")
        return HttpResponseRedirect(row.get_absolute_url())
    form = ReasonForm(request.POST if request.method == "POST" else None)
    id = version.version_id if version else None

    def act(docs: Files, reason: str) -> str:
        docs.restore_object(row.object_key, id)
        return "Its version is the current one again." if id else "It is there again."

    return _ask(
        modeladmin, request, row, form, act,
        title="Restore a version" if version else "Restore",
        explain=(
            f"Version {version.seq} becomes the current one again: a new version on the same content. The others stay."
            if version
            else "The delete markers above the newest version go, and the object is what it was."
        ),
        command="storage_restore", submit="Restore",
    )  # fmt: skip


def tags(modeladmin: Any, request: HttpRequest, row: StorageObject) -> HttpResponse:
    """GET or POST: replace the tags of the current version."""
    if not modeladmin.has_restore_permission(request):
        raise PermissionDenied
    if row.is_delete_marker:
        messages.info(request, "A deleted object has no tags. Restore it first.")
        return HttpResponseRedirect(row.get_absolute_url())
    written = "\n".join(f"{name}={value}" for name, value in row.tags.items())
    form = TagsForm(request.POST if request.method == "POST" else None, initial={"tags": written})

    def act(docs: Files, reason: str) -> str:
        docs.put_object_tagging(row.object_key, form.cleaned_data["tags"])
        return "Its tags are replaced."

    explain = "Tags are searched exactly, and policies and people sort by them. The content stays as it is."
    return _ask(
        modeladmin, request, row, form, act, title="Change tags", submit="Change tags", explain=explain, command=""
    )


def lock(modeladmin: Any, request: HttpRequest, row: StorageObject) -> HttpResponse:
    """GET or POST, ?version=: legal hold and retention of a version, by default of the current one."""
    if not modeladmin.has_hold_permission(request):
        raise PermissionDenied
    version = version_of(request, row) or row.current_version
    if version.is_delete_marker:
        messages.info(request, "A delete marker holds nothing that could be kept. Choose a version.")
        return HttpResponseRedirect(row.get_absolute_url())
    stands = {"legal_hold": version.legal_hold, "retain_until": version.retain_until}
    form = LockForm(request.POST if request.method == "POST" else None, initial=stands)

    def act(docs: Files, reason: str) -> str:
        asked, id = form.cleaned_data, version.version_id
        if asked["legal_hold"] != version.legal_hold:
            docs.put_object_legal_hold(row.object_key, asked["legal_hold"], id, reason)
        if "retain_until" in form.changed_data:
            docs.put_object_retention(row.object_key, asked["retain_until"], id, asked["bypass"], reason)
        return "Hold and retention are set."

    explain = (
        f"Version {version.seq}. While it is held, no person, no lifecycle and no deletion of its tenant removes it."
    )
    return _ask(
        modeladmin,
        request,
        row,
        form,
        act,
        title="Hold and retention",
        submit="Save",
        explain=explain,
        command="storage_hold",
    )


def version_of(request: HttpRequest, row: StorageObject) -> StorageVersion | None:
    """The version that the address names by its seq; None if it names none of this object."""
    seq = request.GET.get("version", "")
    if not (seq.isascii() and seq.isdecimal() and len(seq) < 19):
        return None
    return StorageVersion.objects.filter(tenant_id=row.tenant_id, object=row, seq=int(seq)).first()


def _ask(
    modeladmin: Any,
    request: HttpRequest,
    row: StorageObject,
    form: ReasonForm,
    act: Callable[[Files, str], str],
    **shown: Any,
) -> HttpResponse:
    """The page of a change, and the change itself, in one transaction; what refuses it is told on the page."""
    if form.is_bound and form.is_valid():
        reason = form.cleaned_data["reason"]
        try:
            with audit_context(reason=reason), transaction.atomic(using=conf.DATABASE):
                told = act(handle(request, row.tenant).bucket(row.bucket.name), reason)
        except StorageError as refused:
            form.add_error(None, refused.message)
        else:
            messages.success(request, f"{visible(row.object_key)}: {told}")
            return HttpResponseRedirect(row.get_absolute_url())
    context = {
        **modeladmin.admin_site.each_context(request),
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "row": row,
        "key": visible(row.object_key),
        "form": form,
        **shown,
    }
    return TemplateResponse(request, "cp_storage_meta/change.html", context, status=422 if form.errors else 200)
