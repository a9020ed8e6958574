"""What the tests of the gate share: policies of a key's tenant, and what was recorded."""

from __future__ import annotations

from decimal import Decimal

import pytest

from auditing.models import AuditLog, InferenceRequest
from controlplane import gate
from policies.models import LimitBucket, Policy, Reservation

MODEL = "openai/gpt-4o"


def policy(issued, config, policy_type="model_access", **scope):
    return Policy.objects.create(tenant=issued.key.tenant, policy_type=policy_type, config=config, **scope)


def budget(issued, limit, window="month", **more):
    """A budget in US dollars, of the organization and hard unless `more` says else: fields of the limit, or of the policy."""
    return _limited(issued, "budget", {"window": window, "limit": str(limit)}, more)


def rate(issued, metric, limit, window="1d", **more):
    return _limited(issued, "rate_limit", {"metric": metric, "window": window, "limit": limit}, more)


def _limited(issued, policy_type, entry, more):
    entry |= {name: more.pop(name) for name in ("per", "mode", "models", "alert_at") if name in more}
    return policy(issued, {"limits": [entry]}, policy_type, **more)


def refused(token, model="gpt-4o", **asked):
    with pytest.raises(gate.Denied) as caught:
        gate.authorize(token, model=model, **asked)
    return caught.value


def facts():
    return list(InferenceRequest.objects.order_by("id"))


def events():
    return list(AuditLog.objects.with_action("gate.denied").order_by("id"))


def counters(**filters):
    """(spent, reserved) of each counter, by metric."""
    rows = LimitBucket.objects.filter(**filters).order_by("metric", "key")
    return {row.metric: (row.spent, row.reserved) for row in rows}


def reservations():
    return list(Reservation.objects.order_by("id").values_list("request_id", "state"))


def dollars(text):
    return Decimal(text)
