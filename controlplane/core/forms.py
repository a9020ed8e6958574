"""Form fields that refuse with a sentence what the database would refuse with an error."""

from __future__ import annotations

import json
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")


class JSONField(forms.JSONField):
    """JSON as jsonb takes it: Python's reader also knows NaN and Infinity, half characters and the character NUL."""

    def to_python(self, value: Any) -> Any:
        try:
            found = super().to_python(value)
            text = json.dumps(found, allow_nan=False, ensure_ascii=False)
            text.encode()
        except RecursionError:
            raise ValidationError("This is nested too deeply. Use fewer levels.", code="too_deep") from None
        except UnicodeEncodeError:
            raise ValidationError("This holds half a character. Write it whole.", code="invalid") from None
        except ValueError:
            raise ValidationError(
                "A number in this cannot be stored: NaN, Infinity, or thousands of digits. Write another, or null.",
                code="invalid",
            ) from None
        if _NUL.search(text):
            raise ValidationError("This holds the character NUL (\\u0000). Leave it out.", code="invalid")
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What is refused is shown again as it was typed."""
        try:
            self.to_python(data)
        except ValidationError:
            return initial if self.disabled else InvalidJSONInput(data)
        return super().bound_data(data, initial)
