from __future__ import annotations

from catalog.models.draft import PriceImportDraft
from catalog.models.model import CAPABILITIES, AIModel, ModelAlias
from catalog.models.price import ModelPrice
from catalog.models.price_import import PriceImport
from catalog.models.provider import PROVIDER_SLUG, Provider
from catalog.records import ModelRecord

__all__ = [
    "CAPABILITIES",
    "PROVIDER_SLUG",
    "AIModel",
    "ModelAlias",
    "ModelPrice",
    "ModelRecord",
    "PriceImport",
    "PriceImportDraft",
    "Provider",
]
