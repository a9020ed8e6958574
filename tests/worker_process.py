"""A process that does duties of tests alone: `python -m tests.worker_process COMMAND [argument …]`.

They write what they do into the table `steps`. Variables: DUTIES (names, by commas), KILL_AT (where `walk` is killed -9).
"""

from __future__ import annotations

import os
import signal
import sys
import time

import django
from django.core.management import call_command
from django.db import connection, transaction

WALKED = 4
TABLE = "CREATE TABLE steps (id bigserial PRIMARY KEY, duty text, step int)"


def note(duty, step=0):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO steps (duty, step) VALUES (%s, %s)", [duty, step])


def die_at(point):
    if os.environ.get("KILL_AT") == point:
        os.kill(os.getpid(), signal.SIGKILL)


def walk(now):
    """One step after the last that is committed, of four."""
    die_at("before")
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(max(step), 0) FROM steps WHERE duty = 'walk'")
            step = cursor.fetchone()[0] + 1
        note("walk", step)
        if step == 2:
            die_at("within")
    if step == 3:
        die_at("after")
    return step < WALKED


def long(now):
    note("long", 1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(600)")
    note("long", 2)


def greedy(now):
    note("greedy")
    time.sleep(0.001)
    return True


def broken(now):
    note("broken")
    raise ValueError("no luck with postgresql://a:hunter22@db/x")


def main(*arguments):
    os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
    django.setup()
    from controlplane.core import duties

    known = {
        "walk": (0.2, walk), "often": (0.2, lambda now: note("often")), "long": (3600, long), "greedy": (3600, greedy),
        "broken": (0.2, broken), "seldom": (3600, lambda now: note("seldom")),
    }  # fmt: skip
    duties._duties.clear()
    for name in os.environ["DUTIES"].split(","):
        every_s, run = known[name]
        duties.register(duties.Duty(name, every_s, run))
    call_command(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
