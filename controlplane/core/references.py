"""A form field for a row of another table: typed as its slug, name or id, resolved on the server. No list of all rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

SUGGESTIONS = 100


class ReferenceInput(forms.TextInput):
    """A text input with the first rows as suggestions, which browsers offer without a script."""

    template_name = "cp_core/reference.html"

    def __init__(self, field: ReferenceField, attrs: dict[str, Any] | None = None) -> None:
        self.field = field
        super().__init__(attrs)

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        context["widget"]["attrs"]["list"] = f"{context['widget']['attrs'].get('id', name)}_options"
        context["widget"]["attrs"]["autocomplete"] = "off"
        context["options"] = self.field.suggestions()
        return context


class ReferenceField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """Chooses a row of a model by `Model.reference`: the name of its short field (slug, code, e-mail, key).

    A row of a tenant is written as tenant/short, as `acme/chat`; the short form alone does where it is unambiguous. Several
    hits are an error that lists up to five of them.
    """

    def __init__(self, queryset: models.QuerySet[Any], **kwargs: Any) -> None:
        kwargs.pop("limit_choices_to", None)
        kwargs.pop("blank", None)
        super().__init__(queryset, empty_label=None, **kwargs)
        self.reference: str = queryset.model.reference
        self.by_tenant = any(field.name == "tenant" for field in queryset.model._meta.fields)
        self.widget = ReferenceInput(self)
        self.widget.is_required = self.required

    def __deepcopy__(self, memo: Any) -> ReferenceField:
        copied = super().__deepcopy__(memo)
        copied.widget = ReferenceInput(copied, dict(self.widget.attrs))
        return copied

    def rows(self) -> models.QuerySet[Any]:
        rows: models.QuerySet[Any] = self.queryset.all()  # type: ignore[union-attr]
        return rows.select_related("tenant") if self.by_tenant else rows

    def text(self, row: models.Model) -> str:
        short = getattr(row, self.reference)
        tenant = getattr(row, "tenant", None) if self.by_tenant else None
        return f"{tenant.slug}/{short}" if tenant is not None else str(short)

    def suggestions(self) -> list[str]:
        order = ["tenant__slug", self.reference] if self.by_tenant else [self.reference]
        return [self.text(row) for row in self.rows().order_by(*order)[:SUGGESTIONS]]

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, models.Model):
            return self.text(value)
        if isinstance(value, UUID):
            row = self.rows().filter(pk=value).first()
            return self.text(row) if row else value
        return value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return not self.disabled and str(self.prepare_value(initial) or "") != str(data or "").strip()

    def to_python(self, value: Any) -> Any:
        text = str(value or "").strip().replace("\x00", "")
        if not text:
            return None
        matches = list(self._matching(text)[:6])
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise ValidationError(f"Nothing is called {text!r}. {self._example()}", code="invalid_choice")
        listed = ", ".join(self.text(row) for row in matches[:5])
        raise ValidationError(f"{text!r} means several: {listed}. Write one of them whole.", code="ambiguous")

    def validate(self, value: Any) -> None:
        forms.Field.validate(self, value)

    def _matching(self, text: str) -> models.QuerySet[Any]:
        try:
            return self.rows().filter(pk=UUID(text))
        except ValueError:
            pass
        exact = models.Q(**{f"{self.reference}__iexact": text})
        if self.by_tenant and "/" in text:
            tenant, short = text.split("/", 1)
            exact |= models.Q(**{"tenant__slug": tenant, f"{self.reference}__iexact": short})
        return self.rows().filter(exact)

    def _example(self) -> str:
        return "Write tenant/name, as acme/chat, or an id." if self.by_tenant else "Write its short name, or an id."
