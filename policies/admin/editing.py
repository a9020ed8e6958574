"""The pages on which a policy is written: its type first, then its fields, then a look at what the change would do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from auditing.context import audit_context
from controlplane.core.references import ReferenceField
from policies.admin import comparing, differences, weighing
from policies.admin.drafts import PolicyForm
from policies.errors import PolicyError
from policies.forms.parts import Sent, first
from policies.forms.words import TYPES
from policies.models import Policy, PolicyVersion
from tenants.models import Tenant

BUTTONS = (
    "csrfmiddlewaretoken",
    "_review",
    "_preview",
    "_add",
    "_as",
    "_apply",
    "_edit",
    "draft",
    "reason",
    "confirmed",
)
"""What is posted beside the draft itself."""
MOST_TEXT = 1_000_000


class SubjectForm(forms.Form):
    """What a new policy is about; neither can be changed later."""

    tenant = ReferenceField(Tenant.objects.all())
    policy_type = forms.ChoiceField(choices=[(name, title) for name, (title, _) in TYPES.items()])


def add(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET: tenant and policy_type, and what the scope is to be: app, branch, user, key. POST, to the same address: the
    policy."""
    if not modeladmin.has_add_permission(request):
        raise PermissionDenied
    asked = {name: request.GET.get(name, "").replace("\x00", "") for name in ("tenant", "policy_type")}
    subject = SubjectForm(asked if all(asked.values()) else None, initial=asked)
    if not subject.is_bound or not subject.is_valid():
        context = _context(modeladmin, request, "New policy") | {
            "form": subject, "types": [(name, *words) for name, words in TYPES.items()], "chosen": asked["policy_type"],
        }  # fmt: skip
        return TemplateResponse(request, "cp_policies/policy_subject.html", context)
    policy = Policy(tenant=subject.cleaned_data["tenant"], policy_type=subject.cleaned_data["policy_type"])
    return _Editing(modeladmin, request, policy).answer()


def change(modeladmin: Any, request: HttpRequest, policy: Policy) -> HttpResponse:
    """The page of a stored policy, for those who may change it."""
    return _Editing(modeladmin, request, policy).answer()


def restoring(modeladmin: Any, request: HttpRequest, policy: Policy, old: Policy, version: int) -> HttpResponse:
    """The review of putting an old version back. old: the policy as it was then; not stored."""
    form = PolicyForm(policy, PolicyForm(old).as_sent())
    page = _Editing(modeladmin, request, policy, version)
    return page.review(form) if form.is_valid() else page.form(form)


class _Editing:
    """One request of somebody who writes a policy. Nothing is kept between two of them: the draft travels along."""

    def __init__(self, modeladmin: Any, request: HttpRequest, policy: Policy, restored: int = 0) -> None:
        self.modeladmin, self.request, self.policy = modeladmin, request, policy
        self.new = policy._state.adding
        self.restored = restored or self._restored()

    def answer(self) -> HttpResponse:
        posted = self.request.POST
        if self.request.method != "POST":
            scope = {name: self.request.GET.get(name, "") for name in ("app", "branch", "user", "key") if self.new}
            return self.form(PolicyForm(self.policy, initial={k: v for k, v in scope.items() if v}), judged=False)
        sent = self.sent()
        if self.new and (made := self.made_already(_id(first(sent, "id")))):
            return made
        form = PolicyForm(self.policy, sent)
        if "_add" in posted:
            return self.form(PolicyForm(self.policy, form.with_rows(posted["_add"])), judged=False)
        if "_as" in posted:
            turned = PolicyForm(self.policy, form.turned(posted["_as"]))
            return self.form(turned, judged=turned.as_json and posted["_as"] != "json")
        if "_edit" in posted:
            return self.form(form, judged=False)
        if "_preview" in posted:
            return self.form(form)
        if not form.is_valid() or form.stale:
            return self.form(form)
        return self.apply(form) if "_apply" in posted else self.review(form)

    def sent(self) -> Sent:
        """What the browser sent of the policy: on the form as inputs, on the page after it as one text."""
        if "draft" not in self.request.POST:
            return {name: [*map(str, texts)] for name, texts in self.request.POST.lists() if name not in BUTTONS}
        try:
            found = json.loads(self.request.POST["draft"][:MOST_TEXT])
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            return {}
        return {_text(name): [*map(_text, texts)] for name, texts in found.items() if isinstance(texts, list)}

    def form(self, form: PolicyForm, judged: bool = True) -> HttpResponse:
        """The page with the inputs. judged: with what is wrong, and what would come of it."""
        posted = self.request.method == "POST"
        stale = self.overtaken(form) if posted and form.stale else {}
        valid = posted and judged and form.is_valid()
        context = _context(self.modeladmin, self.request, self.title()) | {
            "form": form, "original": None if self.new else self.policy, "judged": judged,
            "type": TYPES[self.policy.policy_type], "stale": bool(stale), **stale,
            "preview": comparing.preview(form.instance) if valid else None,
            "findings": weighing.quick_findings(form.instance) if valid else None, "settings": form.settings(judged),
            "config_node": form.config_node(judged), "config_faults": form.config_faults(judged),
            "schedule_nodes": form.schedule_nodes(judged), "schedule_faults": form.schedule_faults(judged),
            "action": self.action(), "more_open": _more_open(form),
            "changelist_url": reverse("admin:cp_policies_policy_changelist"),
            "object_actions": [] if self.new else self.modeladmin.object_actions(self.request, self.policy),
        }  # fmt: skip
        wrong = stale or (posted and judged and not (valid and "_preview" in self.request.POST))
        return TemplateResponse(self.request, "cp_policies/policy_form.html", context, status=422 if wrong else 200)

    def overtaken(self, form: PolicyForm) -> dict[str, Any]:
        """What somebody else made of the policy meanwhile, and what the draft would make of that. From now on the draft
        is one against the version that is stored."""
        stored = differences.record(self.policy)
        seen = PolicyVersion.objects.for_policy(self.policy).filter(version=form.version).first()
        before = PolicyVersion.objects.for_policy(self.policy).filter(version=self.policy.version).first()
        form.sent["version"] = [str(self.policy.version)]
        form.is_valid()
        return {
            "theirs": differences.between(self.policy, seen.body, before.body) if seen and before else [],
            "yours": differences.between(self.policy, stored, differences.record(form.instance)),
        }

    def review(self, form: PolicyForm, errors: Sequence[str] = ()) -> HttpResponse:
        """The page between the form and the change: what differs, what comes of it, and why. errors: of a first try."""
        findings = weighing.findings(form.instance)
        blank = Policy(pk=form.instance.pk, tenant=self.policy.tenant, policy_type=self.policy.policy_type)
        before = differences.record(blank if self.new else self.policy)
        context = _context(self.modeladmin, self.request, self.title()) | {
            "form": form, "original": None if self.new else self.policy, "errors": errors, "step": "Review",
            "type": TYPES[self.policy.policy_type], "restored": self.restored,
            "reason": self.request.POST.get("reason", ""), "draft": json.dumps(form.sent),
            "differences": differences.between(form.instance, before, differences.record(form.instance)),
            "preview": comparing.preview(form.instance), "action": self.action(), "findings": findings,
            "confirmed": findings.digest and self.request.POST.get("confirmed") == findings.digest,
            "weighed": weighing.weigh(form.instance), "days": weighing.DAYS,
        }  # fmt: skip
        return TemplateResponse(self.request, "cp_policies/policy_review.html", context, status=422 if errors else 200)

    def action(self) -> str:
        """Where the pages post to: the page of a new policy keeps what it was asked for."""
        if self.new:
            return self.request.get_full_path()
        return reverse("admin:cp_policies_policy_change", args=[self.policy.pk])

    def apply(self, form: PolicyForm) -> HttpResponse:
        reason = self.request.POST.get("reason", "").replace("\x00", "").strip()
        if missing := list(self._missing(form, reason)):
            return self.review(form, missing)
        policy = form.instance
        try:
            with audit_context(reason=reason):
                if self.restored:
                    self.policy.restore(self.restored, if_version=form.version)
                else:
                    policy.save(if_version=None if self.new else form.version)
        except ValidationError as refused:
            return self.review(form, refused.messages)
        except IntegrityError:
            if made := self.made_already(policy.pk):
                return made
            raise
        except PolicyError as refused:
            return self.review(form, [refused.message])
        policy.refresh_from_db(fields=["version"])
        messages.success(self.request, f"{policy}: version {policy.version} holds from now on.")
        return HttpResponseRedirect(reverse("admin:cp_policies_policy_change", args=[policy.pk]))

    def made_already(self, id: UUID | None) -> HttpResponse | None:
        """The way to the policy that a form sent twice has made; else the new policy gets the id of its form, if free."""
        owner = Policy._base_manager.filter(pk=id).values_list("tenant_id", flat=True).first() if id else None
        if owner == self.policy.tenant_id and "_apply" in self.request.POST:
            messages.info(self.request, "This policy is created already; nothing was done twice.")
            return HttpResponseRedirect(reverse("admin:cp_policies_policy_change", args=[id]))
        if id and owner is None:
            self.policy.pk = id
        return None

    def _missing(self, form: PolicyForm, reason: str) -> Iterator[str]:
        """What stands between a valid draft and the change."""
        findings = weighing.findings(form.instance)
        if findings.errors:
            yield "This cannot work as written. Go back to the form, and correct what is found below."
        elif findings.warnings and self.request.POST.get("confirmed") != findings.digest:
            yield "Tick that you have read the warnings, or go back to the form."
        if not reason:
            yield "Say why: this is kept with the version and in the audit log."

    def _restored(self) -> int:
        """The version that is to be put back, 0 if none is."""
        text = "" if self.new else self.request.POST.get("restored", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    def title(self) -> str:
        return f"New policy: {TYPES[self.policy.policy_type][0].lower()}" if self.new else str(self.policy)


def _id(text: str) -> UUID | None:
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if found.version == 7 else None


def _text(sent: object) -> str:
    """JSON can hold halves of characters, which no page and no column can."""
    return str(sent).encode("utf-8", "replace").decode()


def _more_open(form: PolicyForm) -> bool:
    """Whether anything is said, or wrong, in the part of the form that is closed at first."""
    columns = ("valid_from", "valid_until", "priority", "message", "description")
    if form.instance.schedule is not None or form.schedule_faults():
        return True
    return any(
        form[name].value() not in (None, "", 0, "0") or (form.is_bound and name in form.errors) for name in columns
    )


def _context(modeladmin: Any, request: HttpRequest, title: str) -> dict[str, Any]:
    return {**modeladmin.admin_site.each_context(request), "title": title, "opts": modeladmin.opts}
