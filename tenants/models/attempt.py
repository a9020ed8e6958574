from __future__ import annotations

from django.db import models


class SignInCount(models.Model):
    """How many sign-ins under one name, or from one address, have failed in the present window.

    Written by tenants.throttling before a password is looked at, and taken back where it was right. Gone after the window:
    what is refused by it stands in the audit log. It tells neither name nor address, as people type passwords into the
    wrong field.
    """

    key = models.CharField(
        max_length=64, primary_key=True, db_comment="HMAC of the name as typed, or of the address, with SECRET_KEY"
    )
    failures = models.IntegerField(db_comment="Sign-ins that have not succeeded, those at work among them")
    began_at = models.DateTimeField(db_index=True, db_comment="When the window began: at its first failure")

    class Meta:
        db_table_comment = "Failed sign-ins by name and by address; kept for a window"

    def __str__(self) -> str:
        return f"{self.failures} since {self.began_at:%H:%M}Z"
