"""How soon another process refuses a key that was stopped, beside a bare notification from one connection to another."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from time import monotonic, perf_counter
from uuid import UUID

import psycopg
from django.db import connection

from benchmarks.report import Goal, show
from tenants import tokens
from tenants.models import APIKey, APIKeySecret

TURNS = 21

# Prints "ready" once the key is cached, and the time when it is refused; then it waits until it is open again.
_OTHER = """
import sys, time
from threading import Event
import django
django.setup()
from controlplane.core.caches import MISSING
from tenants import tokens
from tenants.errors import InvalidKey
from tenants.models import APIKey
pause, token = Event(), sys.stdin.readline().strip()
def opens():
    try:
        return bool(APIKey.objects.verify(token))
    except InvalidKey:
        return False
for line in sys.stdin:
    while not opens() or APIKey.objects.cache.cached(tokens.sha256(token)) is MISSING:
        pause.wait(0.005)
    print("ready", flush=True)
    while opens():
        pause.wait(0.0002)
    print(time.monotonic(), flush=True)
"""


def run(token: str) -> bool:
    key = APIKeySecret.objects.get(digest=tokens.sha256(token)).key_id
    environment = {**os.environ, "DATABASE_URL": _address()}
    with subprocess.Popen(  # noqa: S603 - this file's own text
        [sys.executable, "-c", _OTHER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None  # noqa: S101
        assert other.stdout is not None  # noqa: S101
        other.stdin.write(f"{token}\n")
        taken = []
        for _ in range(TURNS):
            APIKey.objects.filter(pk=key).update(enabled=True)
            other.stdin.write("go\n")
            other.stdin.flush()
            other.stdout.readline()
            began = monotonic()
            APIKey.objects.filter(pk=key).update(enabled=False)
            taken.append((float(other.stdout.readline()) - began) * 1e3)
    floor = _notify("UPDATE cp_tenants_apikey SET enabled = NOT enabled WHERE id = %s", [key])
    measured = {
        "stopped here, refused there": median(taken),
        "the same UPDATE, raw, with a NOTIFY, heard there": floor,
        "a NOTIFY that writes nothing, heard there": _notify("SELECT 1", []),
    }
    APIKey.objects.filter(pk=key).update(enabled=True)
    goals = [Goal("against the raw UPDATE and its NOTIFY", median(taken) / floor, 10.0, "{:.1f} x", most=True)]
    return show(
        "A key stopped, from the UPDATE to the refusal by another process", measured, "ms", goals, form="{:.2f}"
    )


def _address() -> str:
    """The benchmark's database, for a process that reads DATABASE_URL."""
    at = connection.get_connection_params()
    host, port, password = at.get("host", ""), at.get("port", ""), at.get("password", "")
    return f"postgresql:///{at['dbname']}?host={host}&port={port}&user={at['user']}&password={password}"


def _notify(before: str, params: list[UUID]) -> float:
    """Milliseconds from a statement on one connection to the arrival on another of a NOTIFY committed with it."""
    at = connection.get_connection_params()
    with psycopg.connect(**at, autocommit=True) as one, psycopg.connect(**at, autocommit=True) as other:
        other.execute("LISTEN cp_bench")
        taken = []
        for _ in range(TURNS):
            began = perf_counter()
            with one.transaction():
                one.execute(before, params)
                one.execute("NOTIFY cp_bench")
            next(iter(other.notifies(timeout=5, stop_after=1)))
            taken.append((perf_counter() - began) * 1e3)
    return median(taken)
