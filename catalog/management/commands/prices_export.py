from __future__ import annotations

import json
import os
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from catalog.commands import tenant_or_none
from catalog.exporting import export
from catalog.importing import to_json
from controlplane.core import commands
from controlplane.core.commands import COULD_NOT_RUN


class Command(commands.Command):
    help = (
        "Writes all models with the prices in force as a price file, as prices_import reads it: what was imported comes "
        "back equal in value. Discounts and margins are not in it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="where to write it; without it: stdout")
        parser.add_argument("--at", type=commands.instant, metavar="TIME", help="prices in force then (now)")
        parser.add_argument("--tenant", metavar="SLUG", help="with the prices of this tenant, where it has its own")
        parser.add_argument("--unlisted", action="store_true", help="also models that their source no longer has")
        parser.add_argument("--json", action="store_true", help="what was written as one JSON object, for scripts")

    def handle(self, *args: Any, file: Path | None, **options: Any) -> None:
        tenant = tenant_or_none(options["tenant"])
        found = export(options["at"], tenant, unlisted=options["unlisted"])
        text = written(found)
        if file is None:
            self.stdout.write(text, ending="")
            return
        try:
            replace(file, text)
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error.strerror}.", returncode=COULD_NOT_RUN) from error
        self.report(
            {"file": str(file), "entries": len(found)}, f"{file}: {len(found):,} entries.", as_json=options["json"]
        )


def written(found: Mapping[str, Any]) -> str:
    """One entry a line, so that two exports can be compared."""
    return "{\n" + ",\n".join(f"  {json.dumps(key)}: {to_json(entry)}" for key, entry in found.items()) + "\n}\n"


def replace(file: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
