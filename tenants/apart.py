"""Writes that outlive the transaction of whoever asked for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from typing import TypeVar

from django.db import connections, transaction

from controlplane.core.conf import conf

T = TypeVar("T")

LOCK_TIMEOUT = "1s"
"""How long work on a connection of its own waits for a lock: the caller may hold it, and waits for the work."""


def apart(work: Callable[[], T], using: str | None = None) -> T:
    """Run `work` in a transaction that is committed when this returns, whatever becomes of the caller's.

    Where no transaction is open that is one on the thread's own connection. Else another thread works on a connection of
    its own, with the caller's context variables (who acts, and why); it sees nothing that the caller has not committed,
    and what the caller has locked ends as OperationalError. `atomic(durable=True)` alone would raise there, and under
    ATOMIC_REQUESTS a transaction is always open. In a test's transaction the work is undone with the test.
    """
    alias = using or conf.DATABASE
    with ExitStack() as stack:
        if _enter_durably(stack, alias):
            return work()
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(copy_context().run, _work_alone, work, alias).result()


def _enter_durably(stack: ExitStack, alias: str) -> bool:
    try:
        stack.enter_context(transaction.atomic(using=alias, durable=True))
    except RuntimeError:  # a transaction is open
        return False
    return True


def _work_alone(work: Callable[[], T], alias: str) -> T:
    try:
        with transaction.atomic(using=alias):
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            return work()
    finally:
        connections[alias].close()
