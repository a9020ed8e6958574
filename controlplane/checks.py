from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning
from django.db import connections

from controlplane.core.conf import conf
from controlplane.core.duties import registered
from controlplane.core.ids import now
from controlplane.core.models import WorkerDuty
from controlplane.lateness import State, last_seen, standings


@register(Tags.database)
def check_worker(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterable[CheckMessage]:
    """Whether somebody does the duties. Silent before the first migration."""
    if conf.DATABASE not in (databases or ()) or not _installed():
        return
    found = standings(now(), conf.DATABASE)
    if registered() and all(each.state is State.NEVER for each in found):
        yield CheckWarning(
            "No worker has run yet: nothing is sealed, rolled up or removed.",
            hint="Run manage.py run_worker beside the server, or manage.py run_maintenance by cron.",
            id="cp_controlplane.W002",
        )
    for each in found:
        if each.state is State.LATE and each.row is not None:
            yield CheckWarning(
                f"The duty {each.name!r} has not been done since {last_seen(each.row):%Y-%m-%d %H:%M}Z; it should be every "
                f"{each.every_s:g} s.",
                hint="See that manage.py run_worker runs, and what it logs; or run manage.py run_maintenance by cron.",
                id="cp_controlplane.W001",
            )


def _installed() -> bool:
    return WorkerDuty._meta.db_table in connections[conf.DATABASE].introspection.table_names()
