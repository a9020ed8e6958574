"""`/metrics`, for Prometheus: what this process counts, and what the database says of duties, seals and requests.

It answers before the check of hosts, the redirect to HTTPS, sessions and CSRF, for who has METRICS_TOKEN or asks from this
machine itself; to all others there is no such page.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotFound

from auditing.models import InferenceRequest, InFlightRequest
from auditing.writer import writer
from controlplane.core import partitions
from controlplane.core.caches import invalidation
from controlplane.core.conf import conf
from controlplane.core.ids import now
from controlplane.lateness import State, last_seen, standings

logger = logging.getLogger(__name__)

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LIMIT_MS = 200
MOST = 10_000
"""Unpriced requests that are counted: more of them are as many."""

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name without `controlplane_`, what it is, and its values by labels."""

    name: str
    help: str
    kind: str
    values: Sequence[tuple[Labels, float]]


class MetricsMiddleware:
    """Stands before every other: a request for `/metrics` goes no further."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return answer(request) if request.path_info == PATH else self.get_response(request)


def answer(request: HttpRequest) -> HttpResponse:
    if request.method not in ("GET", "HEAD") or not allowed(request):
        return HttpResponseNotFound(content_type="text/plain")
    return HttpResponse(
        text([*of_process(), *of_database()]), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"}
    )


def allowed(request: HttpRequest) -> bool:
    """Whether the request has the token, or comes from this machine and through no proxy on it."""
    given = request.META.get("HTTP_AUTHORIZATION", "")
    if settings.METRICS_TOKEN and given:
        return hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    try:
        near = ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
    return near and not any(name in request.META for name in FORWARDED)


def text(families: Sequence[Family]) -> str:
    """Prometheus' text format, version 0.0.4."""
    lines = []
    for family in families:
        name = f"controlplane_{family.name}"
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        lines += [f"{name}{_braced(labels)} {value:.15g}" for labels, value in family.values]
    return "\n".join(lines) + "\n"


def _braced(labels: Labels) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def of_process() -> Iterator[Family]:
    """Of this process alone, which has its pid as a label: a scrape meets one of several."""
    process = {"pid": str(os.getpid())}
    caches = invalidation.stats()
    sizes = {"size", "capacity", "negative_size", "negative_capacity"}
    yield Family(
        "cache_events_total", "Hits, misses and what else a cache of this process counts.", "counter",
        [
            ({**process, "cache": cache, "event": event}, count)
            for cache, counts in caches.items() for event, count in counts.items() if event not in sizes
        ],
    )  # fmt: skip
    yield Family(
        "cache_entries", "What a cache of this process holds, and the most that it may.", "gauge",
        [
            ({**process, "cache": cache, "of": name}, counts[name])
            for cache, counts in caches.items() for name in sorted(sizes & counts.keys())
        ],
    )  # fmt: skip
    for name, value in asdict(writer.stats()).items():
        yield Family(
            f"writer_{name}",
            "Of the queue of this process for rows of the logs.",
            "gauge",
            [(process, float(value or 0))],
        )


def of_database() -> Iterator[Family]:
    """What the database says within 200 ms each; what was late or failed is named, and the rest is there."""
    read: list[tuple[Labels, float]] = []
    away = False
    for ask in (_duties, _lags, _partitions, _unpriced, _in_flight):
        name = ask.__name__.strip("_")
        if away:  # nobody waits for it five times
            read.append(({"part": name}, 0.0))
            continue
        try:
            with transaction.atomic(using=conf.DATABASE), connections[conf.DATABASE].cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(LIMIT_MS)])
                found = list(ask(cursor))
        except (DatabaseError, InterfaceError) as error:
            logger.warning("metrics of %s were not read: %s", name, str(error).partition("\n")[0])
            read.append(({"part": name}, 0.0))
            away = not connections[conf.DATABASE].is_usable() if connections[conf.DATABASE].connection else True
        else:
            read.append(({"part": name}, 1.0))
            yield from found
    yield Family("database_read", "Whether this part of the metrics was read from the database.", "gauge", read)


def _duties(cursor: Any) -> Iterator[Family]:
    present = now()
    found = [each for each in standings(present) if each.row is not None]
    yield Family(
        "duty_age_seconds", "Since a duty of the worker began or ended last.", "gauge",
        [({"duty": each.name}, (present - last_seen(each.row)).total_seconds()) for each in found if each.row],
    )  # fmt: skip
    yield Family(
        "duty_failures", "Runs of a duty since the last that succeeded.", "gauge",
        [({"duty": each.name}, each.row.failures) for each in found if each.row],
    )  # fmt: skip
    yield Family(
        "duty_late", "1: a duty has not run for ten of its periods.", "gauge",
        [({"duty": each.name}, float(each.state is State.LATE)) for each in found],
    )  # fmt: skip


_LAGS = """
    SELECT w.name, CASE WHEN CASE w.name
        WHEN 'seal:auditlog' THEN EXISTS (SELECT FROM cp_auditing_auditlog WHERE xid >= w.xid)
        ELSE EXISTS (SELECT FROM cp_auditing_inferencerequest WHERE xid >= w.xid) END
    THEN greatest(extract(epoch FROM clock_timestamp() - w.updated_at), 0)::float8 ELSE 0 END
    FROM cp_auditing_ingestwatermark w
    WHERE w.name IN ('rollup', 'seal:auditlog', 'seal:inferencerequest') ORDER BY w.name
"""


def _lags(cursor: Any) -> Iterator[Family]:
    cursor.execute(_LAGS)
    values = [({"job": name}, lag) for name, lag in cursor.fetchall()]
    yield Family("log_lag_seconds", "How long rows wait to be sealed or rolled up; 0: none waits.", "gauge", values)


def _partitions(cursor: Any) -> Iterator[Family]:
    month = partitions.month_of(now())
    values = [
        ({"log": log.table}, float(sum(each > month for each in partitions.existing_months(log))))
        for log in partitions.registered()
    ]
    yield Family("partitions_ahead", "Months after this one that a log has a partition for.", "gauge", values)


def _unpriced(cursor: Any) -> Iterator[Family]:
    found = InferenceRequest.objects.using(conf.DATABASE).unpriced().order_by()[:MOST].count()
    yield Family("unpriced_requests", f"Requests without a price, {MOST} at most.", "gauge", [({}, float(found))])


def _in_flight(cursor: Any) -> Iterator[Family]:
    rows = InFlightRequest.objects.using(conf.DATABASE)
    values: list[tuple[Labels, float]] = [
        ({"state": "open"}, float(rows.count())), ({"state": "overdue"}, float(rows.filter(deadline__lt=now()).count())),
    ]  # fmt: skip
    yield Family("requests_in_flight", "Calls that have not ended; overdue: past their deadline.", "gauge", values)
