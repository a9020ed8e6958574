"""Import a price file as a diff that somebody reads: `plan(read(path))`, look at it, `.apply()`."""

from __future__ import annotations

from catalog.importing.applying import Diff, plan
from catalog.importing.bundled import import_bundled, read_bundled
from catalog.importing.diffing import EntryDiff, FieldChange
from catalog.importing.mapping import to_json
from catalog.importing.parsing import Issue, Parsed, parse, read

__all__ = [
    "Diff", "EntryDiff", "FieldChange", "Issue", "Parsed", "import_bundled", "parse", "plan", "read", "read_bundled", "to_json",
]  # fmt: skip
