from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from controlplane.core.errors import ControlPlaneError


class CatalogError(ControlPlaneError):
    """Base of the errors of the catalog."""

    code = "catalog_error"
    http_status = 422


class UnknownModel(CatalogError):
    """No model, and no alias, has this name. nearest: keys that resemble it, the most alike first; tried: those that it
    may have meant, in order."""

    code = "unknown_model"
    http_status = 404

    def __init__(self, name: str, nearest: Sequence[str] = (), tried: Sequence[str] = ()) -> None:
        self.name, self.nearest, self.tried = name, tuple(nearest), tuple(tried)
        others = [other[:80] for other in self.tried if other != name][:5]
        looked = f" Nor is there {', '.join(others)}." if others else ""
        hint = f" Did you mean {', '.join(self.nearest)}?" if nearest else " Add it to the catalog first."
        super().__init__(message=f"There is no model {name[:200]!r}.{looked}{hint}")


class ModelDisabled(CatalogError):
    """The model, or its provider, is switched off in the catalog."""

    code = "model_disabled"
    http_status = 403

    def __init__(self, name: str) -> None:
        super().__init__(
            message=f"The model {name!r} is disabled in the catalog. Enable it, or its provider, to use it."
        )


class OtherTenant(CatalogError):
    """The prices of a model were read for one tenant and asked for another."""

    code = "other_tenant"

    def __init__(self) -> None:
        super().__init__(message="These prices are another tenant's. Resolve the model's name for this tenant.")


class AliasError(CatalogError):
    """An alias that may not be: `alias_malformed`, `alias_shadows_model`, `alias_taken`."""

    code = "alias_shadows_model"
    messages: ClassVar[dict[str, str]] = {
        "alias_malformed": "An alias has 1 to 200 printable characters. Choose another name.",
        "alias_shadows_model": "A model has this name as its key: an alias for everybody would hide it. "
        "Choose another name.",
        "alias_taken": "This alias is taken. Change the one that is there.",
    }


class UnknownAlias(CatalogError):
    """Nobody has this alias: not everybody, or not this tenant."""

    code = "unknown_alias"
    http_status = 404

    def __init__(self, alias: str, tenant: str | None = None) -> None:
        whose = f"The tenant {tenant} has no alias of its own" if tenant else "There is no alias for everybody"
        super().__init__(message=f"{whose} named {alias[:200]!r}. model_show NAME shows the aliases of a model.")


class UnknownProvider(CatalogError):
    """No provider has this slug."""

    code = "unknown_provider"
    http_status = 404

    def __init__(self, slug: str) -> None:
        super().__init__(message=f"There is no provider {slug[:64]!r}. Make it with provider_set.")


class ProviderInUse(CatalogError):
    """A provider that has models stays: requests and prices point at them."""

    code = "provider_in_use"
    http_status = 409

    def __init__(self, slug: str, models: int) -> None:
        super().__init__(
            message=f"{slug} serves models ({models}), so it stays. To stop its use: provider_set {slug} --disable."
        )


class PriceOverlap(CatalogError):
    """Another price of the model holds in that time."""

    code = "price_overlap"
    http_status = 409

    def __init__(self) -> None:
        super().__init__(
            message="Another price of this model holds in that time. End it first, or choose another time."
        )


class PriceFrozen(CatalogError):
    """A price never changes: what was billed by it stays explained."""

    code = "price_frozen"
    http_status = 409

    def __init__(self) -> None:
        super().__init__(message="A price cannot be changed or deleted, only ended. End it and set a new one.")


class BadRate(CatalogError):
    """A price holds what is no rate. field: which one."""

    code = "bad_rate"

    def __init__(self, field: str, found: object) -> None:
        self.field = field
        super().__init__(
            message=f"{field} is {str(found)[:64]!r}. A rate is a decimal number from 0, as text, in US dollars per unit; "
            "hours are HH:MM-HH:MM. Correct the price."
        )


class BadCase(CatalogError):
    """A line of prices_eval is no case."""

    code = "bad_case"

    def __init__(self, what: str) -> None:
        super().__init__(
            message=f"This line is no case: {what}. Write an object with model, ask or rates, and usage; docs/models.md."
        )


class UsageError(CatalogError):
    """What was used cannot be priced because it cannot be so: `negative_count`, `not_finite`, `wrong_type`,
    `unknown_field`, `missing_time`, `unknown_kind`. field: which one, "" if none."""

    code = "wrong_type"
    messages: ClassVar[dict[str, str]] = {
        "negative_count": "A count, a duration or an amount of a usage is below 0. Give what was used, or leave it out.",
        "not_finite": "A number of a usage is NaN or infinite. Give a finite Decimal.",
        "wrong_type": "A field of a usage has another type: counts are whole numbers, seconds and money Decimals, times aware.",
        "unknown_field": "A usage has no field of this name. The fields are those of catalog.pricing.Usage.",
        "missing_time": "The price depends on the time of day, and the usage has none. Give `at`, an aware datetime.",
        "unknown_kind": "There is no such kind of usage. Leave `kind` empty to take the one of the model.",
    }

    def __init__(self, code: str, field: str = "", found: str = "") -> None:
        self.field = field
        super().__init__(code, f"{field}: {found} {self.messages[code]}" if field else self.messages[code])


class PriceRefused(CatalogError):
    """A price that is not set as it was asked for: `bad_rate`, `negative_rate`, `too_many_places`, `unknown_rate`,
    `no_rate`, `bad_time`, `bad_end`, `no_price`, `missing_reason`, `ten_times_off`, `in_scope`."""

    code = "bad_rate"
    messages: ClassVar[dict[str, str]] = {
        "bad_rate": "A rate is a number in US dollars per unit. Give one.",
        "negative_rate": "A rate is 0 or more. Give one that is.",
        "too_many_places": "A rate has at most 30 decimal places. Round it.",
        "unknown_rate": "No rule prices by a field of this name. Look the name up in docs/price-files.md.",
        "no_rate": "A price without any rate prices nothing. Give one, or end the price that is there.",
        "bad_end": "A price cannot end before it begins. Choose a later end, or void it.",
        "bad_time": "A price begins between 2000 and 2200, at a time with a time zone. Choose another time.",
        "no_price": "The model has no such price at that time. model_show lists its prices.",
        "missing_reason": "A price that begins in the past needs a reason. Say why.",
        "ten_times_off": "A rate is ten times another one, or a tenth. Look whether the unit is right, then confirm it.",
        "in_scope": "Prices are set by operators. Leave the tenant_scope, and name the tenant whose price it is.",
    }


class ImportRefused(CatalogError):
    """A price file that is not imported: `import_unreadable`, `import_invalid`, `import_shrink`, `import_stale`,
    `import_running`."""

    code = "import_invalid"
    messages: ClassVar[dict[str, str]] = {
        "import_unreadable": "The price file cannot be read. The message says where; nothing was changed.",
        "import_invalid": "The price file, or what was asked for, cannot be imported. Mend what the message names.",
        "import_shrink": "Too many models would go, or lose their price. Look whether the file is whole; allow it if so.",
        "import_stale": "Models or prices have changed since this diff was made. Look at a new one, then apply that.",
        "import_running": "Another import is being applied. Wait for its end, then try again.",
    }
