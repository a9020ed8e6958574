"""A gateway in a process of its own: it makes calls, says how far it is, and may be killed anywhere."""

from __future__ import annotations

import sys
from itertools import count
from threading import Thread

from django.db import connection

from controlplane import gate

USED = {"prompt_tokens": 1000, "completion_tokens": 500}


def say(word):
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def once(token, request_id):
    """One call: says `begins`, waits for a line before it calls the provider, says `held`, and waits before it ends."""
    say("begins")
    sys.stdin.readline()
    with gate.call(token, model="gpt-4o", request_id=request_id) as call:
        say("held")
        sys.stdin.readline()
        call.usage(**USED)
    say("ended")


def endlessly(token, name, threads=4):
    """Calls in threads until it is killed; says the request id of each that is acknowledged."""

    def work(thread):
        for n in count():
            with gate.call(token, model="gpt-4o", request_id=f"{name}-{thread}-{n}") as call:
                call.usage(**USED)
            say(f"{name}-{thread}-{n}")

    connection.close()
    for thread in range(threads):
        Thread(target=work, args=[thread]).start()
