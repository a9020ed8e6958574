"""Forms of a price import: the file, how it is compared, and what is applied of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from catalog.drafts import Asked
from catalog.forms import Moment, reason_field
from catalog.importing.applying import DEFAULT_SOURCE
from catalog.importing.reading import MAX_BYTES
from controlplane.core.references import ReferenceField
from tenants.models import Tenant


class CompareForm(forms.Form):
    """How a file is compared with the prices in force."""

    source = forms.CharField(
        max_length=100, initial=DEFAULT_SOURCE,
        help_text="Whose file it is. Models that the same source brought before, and that are missing now, are unlisted.",
    )  # fmt: skip
    source_version = forms.CharField(
        max_length=200, required=False, label="Version", help_text="Empty: the beginning of its SHA-256."
    )
    tenant = ReferenceField(
        Tenant.objects.all(), required=False, help_text="Empty: list prices. Else these prices are this tenant's alone."
    )
    effective_from = forms.DateTimeField(
        required=False, label="From (UTC)", widget=Moment, help_text="Empty: when it is applied."
    )
    threshold = forms.DecimalField(
        min_value=0, max_value=999_999, max_digits=8, decimal_places=2, initial=Decimal(20), label="Flag from, %",
        help_text="Rates that move by more are flagged.",
        widget=forms.TextInput(attrs={"inputmode": "decimal", "class": "cp-amount"}),
    )  # fmt: skip

    @property
    def asked(self) -> Asked:
        return Asked(**{name: self.cleaned_data[name] for name in CompareForm.base_fields})


class UploadForm(CompareForm):
    """A file, at most 64 MiB."""

    file = forms.FileField(
        max_length=200, label="Price file", help_text="JSON, as LiteLLM publishes it; at most 64 MiB.",
        widget=forms.FileInput(attrs={"accept": ".json,application/json"}),
    )  # fmt: skip
    field_order = ("file",)

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise ValidationError(
                f"This file is larger than {MAX_BYTES // 1024**2} MiB. A price file has a few; check what it is.",
                code="too_large",
            )
        return file


class ApplyForm(forms.Form):
    """What is applied: of the diff with this digest."""

    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)
    reason = reason_field(help_text="It is kept with the import and each price.")
    allow_shrink = forms.BooleanField(required=False, label="Apply it all the same")
