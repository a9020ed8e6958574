"""The form of a change that nobody has made, and of the requests to try it on."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from controlplane.core.forms import JSONField
from controlplane.core.ids import now
from policies.admin.asking import LEVELS, AskedField, ScopeForm
from policies.models import Policy
from policies.scope import Scope
from policies.simulation import Change, Request, Sample
from tenants.models import App, Tenant, User

MOST_REQUESTS = 1_000
WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
TYPED = "typed"


class IndentedJSON(json.JSONEncoder):
    """Writes JSON over several lines, as people edit it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 2, "ensure_ascii": False})


class PolicyField(AskedField):
    """A policy of the tenant by its name or id."""

    def rows(self) -> models.QuerySet[Any]:
        return super().rows().select_related("tenant", "app", "branch", "user", "key")

    def text(self, row: models.Model) -> str:
        return str(getattr(row, "name", "") or row.pk)

    def candidate(self, row: models.Model) -> str:
        return str(row.pk)

    def suggestions(self) -> list[str]:
        if not (self.offered and self.known):
            return []
        names: list[str] = list(self.rows().exclude(name="").order_by("name").values_list("name", flat=True)[:100])
        return names

    def _matching(self, text: str) -> models.QuerySet[Any]:
        try:
            return self.rows().filter(pk=UUID(text))
        except ValueError:
            return self.rows().filter(name__iexact=text)

    def _example(self) -> str:
        return "Write its name or its id, or leave it empty for a new one."


class DraftForm(ScopeForm):
    """A change of one policy, or a new one, and a sample of requests."""

    policy = PolicyField(Policy.objects.none(), required=False, help_text="Name or id. Empty: a new one.")
    policy_type = forms.ChoiceField(
        required=False, label="Type", choices=[("", "–"), *Policy.Type.choices], help_text="Of a new one."
    )
    config = JSONField(
        required=False, initial=dict, encoder=IndentedJSON, label="Config, as JSON",
        widget=forms.Textarea(attrs={"rows": 12, "cols": 80, "spellcheck": "false", "class": "cp-mono"}),
    )  # fmt: skip
    enabled = forms.BooleanField(required=False, initial=True, help_text="Off: try what happens without it.")
    requests = forms.ChoiceField(
        initial="24h", label="Try it on",
        choices=[
            ("1h", "what was asked in the last hour"), ("24h", "what was asked in 24 hours"),
            ("7d", "what was asked in 7 days"), (TYPED, "the requests typed below"),
        ],
        help_text="At most 1,000, the first of that span.",
    )  # fmt: skip
    lines = forms.CharField(
        required=False, label="Requests, one on a line", max_length=200_000,
        widget=forms.Textarea(attrs={"rows": 5, "cols": 80, "spellcheck": "false", "class": "cp-mono"}),
        help_text="app, user, model, tokens sent, tokens of the answer. What is left out is empty: chat,, gpt-4o, 1200",
    )  # fmt: skip

    def __init__(self, *args: Any, may_read_requests: bool = True, **kwargs: Any) -> None:
        self.may_read_requests = may_read_requests
        self.wrong: dict[str, str] = {}
        self.asked: list[Request] = []
        super().__init__(*args, **kwargs)
        policy: Any = self.fields["policy"]
        policy.known = False

    @classmethod
    def begun(cls, given: Mapping[str, Any], may_read_requests: bool) -> Self:
        """The form to begin with: of the tenant and the policy that are named, as far as there are such."""
        first = cls({name: given.get(name, "") for name in ("tenant", "policy")}, may_read_requests=may_read_requests)
        first.full_clean()
        found = getattr(first, "cleaned_data", {})
        tenant, policy = found.get("tenant"), found.get("policy")
        initial: dict[str, Any] = {name: given.get(name, "") for name in ("tenant", "policy", "lines")}
        if given.get("requests") in dict(cls.base_fields["requests"].choices):  # type: ignore[attr-defined]
            initial["requests"] = given["requests"]
        if policy is not None:
            initial |= {"policy": policy.name or str(policy.pk), "config": policy.config, "enabled": policy.enabled}
        form = cls(initial=initial, may_read_requests=may_read_requests)
        if tenant is not None:
            form.know(tenant)
        for name in ("tenant", "policy"):
            if given.get(name) and name in first.errors:
                form.wrong[name] = " ".join(map(str, first.errors[name]))
        return form

    @property
    def whose(self) -> list[forms.BoundField]:
        return [self[name] for name in ("tenant", "policy")]

    @property
    def new(self) -> list[forms.BoundField]:
        """The fields of a new policy."""
        return [self[name] for name in ("policy_type", *LEVELS)]

    @property
    def open_new(self) -> bool:
        return any(field.errors or field.data for field in self.new)

    @property
    def said(self) -> list[forms.BoundField]:
        return [self[name] for name in ("enabled", "config")]

    @property
    def tried(self) -> list[forms.BoundField]:
        return [self[name] for name in ("requests", "lines")]

    def know(self, tenant: Tenant) -> None:
        for name in ("policy", *LEVELS):
            field: Any = self.fields[name]
            field.within(tenant=tenant)
            field.offered = name == "policy"  # a statement each

    def clean_tenant(self) -> Tenant:
        tenant = super().clean_tenant()
        self.know(tenant)
        return tenant

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "tenant" not in cleaned:
            return cleaned
        if cleaned.get("policy") is None and "policy" not in self.errors and not cleaned.get("policy_type"):
            self.add_error("policy", ValidationError("Name a policy to change, or choose the type of a new one."))
        if cleaned.get("requests") == TYPED:
            self._read_lines(cleaned)
        elif not self.may_read_requests:
            self.add_error("requests", ValidationError("Your account may not see requests. Type some below."))
        return cleaned

    def change(self) -> Change:
        asked, written = self.cleaned_data, self._written()
        if asked["policy"] is not None:
            return Change("update", asked["policy"].pk, written)
        scope = {f"{level}_id": asked[level] and asked[level].pk for level in LEVELS}
        return Change("create", None, {**written, **scope, "policy_type": asked["policy_type"]})

    def draft(self) -> Policy:
        """The policy as it would be, not stored."""
        asked, written = self.cleaned_data, self._written()
        if asked["policy"] is None:
            scope = {level: asked[level] for level in LEVELS}
            return Policy(tenant=asked["tenant"], policy_type=asked["policy_type"], **scope, **written)
        policy: Policy = copy.copy(asked["policy"])
        for name, value in written.items():
            setattr(policy, name, value)
        return policy

    def _written(self) -> dict[str, Any]:
        config = self.cleaned_data["config"]
        return {"config": {} if config is None else config, "enabled": self.cleaned_data["enabled"]}

    def sample(self) -> Sample:
        asked = self.cleaned_data
        if asked["requests"] == TYPED:
            return Sample.of(self.asked)
        end = now()
        return Sample.from_requests(asked["tenant"], end - WINDOWS[asked["requests"]], end, MOST_REQUESTS)

    def _read_lines(self, cleaned: Mapping[str, Any]) -> None:
        rows = [
            (number, _parts(text))
            for number, text in enumerate(cleaned.get("lines", "").splitlines(), 1)
            if text.strip()
        ]
        if not rows or len(rows) > MOST_REQUESTS:
            self.add_error("lines", ValidationError(f"Type 1 to {MOST_REQUESTS:,} requests, one on a line."))
            return
        tenant = cleaned["tenant"]
        found = App.objects.filter(tenant=tenant, slug__in={parts[0] for _, parts in rows if parts[0]})
        apps = {app.slug: app.pk for app in found}
        emails = {parts[1].lower() for _, parts in rows if parts[1]}
        named = User.objects.filter(tenant=tenant).filter(
            Q(email__in=emails) | Q(email__in=[parts[1] for _, parts in rows])
        )
        users = {user.email.lower(): user.pk for user in named} if emails else {}
        present = now()
        for number, parts in rows:
            for fault in _faults(parts, apps, users):
                self.add_error("lines", ValidationError(f"Line {number}: {fault}"))
                return
            app, user, model, sent, answered = parts
            scope = Scope(tenant.pk, apps.get(app), None, users.get(user.lower()))
            self.asked.append(
                Request(
                    scope, present, model, input_tokens=int(sent) if sent else None,
                    output_tokens=int(answered) if answered else None, request_id=f"line {number:04d}",
                )
            )  # fmt: skip


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    return (parts + [""] * 5)[: max(5, len(parts))]


def _faults(parts: list[str], apps: Mapping[str, UUID], users: Mapping[str, UUID]) -> Iterator[str]:
    if len(parts) > 5:
        yield "write at most app, user, model and two numbers of tokens."
        return
    app, user, model, *tokens = parts
    if app and app not in apps:
        yield f"there is no app {app[:80]!r} here."
    if user and user.lower() not in users:
        yield f"there is no user {user[:80]!r} here."
    if not model:
        yield "name a model, as in chat,, gpt-4o."
    for number in tokens:
        if number and not (number.isascii() and number.isdigit() and len(number) < 10):
            yield f"{number[:40]!r} is no number of tokens."
