"""What a policy was: its versions, any two of them compared, and an old one to be put back."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from controlplane.core import display
from policies.admin import differences, editing
from policies.history import put_back
from policies.models import Policy, PolicyVersion

PAGE = 50


def urls(modeladmin: Any) -> list[Any]:
    """The pages of a policy's history, for `get_urls`, before those of the stock admin."""
    view = modeladmin.admin_site.admin_view

    def versions_view(request: HttpRequest, object_id: str) -> HttpResponse:
        return versions(modeladmin, request, object_id)

    def restore_view(request: HttpRequest, object_id: str) -> HttpResponse:
        return restore(modeladmin, request, object_id)

    return [
        path("<path:object_id>/versions/", view(versions_view), name="cp_policies_policy_versions"),
        path("<path:object_id>/restore/", view(restore_view), name="cp_policies_policy_restore"),
    ]


def versions(modeladmin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """The versions, newest first; before: only those before it; old, new: two to be compared."""
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    policy = _found(modeladmin, request, object_id)
    rows = PolicyVersion.objects.for_policy(policy)
    before = _number(request, "before")
    shown = list((rows.filter(version__lt=before) if before else rows)[: PAGE + 1])
    names = people(row.actor for row in shown)
    old, new = _chosen(rows, shown, _number(request, "old"), _number(request, "new"))
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": f"History of {policy}", "opts": modeladmin.opts, "original": policy, "step": "History",
        "rows": [_row(row, policy, names, old, new) for row in shown[:PAGE]],
        "older": shown[PAGE - 1].version if len(shown) > PAGE else None,
        "old": old, "new": new, "differences": differences.between(policy, old.body, new.body) if old and new else None,
        "may_restore": modeladmin.has_change_permission(request, policy),
    }  # fmt: skip
    return TemplateResponse(request, "cp_policies/versions.html", context)


def restore(modeladmin: Any, request: HttpRequest, object_id: str) -> HttpResponse:
    """The review of an old version, as if it had been typed; it is put back by the page of the policy."""
    if not modeladmin.has_change_permission(request):
        raise PermissionDenied
    policy = _found(modeladmin, request, object_id)
    kept = PolicyVersion.objects.for_policy(policy).filter(version=_number(request, "version")).first()
    if kept is None or kept.version == policy.version:
        return HttpResponseRedirect(reverse("admin:cp_policies_policy_versions", args=[policy.pk]))
    old = copy.copy(policy)
    put_back(old, kept.body)
    return editing.restoring(modeladmin, request, policy, old, kept.version)


def people(actors: Iterable[str | None]) -> dict[str, str]:
    """Actors of versions by what people call them; one statement, none where nobody of the staff is among them."""
    users = get_user_model()
    found: dict[Any, str] = {}
    for actor in {*actors} - {None, ""}:
        kind, _, id = str(actor).partition(" ")
        with suppress(ValidationError):
            if kind in ("operator", "user"):
                found[users._meta.pk.to_python(id)] = str(actor)
    rows = users._default_manager.filter(pk__in=found) if found else ()
    return {found[user.pk]: user.get_username() for user in rows}


def _found(modeladmin: Any, request: HttpRequest, object_id: str) -> Policy:
    policy: Policy | None = modeladmin.get_object(request, unquote(object_id))
    if policy is None:
        raise Http404
    return policy


def _number(request: HttpRequest, name: str) -> int:
    """A version of the address; 0 for what is none."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _chosen(rows: Any, shown: Sequence[PolicyVersion], old: int, new: int) -> tuple[Any, Any]:
    """The two to compare, the older one first: those asked for, else the newest and the one before it."""
    if not (old and new):
        return (shown[1], shown[0]) if len(shown) > 1 else (None, None)
    known = {row.version: row for row in rows.filter(version__in=[old, new])}
    return known.get(min(old, new)), known.get(max(old, new))


def _row(
    row: PolicyVersion, policy: Policy, names: dict[str, str], old: PolicyVersion | None, new: PolicyVersion | None
) -> dict[str, Any]:
    return {
        "version": row.version,
        "done": differences.said(row.op),
        "at": display.instant(row.recorded_at),
        "actor": names.get(row.actor, row.actor),
        "reason": row.reason,
        "epoch": row.epoch,
        "standing": row.version == policy.version,
        "old": old is not None and row.version == old.version,
        "new": new is not None and row.version == new.version,
    }
