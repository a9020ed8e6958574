"""What the tests of the writer's end run in processes of their own. Each line written is a row that was acknowledged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time

from django.conf import settings

from auditing.models import AuditLog
from auditing.writer import writer


def spool_in(folder):
    settings.CONTROLPLANE["STATE_DIR"] = folder


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def record(count, prefix="n"):
    for n in range(count):
        AuditLog.objects.record_async(f"demo.{prefix}{n}")


def leave(count, status):
    record(count)
    say("recorded")
    sys.exit(status)


def stay(count, own_status=None):
    """Record, and wait for a signal. own_status: with which a handler of its own ends the program."""
    if own_status is not None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(own_status))
    record(count)
    say("recorded")
    while True:
        time.sleep(0.01)


def busy():
    """Record until a signal comes, and tell of each row."""
    n = 0
    while True:
        n += 1
        os.write(1, f"{AuditLog.objects.record_async('demo.busy')}\n".encode())


def fork():
    record(50, "parent")
    before = writer._thread.ident
    AuditLog.objects.record_durable("demo.sure")
    record(50, "late")
    child = os.fork()
    if not child:
        found = writer.stats()
        assert (found.accepted, found.queued, writer._thread) == (0, 0, None)
        assert len([each for each in threading.enumerate() if each.name == "cp-writer"]) == 0
        record(50, "child")
        sys.exit(0)
    record(50, "after")
    os.waitpid(child, 0)
    assert writer._thread.ident == before
    say("forked")


def child_of_multiprocessing(method):
    record(20, "parent")
    started = multiprocessing.get_context(method).Process(target=_in_child)
    started.start()
    started.join()
    say(started.exitcode)


def _in_child():
    record(20, "child")


def durably(threads):
    """Record durably in so many threads for ever, and tell of each row once it is acknowledged."""

    def work():
        while True:
            try:
                id = AuditLog.objects.record_durable("demo.sure", timeout=60)
            except Exception as error:  # what is not acknowledged is not told of
                os.write(2, f"{error!r}\n".encode())
            else:
                os.write(1, f"{id}\n".encode())

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    threading.Event().wait()
