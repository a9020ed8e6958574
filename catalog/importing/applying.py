"""A price file into the database: all of its diff or the chosen entries, in one transaction, one import at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import psycopg
from django.db import IntegrityError, OperationalError, connections, transaction

from auditing.context import audit_context
from catalog.errors import ImportRefused
from catalog.importing.comparing import compare
from catalog.importing.diffing import MANUAL, Comparison, Conditions
from catalog.importing.held import snapshot
from catalog.importing.parsing import Parsed
from catalog.importing.validating import unfit
from catalog.importing.writing import Writer
from catalog.models import PriceImport
from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants.models import Tenant

DEFAULT_SOURCE = "litellm"
WAIT = "20s"
"""An import waits so long for another one that is being applied."""

_RACES = {
    "cp_catalog_modelprice_one_list_price", "cp_catalog_modelprice_one_tenant_price", "cp_catalog_aimodel_key_once",
    "cp_catalog_modelalias_shadows_no_model", "cp_catalog_provider_slug_key",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diff(Comparison):
    """What a file changes in this database: to look at, and to apply."""

    using: str

    def apply(
        self,
        only: Collection[str] | None = None,
        *,
        reason: str = "",
        allow_shrink: bool = False,
        strict: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> PriceImport:
        """Write it, all or nothing; the actor is that of the surrounding audit_context.

        only: keys of the entries to take; None = all. reason: needed for prices that begin in the past. progress: called
        with the rows written so far. Raises ImportRefused: `import_stale` if the database has changed so that the diff
        is another one, `import_running` if another import takes too long, and what `refusal` says.
        """
        chosen = self.selected(only)
        said = reason.strip() or f"Import of {self.parsed.name}"
        with _races_told(), _alone(self.using), audit_context(reason=said, using=self.using):
            start = self.conditions.effective_from or now()
            if start < now() and self.conditions.effective_from and not reason.strip():
                raise _invalid("Prices that begin in the past need a reason. Say it by --reason.")
            if len(reason) > 500:
                raise _invalid("The reason is longer than 500 characters. Shorten it.")
            refusal = self.refusal(only, allow_shrink=allow_shrink, strict=strict)
            if refusal:
                raise refusal
            if self.again().digest != self.digest:
                raise ImportRefused("import_stale")
            return Writer(self, chosen, start, reason.strip(), progress, self.using).write()

    def again(self) -> Diff:
        """The diff of the same file as the database is now."""
        return _diff(self.parsed, self.conditions, self.using)

    def rows(self, only: Collection[str] | None = None) -> int:
        """How many rows of models and prices `apply` writes: what its progress goes up to."""
        chosen = self.selected(only)
        return sum(entry.price in ("insert", "replace") for entry in chosen) + sum(
            entry.touches_model and entry.change != "removed" for entry in chosen
        )


def plan(
    parsed: Parsed,
    *,
    source: str = DEFAULT_SOURCE,
    source_version: str = "",
    tenant: Tenant | None = None,
    effective_from: datetime | None = None,
    threshold: Decimal = Decimal(20),
    using: str | None = None,
) -> Diff:
    """Compare a file with the prices in force at `effective_from` (aware; None: when it is applied). Writes nothing.

    source: whose file this is; models that it brought before and that are missing now are removed. source_version: ""
    = the beginning of the file's SHA-256. tenant: the prices are this tenant's; models stay as they are. threshold: percent.
    Raises ImportRefused("import_invalid").
    """
    if not 0 < len(source) <= 100 or source == MANUAL or len(source_version) > 200:
        raise _invalid(f"{source[:100]!r} cannot be the source: it has 1 to 100 characters, and is not {MANUAL}.")
    if why := unfit(effective_from):
        raise _invalid(why)
    if not threshold.is_finite() or not 0 <= threshold < 10**6:
        raise _invalid("The threshold is a number of percent from 0 on. Choose another one.")
    version = source_version or parsed.sha256[:12]
    conditions = Conditions(source, version, effective_from, threshold, tenant.pk if tenant else None)
    return _diff(parsed, conditions, using or conf.DATABASE)


def _diff(parsed: Parsed, conditions: Conditions, using: str) -> Diff:
    at = conditions.effective_from or now()
    found = compare(parsed, snapshot(at, conditions.tenant, using), conditions)
    return Diff(parsed, conditions, found.entries, found.issues, found.listed, found.priced, using)


@contextmanager
def _alone(using: str) -> Iterator[None]:
    """A transaction with no other import beside it."""
    with transaction.atomic(using=using), connections[using].cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [WAIT])
        usual = cursor.fetchone()[0]
        try:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtext('cp_catalog_import')), set_config('lock_timeout', %s, true)",
                [usual],
            )
        except OperationalError as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                raise ImportRefused("import_running") from error
            raise
        yield


@contextmanager
def _races_told() -> Iterator[None]:
    """What somebody else wrote between the look at the database and the writing, as import_stale."""
    try:
        yield
    except IntegrityError as error:
        cause = error.__cause__
        if isinstance(cause, psycopg.Error) and cause.diag.constraint_name in _RACES:
            raise ImportRefused("import_stale") from error
        raise


def _invalid(message: str) -> ImportRefused:
    return ImportRefused("import_invalid", message)
