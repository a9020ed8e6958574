"""A form field for a row of another table: typed as its slug, name or id, resolved on the server. No list of all rows."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db import models

SUGGESTIONS = 100
OWNERS = ("tenant", "app")
"""Fields whose rows, known by slug, stand before the short name of what belongs to them."""


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

    A row of a tenant is written as tenant/short, as `acme/chat`, one of an app as `acme/chat/berlin`; a shorter form does
    where it is unambiguous. Several hits are an error that lists up to five of them.
    """

    def __init__(self, queryset: models.QuerySet[Any], **kwargs: Any) -> None:
        kwargs.pop("limit_choices_to", None)
        kwargs.pop("blank", None)
        super().__init__(queryset, empty_label=None, **kwargs)
        self.reference: str = getattr(queryset.model, "reference", "name")
        fields = {field.name for field in queryset.model._meta.fields}
        self.above = [name for name in OWNERS if name in fields]
        self.widget = ReferenceInput(self)
        self.widget.is_required = self.required

    def __deepcopy__(self, memo: Any) -> ReferenceField:
        copied = super().__deepcopy__(memo)
        copied.widget = ReferenceInput(copied, dict(self.widget.attrs))
        return copied

    def rows(self) -> models.QuerySet[Any]:
        rows: models.QuerySet[Any] = self.queryset.all()  # type: ignore[union-attr]
        return rows.select_related(*self.above)

    def text(self, row: models.Model) -> str:
        """A row as it is written whole: acme, acme/chat, acme/chat/berlin."""
        owners = [owner for name in self.above if (owner := getattr(row, name)) is not None]
        return "/".join([*(getattr(owner, owner.reference) for owner in owners), getattr(row, self.reference)])

    def candidate(self, row: models.Model) -> str:
        """What to write to mean this row and no other."""
        return self.text(row)

    def suggestions(self) -> list[str]:
        order = [*(f"{name}__slug" for name in self.above), self.reference]
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
            raise ValidationError(f"Nothing is called {text[:80]!r}. {self._example()}", code="invalid_choice")
        listed = ", ".join(self.candidate(row) for row in matches[:5])
        raise ValidationError(f"{text!r} means several: {listed}. Write one of them whole.", code="ambiguous")

    def validate(self, value: Any) -> None:
        forms.Field.validate(self, value)

    def _matching(self, text: str) -> models.QuerySet[Any]:
        if (id := _as_id(text)) is not None:
            return self.rows().filter(pk=id)
        exact = models.Q(**{f"{self.reference}__iexact": text})
        *owners, short = text.split("/")
        for names in combinations(self.above, len(owners)) if owners else ():
            path = {f"{name}__slug": owner for name, owner in zip(names, owners, strict=True)}
            exact |= models.Q(**path, **{f"{self.reference}__iexact": short})
        return self.rows().filter(exact)

    def _example(self) -> str:
        if len(self.above) > 1:
            return "Write tenant/app/code, as acme/chat/berlin, or an id."
        return "Write tenant/name, as acme/chat, or an id." if self.above else "Write its short name, or an id."


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
