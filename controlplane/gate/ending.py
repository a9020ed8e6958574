"""How a call ends: its fact and its reservation in one round trip, repeated where the database does not answer.

What cannot be written is kept in memory, and written by a later end of this process, in the background, or when the process
ends. If it is killed before, the row in flight and the reservation are still there: the one is past its deadline one day, the
other expires.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from django.db import connections

from auditing.errors import AuditUnavailable
from auditing.lifecycle import End
from auditing.models import InferenceRequest
from controlplane.core.caches import invalidation
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.gate.reconnecting import AWAY, replace_if_broken
from controlplane.gate.tally import count

if TYPE_CHECKING:
    from controlplane.gate.grants import Grant

logger = logging.getLogger(__name__)

PAUSES = (0.0, 0.1, 0.4)
"""Seconds before the second try and the following ones: a connection that ended is replaced at once."""

EVERY = 5.0
"""Seconds between two tries in the background."""

MOST_KEPT = 10_000
_kept: deque[tuple[Grant, End]] = deque()


def end(grant: Grant, how: End) -> InferenceRequest:
    """Write the end of a call. Raises AuditUnavailable once the database gave no answer to several tries; it is kept then.

    Inside a transaction there is one try: what it raises is the transaction's.
    """
    connection = connections[conf.DATABASE]
    for pause in (*PAUSES, None):
        try:
            fact = grant.write(how)
        except AWAY as error:
            if connection.in_atomic_block:
                raise
            replace_if_broken()
            if pause is None:
                _keep(grant, how)
                raise AuditUnavailable(
                    message="The database does not answer. The end of this call is kept, and recorded once it does."
                ) from error
            count("end_repeated")
            time.sleep(pause)
        else:
            break
    if _kept and not connection.in_atomic_block:
        catch_up(most=2)
    return fact


def catch_up(most: int = MOST_KEPT) -> int:
    """Write ends that wait for the database, the oldest first, at most so many; returns how many still wait."""
    for _ in range(min(most, len(_kept))):
        try:
            grant, how = _kept.popleft()
        except IndexError:  # another thread was quicker
            break
        try:
            grant.write(how)
        except AWAY:
            replace_if_broken()
            _kept.appendleft((grant, how))
            break
        except ControlPlaneError as error:  # it has ended otherwise meanwhile: that end stays
            logger.error("the end of a call was not recorded: %s", error, extra={"call": str(grant.id)})
    return len(_kept)


def duty(_: object = None) -> None:
    """Catch up in a thread that does nothing else: a connection that it opens is closed again."""
    if _kept:
        connection = connections[conf.DATABASE]
        idle = connection.connection is None
        catch_up()
        if idle:
            connection.close()


def _keep(grant: Grant, how: End) -> None:
    count("end_kept")
    if len(_kept) >= MOST_KEPT:
        lost, _ = _kept.popleft()
        logger.error("too many ends wait for the database: this one is given up", extra={"call": str(lost.id)})
    _kept.append((grant, how))


invalidation.duties.add("ends of calls", EVERY, duty, at_end=True)
os.register_at_fork(after_in_child=_kept.clear)  # they are the parent's
