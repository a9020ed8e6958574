from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import models
from django.db.models.functions import Now

from controlplane.core.conf import conf
from controlplane.core.ids import uuid7

_NUL = re.compile(r"(?<!\\)(\\\\)*\\u0000")


def validate_json(value: Any) -> None:
    """Raise ValidationError for a value that jsonb does not take: Python also knows NaN, half characters and NUL."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except RecursionError:
        raise ValidationError("This is nested too deeply. Use fewer levels.", code="too_deep") from None
    except UnicodeEncodeError:
        raise ValidationError("This holds half a character. Write it whole.", code="invalid") from None
    except (TypeError, ValueError):
        raise ValidationError(
            "Something in this cannot be stored: NaN, Infinity, thousands of digits, or no JSON at all. Write another, or null.",
            code="invalid",
        ) from None
    if _NUL.search(text):
        raise ValidationError("This holds the character NUL (\\u0000). Leave it out.", code="invalid")


id_field = partial(models.UUIDField, primary_key=True, default=uuid7, editable=False, db_comment="UUIDv7")
"""Primary key of every row of ours: UUIDv7, made in Python, one column, globally unique."""

created_at_field = partial(models.DateTimeField, db_default=Now(), editable=False, db_comment="When the row was made")
updated_at_field = partial(
    models.DateTimeField, db_default=Now(), editable=False, db_comment="When the row was last changed; set by a trigger"
)


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]  # not generic at run time
    """Text that is stored encrypted (Fernet) by `CONTROLPLANE["ENCRYPTION_KEYS"]`: the first key writes, all keys read.

    The column holds a token, so it can be neither searched nor compared. Reading a value whose key is gone raises
    ImproperlyConfigured; no part of the text is in the message.
    """

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value if value in (None, "") else _fernet().encrypt(value.encode()).decode()

    def from_db_value(self, value: str | None, *args: object) -> str | None:
        if not value:
            return value
        try:
            return _fernet().decrypt(value.encode()).decode()
        except InvalidToken:
            raise ImproperlyConfigured(
                f"{self.model._meta.label}.{self.name} cannot be read: no key of ENCRYPTION_KEYS fits. "
                "Add the key it was written with to the list."
            ) from None


def _fernet() -> MultiFernet:
    keys = conf.ENCRYPTION_KEYS
    if not keys:
        raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: set one Fernet key before a secret is stored.")
    return MultiFernet([Fernet(key) for key in keys])
