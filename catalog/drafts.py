"""A price file between its upload and its being applied: kept as a row, planned anew each time it matters."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from catalog.errors import ImportRefused
from catalog.importing import Diff, parse, plan
from catalog.importing.applying import DEFAULT_SOURCE
from catalog.models import PriceImport, PriceImportDraft
from tenants.models import Tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a file is to be compared: as `catalog.importing.plan`."""

    source: str = DEFAULT_SOURCE
    source_version: str = ""
    tenant: Tenant | None = None
    effective_from: datetime | None = None
    threshold: Decimal = Decimal(20)


def keep(data: bytes, name: str, person: str, asked: Asked) -> PriceImportDraft:
    """Read a file and keep it for a person (the text of the id), in place of the one before. Raises ImportRefused."""
    diff = _planned(data, name[:200], asked)
    PriceImportDraft.objects.expired().delete()
    PriceImportDraft.objects.filter(uploaded_by=person).delete()
    draft = PriceImportDraft(uploaded_by=person, name=name[:200], content=zlib.compress(data))
    _show(draft, diff, asked)
    return draft


def compare(draft: PriceImportDraft, asked: Asked) -> None:
    """Plan the file of a draft anew, and keep what that shows. Raises ImportRefused."""
    _show(draft, _planned(_content(draft), draft.name, asked), asked)


def asked(draft: PriceImportDraft) -> Asked:
    """How a draft was compared last. Raises ImportRefused, where its tenant is gone."""
    tenant = Tenant.objects.filter(slug=draft.owner).first() if draft.owner else None
    if draft.owner and tenant is None:
        raise ImportRefused("import_invalid", f"There is no tenant {draft.owner!r} any more. Upload the file again.")
    return Asked(
        source=draft.source, source_version=draft.source_version, tenant=tenant,
        effective_from=draft.effective_from, threshold=draft.threshold,
    )  # fmt: skip


def apply(
    draft: PriceImportDraft, digest: str, *, only: Collection[str] | None, reason: str, allow_shrink: bool = False
) -> PriceImport:
    """Apply a draft, all of it (None) or the keys of `only`, if it still is the diff of that digest.

    What is left to apply stays as the draft, else it is deleted. Raises ImportRefused: `import_stale` where another diff
    would be applied than was shown; the draft then shows that one.
    """
    how = asked(draft)
    diff = _planned(_content(draft), draft.name, how)
    try:
        if diff.digest != digest:
            raise ImportRefused("import_stale")
        made = diff.apply(only, reason=reason, allow_shrink=allow_shrink)
    except ImportRefused as refused:
        if refused.code == "import_stale":
            _show(draft, diff.again(), how)
        raise
    left = None if only is None else diff.again()
    if left is None or not left.selected(None):
        draft.delete()
    else:
        _show(draft, left, how)
    return made


def _planned(data: bytes, name: str, asked: Asked) -> Diff:
    return plan(
        parse(data, name), source=asked.source, source_version=asked.source_version, tenant=asked.tenant,
        effective_from=asked.effective_from, threshold=asked.threshold,
    )  # fmt: skip


def _content(draft: PriceImportDraft) -> bytes:
    return zlib.decompress(bytes(draft.content))


def _show(draft: PriceImportDraft, diff: Diff, asked: Asked) -> None:
    draft.source, draft.source_version, draft.threshold = asked.source, asked.source_version, asked.threshold
    draft.effective_from, draft.owner = asked.effective_from, asked.tenant.slug if asked.tenant else ""
    refusal = diff.refusal()
    told = diff.as_json() | {"refusal": refusal.message if refusal else "", "sha256": diff.parsed.sha256}
    draft.digest, draft.diff = diff.digest, json.loads(json.dumps(told, default=str))
    draft.save()
