from __future__ import annotations

from functools import partial
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models.functions import Now

from controlplane.core.conf import conf
from controlplane.core.ids import uuid7

id_field = partial(models.UUIDField, primary_key=True, default=uuid7, editable=False, db_comment="UUIDv7")
"""Primary key of every row of ours: UUIDv7, made in Python, one column, globally unique."""

created_at_field = partial(models.DateTimeField, db_default=Now(), editable=False, db_comment="When the row was made")
updated_at_field = partial(
    models.DateTimeField, db_default=Now(), editable=False, db_comment="When the row was last changed; set by a trigger"
)


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
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
