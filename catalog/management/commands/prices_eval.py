from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandError

from catalog import commands
from catalog.evaluation import evaluate
from controlplane.core.commands import COULD_NOT_RUN, REFUSED, instant
from controlplane.core.commands import Command as BaseCommand
from controlplane.core.ids import now


class Command(BaseCommand):
    help = (
        "Prices calls that a file describes, one JSON object a line, and writes each with input, output, tools, total and "
        "status, or error. Exit code 1 if a line is no case; the others are written all the same."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", metavar="IN", help="JSON lines with model, ask or rates, and usage; - for stdin")
        parser.add_argument("target", metavar="OUT", help="where the same lines go, with what they cost; - for stdout")
        commands.add_tenant(parser, "whose aliases and prices count, beside everybody's")
        parser.add_argument("--at", type=instant, metavar="TIME", help="the prices of this instant (now)")
        parser.add_argument("--json", action="store_true", help="how many there were as one JSON object, for scripts")

    def handle(self, *args: Any, source: str, target: str, **options: Any) -> None:
        tenant = commands.tenant_or_none(options["tenant"])
        counts = {"cases": 0, "priced": 0, "estimated": 0, "unpriced": 0, "errors": 0, "bad_cases": 0}
        try:
            with _reading(source) as lines, self._writing(target) as out:
                for answer in evaluate(lines, at=options["at"] or now(), tenant=tenant):
                    counts["cases"] += 1
                    error = answer.get("error")
                    counts["bad_cases" if error == "bad_case" else "errors" if error else answer["status"]] += 1
                    out.write(json.dumps(answer, ensure_ascii=False) + "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{source} to {target}: {error}.", returncode=COULD_NOT_RUN) from error
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        if options["json"] and target != "-":
            self.write_json(counts)
        else:
            self.say(f"{said}.")
        if counts["bad_cases"]:
            raise CommandError(
                f"Lines that are no cases: {counts['bad_cases']}; {target} says why.", returncode=REFUSED
            )

    @contextmanager
    def _writing(self, target: str) -> Iterator[Any]:
        """The file takes the place of the old one once it is whole."""
        if target == "-":
            yield self.stdout
            return
        path = Path(target)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(partial, "w", encoding="utf-8") as out:
                yield out
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _reading(source: str) -> Iterator[IO[str]]:
    if source == "-":
        yield sys.stdin
        return
    with open(source, encoding="utf-8") as lines:
        yield lines
