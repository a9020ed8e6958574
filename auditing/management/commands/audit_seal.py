from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.template.defaultfilters import pluralize

from auditing import anchors, sealing
from auditing.sealing import Seal
from controlplane.core import commands
from controlplane.core.commands import REFUSED, Progress
from controlplane.core.conf import conf
from controlplane.core.ids import iso, now


class Command(commands.Command):
    help = (
        "Seals what was written to the logs since the last run, if a thousand rows wait or five minutes have passed, as the "
        "worker does every minute."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--now", action="store_true", help="seal now, however little waits")
        parser.add_argument("--json", action="store_true", help="what was sealed as one JSON object, for scripts")

    def handle(self, *args: Any, **options: Any) -> None:
        run = sealing.seal(now(), force=options["now"])
        if options["now"] and run.checkpoint is None:
            raise CommandError("Another process seals at this moment. Run it again in a moment.", returncode=REFUSED)
        rows, seals, checkpoint = run.rows, run.seals, run.checkpoint
        with Progress(self.stderr, "Sealing", 0) as progress:
            while run.more:
                run = sealing.seal(now(), force=True)
                rows, seals, checkpoint = rows + run.rows, seals + run.seals, run.checkpoint or checkpoint
                progress(rows)
        if options["json"]:
            self.write_json({"rows": rows, "seals": seals, "checkpoint": told(checkpoint), "verifier_key": verifier()})
        elif checkpoint is None:
            self.stdout.write(
                "Nothing is due: little waits, and the last run was a moment ago. With --now it is sealed all the same."
            )
        else:
            self.stdout.write(
                f"Sealed {rows:,} row{pluralize(rows)} in {seals:,} seal{pluralize(seals)}. "
                f"Checkpoint {checkpoint.seq:,} is {checkpoint.hash.hex()}."
            )


def told(checkpoint: Seal | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    return {"seq": checkpoint.seq, "hash": checkpoint.hash.hex(), "sealed_at": iso(checkpoint.sealed_at)}


def verifier() -> str | None:
    """The public key of the anchors, which auditors need; None: there are none."""
    return anchors.signer().verifier if conf.AUDIT_ANCHORS else None
