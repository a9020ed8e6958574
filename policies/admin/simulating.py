"""What would become of requests if a policy were another: a page that asks them twice and stores nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.core.admin import readable_address
from controlplane.core.errors import ControlPlaneError
from controlplane.core.figures import dollars, plain
from policies.admin import owners
from policies.admin.drafting import DraftForm
from policies.admin.drafts import PolicyForm
from policies.admin.phrases import METRICS, link
from policies.admin.wording import shown
from policies.models import Policy
from policies.simulation import CounterSeen, Example, Outcome, Simulation, simulate

KINDS = ("newly_denied", "newly_allowed", "still_denied", "still_allowed")
MOST_GROUPS = 12
MOST_EXAMPLES = 20


def urls(modeladmin: Any) -> list[Any]:
    def view(request: HttpRequest) -> HttpResponse:
        return page(modeladmin, request)

    return [path("simulate/", modeladmin.admin_site.admin_view(view), name="cp_policies_policy_simulate")]


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: tenant and policy, to begin with. POST: the fields of DraftForm, and `_load` to begin anew from its policy."""
    if not request.user.has_perm("cp_policies.view_policy"):
        raise PermissionDenied
    if elsewhere := readable_address(request):
        return elsewhere
    may_read_requests = request.user.has_perm("cp_auditing.view_inferencerequest")
    asked = request.method == "POST" and "_load" not in request.POST
    if asked:
        form = DraftForm(request.POST, may_read_requests=may_read_requests)
    else:
        form = DraftForm.begun(request.POST if request.method == "POST" else request.GET, may_read_requests)
    context: dict[str, Any] = {
        **modeladmin.admin_site.each_context(request), "title": "Simulate", "opts": modeladmin.opts, "form": form,
    }  # fmt: skip
    if asked and form.is_valid():
        context |= _answer(modeladmin, request, form)
    status = 422 if asked and form.errors else 200
    return TemplateResponse(request, "cp_policies/simulate.html", context, status=status)


def _answer(modeladmin: Any, request: HttpRequest, form: DraftForm) -> dict[str, Any]:
    """What the page shows of the simulation; nothing, if the change could not be made: the form then says why."""
    tenant = form.cleaned_data["tenant"]
    try:
        sample = form.sample()
        found = simulate(tenant, [form.change()], sample)
    except ValidationError as refused:
        _mark(form, refused)
        return {}
    except ControlPlaneError as refused:
        form.add_error(None, f"{refused.message} ({refused.code})")
        return {}
    examples = found.examples[:MOST_EXAMPLES]
    names = owners.named(_met(found))
    policies = {str(id): name for id, name in _policies(found)}
    return {
        "found": found,
        "requests": plain(found.requests),
        "cards": _cards(found),
        "groups": [(level, rows) for level in ("app", "user", "model") if (rows := _groups(found.by[level], names))],
        "reasons": [(kind.replace("_", " "), _reasons(told)) for kind, told in found.reasons.items() if told],
        "values": [_value(one) for one in found.values],
        "examples": [_example(one, tenant.slug, names, policies) for one in examples],
        "started": [_counter(one, policies) for one in found.started],
        "partial": [_counter(one, policies) for one in found.partial],
        "more_examples": len(found.examples) > MOST_EXAMPLES,
        "publish": _publish(modeladmin, request, form),
    }


def _publish(modeladmin: Any, request: HttpRequest, form: DraftForm) -> dict[str, str]:
    """Where the change is looked at once more and made, and what to post there; nothing, for who may not make it."""
    draft, stored = form.draft(), form.cleaned_data["policy"]
    if stored is not None and modeladmin.has_change_permission(request):
        url = reverse("admin:cp_policies_policy_change", args=[stored.pk])
    elif stored is None and modeladmin.has_add_permission(request):
        about = {"tenant": draft.tenant.slug, "policy_type": draft.policy_type}
        url = f"{reverse('admin:cp_policies_policy_add')}?{urlencode(about)}"
    else:
        return {}
    return {"url": url, "draft": json.dumps(PolicyForm(draft).as_sent())}


def _mark(form: DraftForm, refused: ValidationError) -> None:
    """What the policy would be refused for, at the field that it was typed into."""
    told = refused.error_dict if hasattr(refused, "error_dict") else {NON_FIELD_ERRORS: refused.error_list}
    for name, errors in told.items():
        field = name.removesuffix("_id") if name.removesuffix("_id") in form.fields else None
        for error in errors:
            form.add_error(field, error)


def _met(found: Simulation) -> Iterator[Any]:
    """Ids of all whose names are shown."""
    for level in ("app", "user"):
        for id in [*found.by[level]][:MOST_GROUPS]:
            yield SimpleNamespace(
                **{"app_id": None, "branch_id": None, "user_id": None, "key_id": None, f"{level}_id": id}
            )
    yield from (example.request.scope for example in found.examples)


def _policies(found: Simulation) -> Iterable[tuple[UUID, str]]:
    outcomes = [outcome for example in found.examples for outcome in (example.before, example.after)]
    ids = {outcome.by for outcome in outcomes if outcome.by is not None}
    ids |= {one.policy for one in (*found.started, *found.partial)}
    return Policy.objects.filter(pk__in=ids).values_list("pk", "name") if ids else ()


def _cards(found: Simulation) -> list[tuple[str, str, str, str]]:
    """(label, figure, in words, better or worse) of the outcome at a glance."""
    unpriced = f", {plain(found.unpriced)} without a known cost" if found.unpriced else ""
    difference = found.cost_difference
    money = f"{'+' if difference > 0 else '−' if difference < 0 else ''}{dollars(abs(difference))}"
    of = f"of {plain(found.requests)}"
    return [
        ("Newly denied", plain(found.newly_denied), of, "worse" if found.newly_denied else ""),
        ("Newly allowed", plain(found.newly_allowed), of, ""),
        ("Changed", plain(found.changed), "still allowed, as another model or with other tokens", ""),
        ("Cost", money, f"{dollars(found.cost_before)} before, {dollars(found.cost_after)} after{unpriced}", ""),
    ]


@dataclass(frozen=True, slots=True)
class GroupRow:
    """counts: newly denied, newly allowed, and all its requests."""

    name: str
    counts: tuple[str, ...]


def _groups(by: Mapping[UUID | str | None, Mapping[str, int]], names: Mapping[str, str]) -> list[GroupRow]:
    """Those of which most changes, first; those of which nothing does are left out."""
    moved = {id: counts for id, counts in by.items() if any(counts.get(kind) for kind in KINDS[:2])}
    order = sorted(moved, key=lambda id: -sum(moved[id].get(kind, 0) for kind in KINDS[:2]))
    rows = []
    for id in order[:MOST_GROUPS]:
        name = "none" if id is None else names.get(str(id)) or (f"…{str(id)[-8:]}" if isinstance(id, UUID) else str(id))
        told = (*(moved[id].get(kind, 0) for kind in KINDS[:2]), sum(moved[id].get(kind, 0) for kind in KINDS))
        rows.append(GroupRow(name, tuple(map(plain, told))))
    return rows


def _reasons(told: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(reason, plain(count)) for reason, count in sorted(told.items(), key=lambda item: -item[1])]


def _value(one: Any) -> tuple[str, SafeString | str, SafeString | str, str]:
    before, after = ("nothing" if value is None else shown(value) for value in (one.before, one.after))
    return one.path, before, after, plain(one.requests)


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """url: the explainer, asked about this request, as the policies are now."""

    kind: str
    who: str
    what: str
    before: SafeString | str
    after: SafeString | str
    url: str
    at: Any


def _example(one: Example, tenant: str, names: Mapping[str, str], policies: Mapping[str, str]) -> ExampleRow:
    request, scope = one.request, one.request.scope
    ids = {"app": scope.app_id, "branch": scope.branch_id, "user": scope.user_id, "key": scope.key_id}
    asked: dict[str, Any] = {name: str(id) for name, id in ids.items() if id is not None}
    asked |= {"uri": request.uri, "mode": request.mode} if request.uri else {"model": request.model}
    if request.region:
        asked["region"] = request.region
    if request.input_tokens is not None and request.model:
        asked |= {"input_tokens": request.input_tokens}
    question = {"tenant": tenant, **asked, "at": request.at.isoformat()}
    who = ", ".join(names.get(str(ids[level]), "") for level in ("app", "user", "key") if ids[level] is not None)
    return ExampleRow(
        kind=one.kind.replace("_", " "),
        who=who or "organization",
        what=request.uri or request.model,
        before=_outcome(one.before, policies),
        after=_outcome(one.after, policies),
        url=f"{reverse('admin:cp_policies_policy_explain')}?{urlencode(question)}",
        at=request.at,
    )


def _outcome(one: Outcome, policies: Mapping[str, str]) -> SafeString | str:
    told = one.reason.replace("_", " ")
    if one.allow:
        tokens = "" if one.output_tokens is None else f", {one.output_tokens:,} tokens"
        return f"{one.model or 'allowed'}{tokens}"
    by = None if one.by is None else str(one.by)
    if by is None or by not in policies:  # a new policy has no page yet
        return told
    return format_html("{} by {}", told, link(by, policies))


def _counter(one: CounterSeen, policies: Mapping[str, str]) -> str:
    whose = f"for each {one.owner.removeprefix('per:')}" if one.owner.startswith("per:") else "for its whole scope"
    models = f", of {', '.join(one.models)}" if one.models else ""
    policy = policies.get(str(one.policy), "the new policy") or "a policy"
    metric = METRICS.get(one.metric, one.metric.replace("_", " "))
    what = {"none": f"{metric} at once", "total": f"{metric} in all"}.get(one.window, f"{metric} by {one.window}")
    met = f", {plain(one.owners)} of them" if one.owners > 1 else ""
    return f"{policy}: {what}, {whose}{models}{met}"
