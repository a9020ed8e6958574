from __future__ import annotations

from typing import Any

from django.db import models

from controlplane.core.caches import invalidation


class Remembered(models.Model):
    """What the cached records of models are made from. A row that this process saves or deletes is forgotten at once, and
    again when that is committed; other writers and processes are heard of by the log of changes."""

    class Meta:
        abstract = True

    def save(self, **kwargs: Any) -> None:
        super().save(**kwargs)
        invalidation.changed("catalog", self.pk)

    def delete(self, using: Any = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        pk = self.pk
        deleted = super().delete(using, keep_parents)
        invalidation.changed("catalog", pk)
        return deleted
