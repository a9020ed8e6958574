"""Another process that verifies keys. It reads one JSON object a line from stdin, and answers with one a line.

{"do": "verify", "token": …} → {"code": "ok" or why it was refused, "status": …}
{"do": "hammer", "token": …} → {"ready": true} once the key is cached, and when it is refused {"code", "status", "at", "last"}:
at and last are the times (CLOCK_MONOTONIC, which all processes of a machine share) of the refusal and of the last pass.
{"do": "fork", "token": …} → what a child of this process answers; {"do": "stats"} → the counts
"""

from __future__ import annotations

import json
import os
import sys
import time
from threading import Event

from django.db import connections

from controlplane.core.caches import MISSING, invalidation
from tenants import tokens
from tenants.errors import InvalidKey
from tenants.models import APIKey

pause = Event()


def verify(token):
    try:
        APIKey.objects.verify(token)
    except InvalidKey as refusal:
        return {"code": refusal.code, "status": refusal.http_status}
    return {"code": "ok", "status": 200}


def hammer(token, patience=60):
    cache, ends = APIKey.objects.cache, time.monotonic() + patience
    while cache.cached(tokens.sha256(token)) is MISSING:
        answer = verify(token)
        if answer["code"] != "ok" or time.monotonic() > ends:
            return {**answer, "never": "cached"}
        pause.wait(0.005)
    say({"ready": True})
    last = time.monotonic()
    while time.monotonic() < ends:
        before = time.monotonic()
        answer = verify(token)
        if answer["code"] != "ok":
            return {**answer, "at": time.monotonic(), "last": last}
        last = before
        pause.wait(0.002)
    return {"code": "ok", "never": "refused"}


def fork(token):
    before = APIKey.objects.cache.stats()
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        # as a server does between fork and work: the parent's connection of Django's is not the child's
        connections["default"].connection = None
        began = {"stats": APIKey.objects.cache.stats(), "lease": invalidation.fresh_until}
        answer = {**verify(token), **began, "after": APIKey.objects.cache.stats()["misses"]}
        os.write(writable, json.dumps(answer).encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        child = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return {"before": before, "child": child, "parent": verify(token), "after": APIKey.objects.cache.stats()}


def say(answer):
    print(json.dumps(answer), flush=True)


def serve():
    does = {"verify": verify, "hammer": hammer, "fork": fork, "stats": APIKey.objects.cache.stats}
    for line in sys.stdin:
        asked = json.loads(line)
        say(does[asked.pop("do")](**asked))
