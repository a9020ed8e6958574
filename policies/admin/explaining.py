"""Why may this request do that, or not? A page that asks the functions that decide, and shows all they considered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path

from controlplane.core import display
from controlplane.core.admin import readable_address
from controlplane.core.ids import now
from policies.admin import wording
from policies.admin.asking import QuestionForm
from policies.deciding import Verdict
from policies.decisions import Decision, TokenDecision
from policies.effective import OF_A_CALL, EffectivePolicy
from policies.errors import PolicyError
from policies.explain import explain
from policies.models import Policy
from policies.standing import hardest, standing

MOST_LEFT_OUT = 200


def urls(modeladmin: Any) -> list[Any]:
    def view(request: HttpRequest) -> HttpResponse:
        return page(modeladmin, request)

    return [path("explain/", modeladmin.admin_site.admin_view(view), name="cp_policies_policy_explain")]


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: the fields of QuestionForm; format=json for the record itself."""
    if not request.user.has_perm("cp_policies.view_policy"):
        raise PermissionDenied
    if elsewhere := readable_address(request):
        return elsewhere
    form = QuestionForm(request.GET if "tenant" in request.GET else None, initial=request.GET.dict())
    answer: dict[str, Any] = {}
    if form.is_bound and form.is_valid():
        try:
            answer = _answer(form)
        except PolicyError as refused:
            form.add_error(None, f"{refused.message} ({refused.code})")
    status = 422 if form.errors else 200
    if request.GET.get("format") == "json":
        return _download(form, answer, status)
    context = {
        **modeladmin.admin_site.each_context(request), "title": "Explain", "opts": modeladmin.opts, "form": form, **answer,
    }  # fmt: skip
    return TemplateResponse(request, "cp_policies/explain.html", context, status=status)


def _download(form: QuestionForm, answer: Mapping[str, Any], status: int) -> HttpResponse:
    if not answer:
        return JsonResponse({"errors": form.errors.get_json_data()}, status=status if form.errors else 422)
    name = f"explain-{form.cleaned_data['tenant'].slug}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return JsonResponse(answer["record"], headers=headers, json_dumps_params={"indent": 2})


def _answer(form: QuestionForm) -> dict[str, Any]:
    """The record, and its words for the page. Raises PolicyError."""
    asked = form.cleaned_data
    effective = Policy.objects.effective(**form.scope, at=asked["at"] or now())  # no cache: people ask what is stored
    decision, buckets = _judge(effective, asked)
    left_out = Policy.objects.left_out(effective, MOST_LEFT_OUT)
    record = explain(effective, decision, left_out, buckets)
    names = {str(id): stored.name for id, stored in effective.policies.items()}
    others = Policy.objects.filter(pk__in=[id for id, _ in left_out])
    names |= {str(id): name for id, name in others.values_list("pk", "name")} if left_out else {}
    owners = {str(id): name for name, id in form.names().values()}
    return {
        "record": record,
        "names": form.names(),
        "tenant": asked["tenant"],
        "instant": display.instant(effective.at),
        "local": f"{effective.at.astimezone(ZoneInfo(effective.time_zone)):%a %H:%M:%S}",
        "time_zone": effective.time_zone,
        "sentence": wording.sentence(record, _subject(asked, record), names, owners) if decision is not None else "",
        "checks": wording.checks(record, names),
        "limits": wording.limits(record, names, owners),
        "values": wording.values(record, names),
        "layers": wording.layers(record, names),
        "left_out": wording.left_out(record, names),
        "more_left_out": len(left_out) == MOST_LEFT_OUT,
        "conflicts": wording.conflicts(record["conflicts"]),
        "needs_region": bool(decision and asked["model"] and not asked["region"] and effective.restricts_regions),
        "link": f"?{urlencode(_question(form, record))}",
        "test": as_test(form, record),
    }


Judged = tuple[Decision | None, list[dict[str, Any]]]


def _judge(effective: EffectivePolicy, asked: Mapping[str, Any]) -> Judged:
    """The decision and how the limits stand, in the gate's order: the model, the tokens, the limits."""
    if asked["uri"]:
        return effective.decide_storage(asked["uri"], asked["mode"]), []
    if not asked["model"]:
        return None, []
    decision, output = effective.decide_model(asked["model"], asked["region"] or None), asked["output_tokens"]
    if refusal := effective.unreadable(*OF_A_CALL):
        return Decision.of(effective, refusal, decision.request, decision.record), []
    if decision and asked["input_tokens"] is not None:
        tokens = effective.check_tokens(asked["input_tokens"], output)
        decision, output = _with_tokens(decision, tokens), tokens.output_tokens
    if decision.record is None:
        return decision, []
    buckets = standing(effective, decision.record, asked["model"], effective.at, asked["input_tokens"], output)
    failing = sorted((one for one in buckets if one["result"] == "fail"), key=lambda one: str(one["kind"]))
    if not decision or not failing:
        return decision, buckets
    reason = "budget_exceeded" if failing[0]["kind"] == "budget" else "rate_limited"
    return _refused(decision, reason, [UUID(hardest(one)["policy"]) for one in failing]), buckets


def _with_tokens(model: Decision, tokens: TokenDecision) -> Decision:
    verdict = (model if tokens else tokens).verdict
    verdict = replace(verdict, checks=(*model.verdict.checks, *tokens.verdict.checks))
    return Decision.of(model.effective, verdict, {**model.request, **tokens.request}, model.record)


def _refused(model: Decision, reason: str, policies: Sequence[UUID]) -> Decision:
    """A permitted model that a later question refuses."""
    verdict = Verdict(False, reason, by=policies[0], policies=tuple(policies), checks=model.verdict.checks)
    return Decision.of(model.effective, verdict, model.request, model.record)


def _subject(asked: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    if asked["uri"]:
        return f"To {asked['mode']} {asked['uri']}"
    name, resolved = asked["model"], record["request"].get("model_resolved")
    return f"{name} ({resolved})" if resolved and resolved != name else str(name)


def _question(form: QuestionForm, record: Mapping[str, Any]) -> dict[str, str]:
    """The address of this very answer: what was typed, and the instant that was meant."""
    typed = {name: text for name in form.fields if (text := form.data.get(name, "").strip())}
    if not form.cleaned_data["uri"]:
        typed.pop("mode", None)
    return typed | {"at": record["at"]}


_TEST = """\
def test_{name}():
    tenant = Tenant.objects.get(slug={tenant!r})
    effective = Policy.objects.effective(
        tenant,{scope}
        at=datetime.fromisoformat({at!r}),
    )

    {asserted}
"""
_SHORT = {"app": ("apps", "slug"), "branch": ("branches", "code"), "user": ("users", "email"), "key": ("keys", "id")}


def as_test(form: QuestionForm, record: Mapping[str, Any]) -> str:
    """This answer as a test in Python, for people to keep: it fails once the answer is another one."""
    asked = form.cleaned_data
    given = {level: asked[level] for level in _SHORT if asked[level] is not None}
    scope = "".join(f"\n        {level}={_found(level, row)}," for level, row in given.items())
    name, asserted = _asserted(asked, record)
    return _TEST.format(name=name, tenant=asked["tenant"].slug, scope=scope, at=record["at"], asserted=asserted)


def _asserted(asked: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str, str]:
    """The rest of the test's name, and what it asks and asserts."""
    if record.get("reason") in (None, "budget_exceeded", "rate_limited"):  # counters move on
        fingerprint = record["policy_set"]["fingerprint"].removeprefix("sha256:")
        return "the_same_policies_apply", f"assert effective.fingerprint == {fingerprint!r}"
    if asked["uri"]:
        question = f"effective.decide_storage({asked['uri']!r}, {asked['mode']!r})"
    elif record["reason"] == "token_cap_exceeded":
        question = f"effective.check_tokens({asked['input_tokens']}, {asked['output_tokens']})"
    else:
        region = f", {asked['region']!r}" if asked["region"] else ""
        question = f"effective.decide_model({asked['model']!r}{region})"
    allowed, reason = record["decision"] == "allow", record["reason"]
    asserted = f"decision = {question}\n\n    assert (decision.allow, decision.reason) == {(allowed, reason)!r}"
    return "it_is_allowed" if allowed else f"it_is_refused_as_{reason}", asserted


def _found(level: str, row: Any) -> str:
    relation, field = _SHORT[level]
    by = f"{field}={str(getattr(row, field))!r}"
    if level == "branch":
        by = f"app__slug={row.app.slug!r}, {by}"
    return f"tenant.{relation}.get({by})"
