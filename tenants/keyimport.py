"""Keys of another gateway, by the SHA-256 of their tokens: read a file, see what it would make, make it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError

from auditing.context import audit_context
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.fields import validate_json
from tenants import commands, tokens
from tenants.errors import KeyOperationError
from tenants.models import APIKey, APIKeySecret

REQUIRED = ("tenant", "app", "name", "sha256")
LISTS = ("scopes", "allowed_models", "tags")
FIELDS = (*REQUIRED, *LISTS, "environment", "user", "branch", "expires_at", "not_before", "hint", "metadata")
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Planned:
    """A row of the file. key: what it makes, not saved; None: nothing, as its digest opens a key already, or by a fault."""

    line: int
    name: str
    sha256: str = ""
    hint: str = ""
    key: APIKey | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import would do. new: rows that make a key; known: rows whose digest is there; faults: rows to mend."""

    origin: str
    new: tuple[Planned, ...]
    known: tuple[Planned, ...]
    faults: tuple[Planned, ...]

    def apply(self, by: str = "") -> int:
        """Make the new keys, each with its secret, in one transaction; returns how many. by: who does it, for people.

        Raises KeyOperationError("bad_import") while a row has a fault, or when one came between; then none is made.
        """
        if self.faults:
            raise KeyOperationError("bad_import")
        with audit_context(reason=f"imported from {self.origin}"):
            for row in self.new:
                try:
                    _make(row, self.origin, by)
                except (IntegrityError, ControlPlaneError) as error:
                    raise KeyOperationError("bad_import", f"Line {row.line}: {str(error).splitlines()[0]}") from error
        return len(self.new)


def _make(row: Planned, origin: str, by: str) -> None:
    if row.key is not None:
        row.key.created_by = by
        row.key.save(force_insert=True)
        APIKeySecret.objects.take(row.key, row.sha256, hint=row.hint, origin=origin)


def plan(path: Path, origin: str) -> Plan:
    """Read a file of keys, JSON lines if its name ends in .jsonl or .ndjson, else CSV with a head; write nothing.

    Fields: tenant and app (slugs), name, sha256 (of the token, hexadecimal); environment, user (e-mail or user name),
    branch (code), scopes, allowed_models, tags (JSON lists; in CSV separated by blanks), expires_at, not_before (ISO 8601
    with an offset), hint (what may be shown of the token), metadata (JSON object). An empty list of models restricts
    nothing, as elsewhere. origin: where the keys come from, at most 32 characters. Raises KeyOperationError:
    bad_import for a file that cannot be read, too_large.
    """
    if not 0 < len(origin) <= 32:
        raise KeyOperationError("too_large", "The origin has 1 to 32 characters.")
    find = _Finder()
    rows, seen = [], dict[str, int]()
    for line, fields in _rows(path):
        row = _planned(line, fields, find)
        if row.key is not None and seen.setdefault(row.sha256, line) != line:
            row = Planned(line, row.name, fault=f"sha256: the same as in line {seen[row.sha256]}.")
        rows.append(row)
    return Plan(
        origin=origin,
        new=tuple(row for row in rows if row.key is not None),
        known=tuple(row for row in rows if row.key is None and not row.fault),
        faults=tuple(row for row in rows if row.fault),
    )


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise KeyOperationError("too_large", f"{path.name} is larger than 64 MiB. Import it in parts.")
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix in (".jsonl", ".ndjson"):
                yield from ((n, _object(text, n)) for n, text in enumerate(file, start=1) if text.strip())
            else:
                reader = csv.DictReader(file, strict=True)
                yield from ((reader.line_num, _cells(row)) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise KeyOperationError("bad_import", f"{path.name} cannot be read: {error}") from error


def _object(text: str, line: int) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise KeyOperationError("bad_import", f"Line {line} is no JSON object.")
    return found


def _cells(row: dict[Any, Any]) -> Mapping[str, Any]:
    """A row of CSV in the types of JSON; what is empty is left out."""
    found: dict[str, Any] = {str(name or "(more)"): cell for name, cell in row.items() if cell not in ("", None)}
    for name in LISTS:
        if name in found:
            found[name] = found[name].split()
    if "metadata" in found:
        try:
            found["metadata"] = json.loads(found["metadata"])
        except (ValueError, RecursionError):
            found["metadata"] = None
    return found


def _planned(line: int, fields: Mapping[str, Any], find: _Finder) -> Planned:
    name = str(fields.get("name", ""))[:200].encode(errors="replace").decode()  # half a character cannot be shown
    try:
        return _read(line, name, fields, find)
    except (ControlPlaneError, ValidationError) as error:
        text = error.message if isinstance(error, ControlPlaneError) else " ".join(error.messages)
        return Planned(line, "" if tokens.holds_token(name) else name, fault=text)


def _read(line: int, name: str, fields: Mapping[str, Any], find: _Finder) -> Planned:
    validate_json(dict(fields))
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise KeyOperationError("bad_import", f"{unknown[0]}: there is no such field. There are: {', '.join(FIELDS)}.")
    for field in REQUIRED:
        if not isinstance(fields.get(field), str) or not fields[field].strip():
            raise KeyOperationError("bad_import", f"{field}: it is needed, as text.")
    digest, hint = fields["sha256"].lower(), _text(fields, "hint") or ""
    APIKeySecret.objects.check_new(digest, hint)
    if find.known(digest):
        return Planned(line, name, digest, hint)
    tenant = find.tenant(fields["tenant"])
    app = find.app(tenant, fields["app"])
    models_ = _words(fields, "allowed_models")
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        raise KeyOperationError("bad_import", "metadata: it is no JSON object.")
    user, branch = _text(fields, "user"), _text(fields, "branch")
    key = APIKey.objects.draft(
        tenant=tenant, app=app, name=name, environment=_text(fields, "environment") or "live",
        user=find.user(tenant, user) if user else None, branch=find.branch(app, branch) if branch else None,
        scopes=_words(fields, "scopes"), allowed_models=models_ or None, tags=_words(fields, "tags"), metadata=metadata,
        expires_at=_instant(fields, "expires_at"), not_before=_instant(fields, "not_before"),
    )  # fmt: skip
    return Planned(line, name, digest, hint, key)


def _text(fields: Mapping[str, Any], field: str) -> str | None:
    value = fields.get(field)
    if value is not None and not isinstance(value, str):
        raise KeyOperationError("bad_import", f"{field}: it is no text.")
    return value


def _words(fields: Mapping[str, Any], field: str) -> list[str]:
    value = fields.get(field) or []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise KeyOperationError("bad_import", f"{field}: it is no list of texts.")
    return value


def _instant(fields: Mapping[str, Any], field: str) -> datetime | None:
    text = _text(fields, field)
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise KeyOperationError("bad_import", f"{field}: {text[:40]!r} is no time, as 2026-12-31T00:00Z.") from None


class _Finder:
    """Rows by the names in the file, each asked for once."""

    def __init__(self) -> None:
        self.tenant, self.app = cache(commands.tenant_by_slug), cache(commands.app_by_slug)
        self.user, self.branch = cache(commands.user_by_name), cache(commands.branch_by_code)

    def known(self, sha256: str) -> bool:
        hashed = bytes.fromhex(sha256)
        candidates = {
            digest for _, digest in tokens.digests(hashed, conf.API_KEY_PEPPERS, conf.API_KEY_PEPPER_WRITES)
        } | {hashed}
        found: bool = APIKeySecret.objects.filter(digest__in=candidates).exists()
        return found
