"""The page of one object: what it is, its versions, what was done to it, who was told, and who may do what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse

from controlplane.core import display
from controlplane.core.admin import readable_address
from controlplane.core.ids import lower_bound, now
from policies.admin.asking import MODES, AskedField
from policies.errors import PolicyError
from policies.models import Policy
from storage_meta.admin import accesses
from storage_meta.admin.base import size_cell, size_text, visible
from storage_meta.models import StorageAudit, StorageEvent, StorageObject, StorageVersion

VERSIONS = 50
LATEST = 20
EVENTS = {"dead": "bad", "pending": "info"}
EVENTS_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version as a row of the page."""

    row: StorageVersion
    at: str
    size: str
    state: str
    held: str
    current: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies say of one mode for the chosen user."""

    mode: str
    allowed: bool
    message: str
    url: str


class UserForm(forms.Form):
    user = AskedField(get_user_model()._default_manager.none(), required=False, label="What may this user do?")


def page(modeladmin: Any, request: HttpRequest, row: StorageObject) -> HttpResponse:
    """GET: before, the seq above which versions are not shown; user, for whom the policies are asked."""
    moved = readable_address(request)
    if moved is not None:
        return moved
    lines, older = versions(row, request.GET.get("before", ""))
    form = _user_form(request, row)
    context = {
        **modeladmin.admin_site.each_context(request),
        **modeladmin.tools(request, row),
        "title": visible(row.object_key),
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "row": row,
        "address": visible(f"s3://{row.bucket.name}/{row.object_key}"),
        "facts": facts(row),
        "browse_url": browse_url(row),
        "metadata": json.dumps(row.metadata, indent=2, ensure_ascii=False) if row.metadata else "",
        "tags": row.tags.items(),
        "lines": lines,
        "older": older,
        "newest_shown": not request.GET.get("before"),
        "trail": _trail(row) if request.user.has_perm("cp_storage_meta.view_storageaudit") else None,
        "trail_url": trail_url(row),
        "events": _events(row) if request.user.has_perm("cp_storage_meta.view_storageevent") else None,
        "form": form,
        "verdicts": _verdicts(form, row) if form is not None else [],
        "may_restore": modeladmin.has_restore_permission(request),
        "may_hold": modeladmin.has_hold_permission(request),
        "may_read": modeladmin.has_read_permission(request),
    }
    return TemplateResponse(request, "cp_storage_meta/object.html", context)


def facts(row: StorageObject | StorageVersion) -> list[tuple[str, str]]:
    """What is known of the content of a head or a version, without tags and metadata."""
    version = row.current_version if isinstance(row, StorageObject) else row
    if row.is_delete_marker:  # it has no content of which anything could be said
        told = [("Version", version.version_id), ("Deleted by", version.created_by), ("Comment", version.comment)]
        return [(name, text) for name, text in told if text]
    told = [
        ("Size", f"{size_text(row.size)}{f' ({row.size:,} bytes)' if row.size >= 1024 else ''}"),
        ("Type", row.content_type),
        ("Class", row.storage_class),
        ("Lies in", row.storage_backend if version.blob_name else f"{row.storage_backend} (metadata alone)".strip()),
        ("ETag", row.etag),
        ("SHA-256", row.checksum_sha256),
        ("Version", version.version_id),
        ("Put by", version.created_by),
        ("Comment", version.comment),
    ]
    return [(name, text) for name, text in told if text]


def versions(row: StorageObject, before: str) -> tuple[list[VersionLine], int | None]:
    """The newest VERSIONS below a seq, and the seq to go on from (None: that was all)."""
    rows = StorageVersion.objects.filter(tenant_id=row.tenant_id, object=row).newest_first()
    if before.isascii() and before.isdecimal() and len(before) < 19:
        rows = rows.filter(seq__lt=int(before))
    found = list(rows[: VERSIONS + 1])
    lines = [_line(version, row) for version in found[:VERSIONS]]
    return lines, found[VERSIONS - 1].seq if len(found) > VERSIONS else None


def _line(version: StorageVersion, row: StorageObject) -> VersionLine:
    current = version.pk == row.current_version_id
    marker = version.is_delete_marker
    return VersionLine(
        version,
        display.instant(version.created_at),
        size_cell(None if marker else version.size),
        display.pill("delete marker", "warn") if marker else display.pill("current", "info") if current else "",
        held(version),
        current,
        bool(version.blob_name),
    )


def held(version: StorageVersion) -> str:
    """Why a version cannot go, in words; empty: it can."""
    told = ["legal hold"] if version.legal_hold else []
    if version.retain_until and version.retain_until > now():
        told.append(f"until {version.retain_until:%Y-%m-%d %H:%M}")
    return display.pill(", ".join(told), "info") if told else ""


def trail_url(row: StorageObject) -> str:
    about = {"tenant": row.tenant_id, "bucket": row.bucket.name, "object_key": row.object_key, "window": "all"}
    return f"{reverse('admin:cp_storage_meta_storageaudit_changelist')}?{urlencode(about)}"


def browse_url(row: StorageObject) -> str:
    """The folder that an object lies in."""
    folder = row.object_key[: row.object_key.rfind("/") + 1]
    about = {"tenant": row.tenant_id, "bucket": row.bucket.name, "prefix": folder}
    return f"{reverse('admin:cp_storage_meta_storageobject_browse')}?{urlencode(about)}"


def _trail(row: StorageObject) -> list[dict[str, Any]]:
    found = StorageAudit.objects.filter(tenant_id=row.tenant_id, object_key=row.object_key, bucket=row.bucket.name)
    return [
        {
            "at": display.instant(each.created_at),
            "who": accesses.actor(each),
            "done": accesses.action(each),
            "version": f"…{each.version_id[-8:]}" if len(each.version_id) > 8 else each.version_id,
            "url": reverse("admin:cp_storage_meta_storageaudit_change", args=[each.pk]),
        }
        for each in found.order_by("-id")[:LATEST]
    ]


def _events(row: StorageObject) -> list[dict[str, Any]]:
    """What hooks were or are to be told of the key, of the days for which events are kept."""
    found = StorageEvent.objects.filter(
        tenant_id=row.tenant_id, object_key=row.object_key, pk__gte=lower_bound(now() - EVENTS_KEPT)
    ).select_related("hook")
    return [
        {
            "at": display.instant(each.created_at),
            "hook": each.hook.name,
            "type": each.event_type.removeprefix("s3:"),
            "state": display.status(each.state, EVENTS),
            "attempts": each.attempts,
            "url": _url("admin:cp_storage_meta_storageevent_change", each.pk),
        }
        for each in found.order_by("-id")[:LATEST]
        if each.hook.bucket_id in (None, row.bucket_id)
    ]


def _url(name: str, *args: Any) -> str:
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""


def _user_form(request: HttpRequest, row: StorageObject) -> UserForm | None:
    """None for those who may not see policies."""
    if not request.user.has_perm("cp_policies.view_policy"):
        return None
    form = UserForm(request.GET if request.GET.get("user") else None)
    field = form.fields["user"]
    if isinstance(field, AskedField):
        field.within(tenant=row.tenant)
        field.offered = not request.GET.get("user")
    return form


def _verdicts(form: UserForm, row: StorageObject) -> list[Verdict]:
    """What the chosen user may do with the key, and where that is explained; nothing without a user."""
    user = form.cleaned_data.get("user") if form.is_bound and form.is_valid() else None
    if user is None:
        return []
    uri, answers = f"s3://{row.bucket.name}/{row.object_key}", []
    try:
        effective = Policy.objects.effective(row.tenant, user=user, at=now())
        answers = [(mode, effective.decide_storage(uri, mode)) for mode in MODES]
    except PolicyError as refused:
        form.add_error(None, f"{refused.message} ({refused.code})")
    asked = {"tenant": row.tenant.slug, "user": user.email, "uri": uri}
    explain = reverse("admin:cp_policies_policy_explain")
    return [
        Verdict(mode, bool(answer), answer.message, f"{explain}?{urlencode(asked | {'mode': mode})}")
        for mode, answer in answers
    ]
