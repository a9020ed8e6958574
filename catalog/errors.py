from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from controlplane.core.errors import ControlPlaneError


class CatalogError(ControlPlaneError):
    """Base of the errors of the catalog."""

    code = "catalog_error"
    http_status = 422


class UnknownModel(CatalogError):
    """No model, and no alias, has this name. nearest: names that resemble it, the most alike first."""

    code = "unknown_model"
    http_status = 404

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        self.name, self.nearest = name, tuple(nearest)
        hint = f" Did you mean {', '.join(self.nearest)}?" if nearest else " Add it to the catalog first."
        super().__init__(message=f"There is no model {name[:200]!r}.{hint}")


class ModelDisabled(CatalogError):
    """The model, or its provider, is switched off in the catalog."""

    code = "model_disabled"
    http_status = 403

    def __init__(self, name: str) -> None:
        super().__init__(
            message=f"The model {name!r} is disabled in the catalog. Enable it, or its provider, to use it."
        )


class AliasError(CatalogError):
    """An alias that may not be: `alias_shadows_model`, `alias_taken`."""

    code = "alias_shadows_model"
    messages: ClassVar[dict[str, str]] = {
        "alias_shadows_model": "A model has this name as its key: an alias for everybody would hide it. "
        "Choose another name.",
        "alias_taken": "This alias is taken. Change the one that is there.",
    }
