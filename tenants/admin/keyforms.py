"""Forms of API keys: a new one, which carries the id it will have, and one that is changed."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from controlplane.core.admin import WholeRowForm
from controlplane.core.ids import now, uuid7
from tenants import tokens
from tenants.errors import KeyOperationError
from tenants.models import APIKey

FIELDS = {"bad_expiry": "expires_at", "bad_scope": "scopes"}
"""Where an error of a key is shown; others stand above the form."""


class KeyForm(WholeRowForm):
    """What both have in common: an empty list of models restricts nothing, and no field may hold a token."""

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("allowed_models") == [] and self.initial.get("allowed_models") != []:
            cleaned["allowed_models"] = None  # a key that was made for no model at all stays so
        for name in ("name", "metadata", "tags"):
            if tokens.holds_token(json.dumps(cleaned.get(name), default=str)):
                self.add_error(
                    name, forms.ValidationError(KeyOperationError.messages["contains_token"], code="contains_token")
                )
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            try:
                self._check()
            except KeyOperationError as error:
                self.add_error(FIELDS.get(error.code), forms.ValidationError(error.message, code=error.code))

    def _check(self) -> None:
        self.instance.check_ends()


class NewKeyForm(KeyForm):
    """Sent twice, it makes one key: it carries the id that the key will have."""

    new_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid7)

    def clean_new_id(self) -> Any:
        """An id that is taken belongs to another form; the admin has answered a repeated one already."""
        id = self.cleaned_data["new_id"]
        if id.version != 7:  # the nil id would mean "no key" to a policy
            raise forms.ValidationError("This form is damaged. Open it anew.", code="invalid")
        if APIKey.objects.filter(pk=id).exists():
            raise forms.ValidationError("This form was sent before. Open it anew for another key.", code="repeated")
        return id

    def clean_user(self) -> Any:
        user = self.cleaned_data["user"]
        if user is not None and user.tenant_id is None:
            raise forms.ValidationError(KeyOperationError.messages["operator"], code="operator")
        return user

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        app = cleaned.get("app")
        if app is not None:
            self.instance.tenant_id = app.tenant_id
        return cleaned

    def _check(self) -> None:
        self.instance.check_new(now())
