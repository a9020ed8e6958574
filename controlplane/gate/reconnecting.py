"""A connection that ended while nobody used it is replaced, and what was asked on it is asked once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connections

from controlplane.core.conf import conf

Answer = TypeVar("Answer")

AWAY = (OperationalError, InterfaceError, InternalError)
"""The database gives no answer that is one: the last is of a server that only reads, as after a failover, and of a transaction
that has failed."""


def persistently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns; asked again, once, where the connection had ended and no transaction was lost with it."""
    try:
        return ask()
    except AWAY:
        if not replace_if_broken():
            raise
        return ask()


def replace_if_broken() -> bool:
    """Outside a transaction, let the next statement open a connection where this one has ended; whether it had."""
    connection = connections[conf.DATABASE]
    if connection.in_atomic_block or connection.connection is None or not connection.connection.closed:
        return False
    connection.close()
    return True
