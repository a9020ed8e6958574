"""Another process that spends. It reads one JSON object from stdin, and makes so many attempts to reserve one dollar:

{"tenant", "app", "user": ids, "name": of its requests, "attempts", "at": instant, "settled": each so-many-th is settled}.
It writes how many were granted so far, a line after every 20 attempts.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from decimal import Decimal

from policies import limits
from policies.counting import Amounts
from policies.models import Policy
from tenants.models import App, Tenant, User

DOLLAR = Amounts(cost=Decimal(1))


def spend():
    asked = json.loads(sys.stdin.readline())
    tenant, app, user = (
        model.objects.get(pk=asked[name]) for name, model in (("tenant", Tenant), ("app", App), ("user", User))
    )
    at = datetime.fromisoformat(asked["at"])
    effective = Policy.objects.effective(tenant, app=app, user=user, at=at)
    granted = 0
    for number in range(1, asked["attempts"] + 1):
        held = limits.reserve(effective, "openai/gpt-4o", DOLLAR, f"{asked['name']}-{number}", at=at)
        granted += bool(held)
        if held and number % asked["settled"] == 0:
            limits.settle(held, DOLLAR, at=at)
        if number % 20 == 0:
            print(granted, flush=True)
