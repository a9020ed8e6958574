from __future__ import annotations

from catalog.admin import imports, models, prices, providers

__all__ = ["imports", "models", "prices", "providers"]
