"""Form fields that refuse with a sentence what the database would refuse with an error."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from controlplane.core.fields import validate_json


class JSONField(forms.JSONField):
    """JSON as jsonb takes it: Python's reader also knows NaN and Infinity, half characters and the character NUL."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
        except RecursionError:
            raise ValidationError("This is nested too deeply. Use fewer levels.", code="too_deep") from None
        except ValueError:
            raise ValidationError(
                "A number in this has thousands of digits. Write a shorter one.", code="invalid"
            ) from None
        validate_json(found)
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What is refused is shown again as it was typed."""
        try:
            self.to_python(data)
        except ValidationError:
            return initial if self.disabled else InvalidJSONInput(data)
        return super().bound_data(data, initial)


def reason_field(kept: str = "in the audit log") -> forms.CharField:
    """Why something is done, of 1 to 2,000 characters. kept: where that stands afterwards, for its help and its refusal."""
    return forms.CharField(
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=f"It is kept {kept}.",
        error_messages={"required": f"Say why: this is kept {kept}."},
    )
