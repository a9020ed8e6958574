"""The form of a question: who asks, for what, and when. Everything is typed, and looked up inside one tenant."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

from controlplane.core.references import ReferenceField
from policies.periods import FIRST, LAST
from tenants.models import APIKey, APIKeySecret, App, Branch, Tenant, User

MODES = ("read", "list", "write", "delete")
MOST_TOKENS = 2_000_000_000
LEVELS = ("app", "branch", "user", "key")
_PREFIX = re.compile(r"cpk_(?:live|test)_([0-9A-Za-z]{12})", re.ASCII)


class Moment(forms.DateTimeInput):
    """An instant, to the millisecond, by the browser's own picker; what is no instant stays as it was typed."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(attrs={"step": "any"})

    def format_value(self, value: Any) -> str | None:
        if isinstance(value, str):
            try:
                found = forms.DateTimeField().to_python(value)
            except ValidationError:
                return value
            if found is not None and not FIRST <= found < LAST:
                return value
            value = found
        if not isinstance(value, datetime):
            return None
        text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
        return text.removesuffix(":00.000").removesuffix(".000")


class AskedField(ReferenceField):
    """A row of the tenant asked about; before that one is known nothing is looked up.

    One statement each: what was typed is looked up, or the first names are offered for what was left empty.
    """

    known = True
    offered = True

    def within(self, **owners: models.Model) -> None:
        self.queryset = self.queryset.model._default_manager.filter(**owners)  # type: ignore[union-attr]
        self.known = True

    def text(self, row: models.Model) -> str:
        """Without the tenant, which stands in its own field."""
        whole = super().text(row)
        return whole.partition("/")[2] if "tenant" in self.above else whole

    def suggestions(self) -> list[str]:
        return super().suggestions() if self.offered and self.known else []

    def to_python(self, value: Any) -> Any:
        return super().to_python(value) if self.known else None

    def _example(self) -> str:
        if self.reference == "email":
            return "Write the e-mail of a user of this tenant, or an id."
        return "Write app/code, as chat/berlin, or an id." if len(self.above) > 1 else "Write its short name, or an id."


class KeyField(AskedField):
    """A key by its prefix (`cpk_live_…`), its name, or its id."""

    def rows(self) -> models.QuerySet[Any]:
        return super().rows().select_related("tenant", "app", "branch", "user")

    def candidate(self, row: models.Model) -> str:
        return f"{self.text(row)} ({row.pk})"

    def _matching(self, text: str) -> models.QuerySet[Any]:
        if prefix := _PREFIX.fullmatch(text):
            return self.rows().filter(pk__in=APIKeySecret.objects.filter(kid=prefix[1]).values("key_id"))
        return super()._matching(text)

    def _example(self) -> str:
        return "Write its prefix, as cpk_live_…, app/name, or an id."


def of_tenant(model: type[models.Model], kind: type[AskedField] = AskedField, **options: Any) -> AskedField:
    field = kind(model._default_manager.none(), required=False, **options)
    field.known = False
    return field


class ScopeForm(forms.Form):
    """Who asks. The tenant comes first: it narrows what the other names can mean."""

    tenant = AskedField(Tenant.objects.all())
    app = of_tenant(App)
    branch = of_tenant(Branch)
    user = of_tenant(User, help_text="E-mail.")
    key = of_tenant(APIKey, KeyField, label="API key", help_text="Prefix or name; it brings its app.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            if isinstance(field, AskedField):
                field.offered = not self.data.get(name)

    def clean_tenant(self) -> Tenant:
        tenant: Tenant = self.cleaned_data["tenant"]
        for name in LEVELS:
            cast(AskedField, self.fields[name]).within(tenant=tenant)
        return tenant

    def clean_app(self) -> App | None:
        app: App | None = self.cleaned_data["app"]
        if app is not None:
            cast(AskedField, self.fields["branch"]).within(tenant=app.tenant, app=app)
        return app

    @property
    def scope(self) -> dict[str, Any]:
        """Arguments of Policy.objects.effective: tenant, app, branch, user, key."""
        return {name: self.cleaned_data[name] for name in ("tenant", *LEVELS)}

    def names(self) -> dict[str, tuple[str, UUID]]:
        """Who asks, by level: the name people know and the id; what follows from a key or branch is filled in."""
        given: dict[str, Any] = {name: row for name in LEVELS if (row := self.cleaned_data[name]) is not None}
        key, branch = given.get("key"), given.get("branch")
        filled = {name: getattr(key, name) for name in LEVELS[:3]} if key else {"app": branch.app} if branch else {}
        rows = {name: given.get(name) or filled.get(name) for name in LEVELS}
        short = {"app": "slug", "branch": "code", "user": "email", "key": "name"}
        return {name: (getattr(row, short[name]), row.pk) for name, row in rows.items() if row is not None}


def _tokens(label: str, help_text: str) -> forms.IntegerField:
    widget = forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off"})
    return forms.IntegerField(
        required=False, label=label, min_value=0, max_value=MOST_TOKENS, widget=widget, help_text=help_text
    )


class QuestionForm(ScopeForm):
    """A whole question. Without a model and an address only what holds is told, and nothing is decided."""

    at = forms.DateTimeField(required=False, label="When (UTC)", widget=Moment, help_text="Empty: now.")
    model = forms.CharField(required=False, max_length=500, help_text="Any name callers may use.")
    region = forms.CharField(required=False, max_length=64, help_text="Where the call would go.")
    input_tokens = _tokens("Tokens sent", "Empty: not judged.")
    output_tokens = _tokens("Tokens asked for", "Empty: no number.")
    uri = forms.CharField(
        required=False, max_length=1200, label="Or an object", help_text="Its address: s3://bucket/key."
    )
    mode = forms.ChoiceField(
        required=False, label="To do what with it", choices=[(mode, mode) for mode in MODES], initial="read"
    )

    def clean_at(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["at"]
        if at is not None and not FIRST <= at < LAST:
            raise ValidationError("Write a time from the year 2 to 9998.", code="time_out_of_range")
        return at

    def clean_mode(self) -> str:
        return self.cleaned_data["mode"] or "read"

    def clean_uri(self) -> str:
        uri: str = self.cleaned_data["uri"]
        if uri and self.cleaned_data.get("model"):
            raise ValidationError("Ask about a model or an address, one at a time.", code="invalid")
        return uri
