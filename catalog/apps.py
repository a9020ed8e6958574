from __future__ import annotations

from typing import ClassVar

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    name = "catalog"
    label = "cp_catalog"
    verbose_name = "Models and prices"
    default_auto_field = "django.db.models.BigAutoField"
    audit_exempt: ClassVar[dict[str, str]] = {
        "PriceImport": "append-only itself: each row is the record of an import",
        "PriceImportDraft": "waits between two forms; what is applied of it is recorded as a PriceImport",
    }

    def ready(self) -> None:
        from auditing import pricer
        from catalog.rating import price_row

        pricer.register(price_row)
