from __future__ import annotations

import os
import select
import signal
from argparse import ArgumentParser
from typing import Any

from auditing.writer import writer
from controlplane.core import commands
from controlplane.worker import GRACE_S, Worker, go_direct

BESIDE_S = 1.5
"""Seconds that a batch may go on when the server that the worker was started beside ends."""

LOOK_S = 0.5


class Command(commands.Command):
    help = (
        "Does what the platform does by itself (sealing, roll-ups, retention …), each duty at its own pace, until SIGTERM: "
        "then it ends its batches within 10 s. Any number may run; each duty is done by one at a time. Connects by "
        "DATABASE_DIRECT_URL where that is set."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--beside", type=int, default=0, metavar="PID", help="end as soon as that process, which started this, has"
        )

    def handle(self, *args: Any, beside: int, **options: Any) -> None:
        told = _signals()
        go_direct()
        worker = Worker()
        worker.start()
        writer.start()  # it delivers what processes that were killed have left behind
        self.say(f"Doing {len(worker.duties)} duties: {', '.join(sorted(duty.name for duty in worker.duties))}")
        while not select.select([told], [], [], LOOK_S)[0]:
            if beside and os.getppid() != beside:
                break
        worker.stop(BESIDE_S if beside else GRACE_S)


def _signals() -> int:
    """A file that can be read once SIGTERM or SIGINT has come: a handler that takes locks might wait for itself."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return told
