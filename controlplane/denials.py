"""What the gate says when it refuses, and how that is recorded without filling a log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connections

from auditing.models import AuditLog
from auditing.redaction import redact_text
from controlplane.core.conf import conf
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import now
from policies.resolution import Decision
from tenants.apart import apart
from tenants.verification import VerifiedKey

logger = logging.getLogger(__name__)


class Object(NamedTuple):
    """What a refusal is about. kind: key, model, policy, guardrail, or whose limit it is: tenant, app, branch, user, key.

    name: for people; "" where it is not known.
    """

    kind: str
    id: UUID | None = None
    name: str = ""


class Denied(ControlPlaneError):
    """The call is refused. Nothing was sent, nothing is owed.

    code, http_status: why. message: names the rule, whose it is, its figures and when it starts anew. level: tenant, app,
    branch, user or key, where the rule stands. object: what refuses. policy_id, policy_version: the rule, if a policy refused.
    limit, used, reserved, requested: of the limit that refuses first, US dollars for budgets, else numbers; the limit of a
    token cap too. resets_at: when it starts anew, None = never. retry_after: whole seconds after which another try makes
    sense (429, 503). buckets: every limit that refuses, as JSON. decision: the whole reasoning about the model.
    """

    def __init__(
        self,
        code: str,
        http_status: int,
        message: str,
        *,
        level: str = "",
        object: Object | None = None,
        policy_id: UUID | None = None,
        policy_version: int | None = None,
        limit: Decimal | int | None = None,
        used: Decimal | None = None,
        reserved: Decimal | None = None,
        requested: Decimal | int | None = None,
        resets_at: datetime | None = None,
        retry_after: int | None = None,
        buckets: tuple[Mapping[str, Any], ...] = (),
        decision: Decision | None = None,
    ) -> None:
        super().__init__(code, message, http_status=http_status)
        self.level, self.object = level, object
        self.policy_id, self.policy_version = policy_id, policy_version
        self.limit, self.used, self.reserved, self.requested = limit, used, reserved, requested
        self.resets_at, self.retry_after = resets_at, retry_after
        self.buckets, self.decision = buckets, decision

    def explain(self) -> dict[str, Any]:
        """The refusal and what led to it, as JSON: the decision's record, with the code and message of the gate."""
        told = {} if self.decision is None else self.decision.explain()
        return told | {
            "decision": "deny",
            "reason": self.code,
            "message": self.message,
            "buckets": [dict(bucket) for bucket in self.buckets],
        }


class Recent:
    """Which denials were recorded within the last minute, and how many like them since: an attack fills no log."""

    def __init__(self, span_s: float = 60.0, most: int = 10_000) -> None:
        self._span, self._most = span_s, most
        self._seen: dict[tuple[Any, ...], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def count(self, key: tuple[Any, ...], at: float) -> int:
        """How many denials to record now for this key: 0 = this one waits, n = this one and those that waited."""
        with self._lock:
            last, waiting = self._seen.get(key, (float("-inf"), 0))
            if at - last < self._span:
                self._seen[key] = (last, waiting + 1)
                return 0
            if len(self._seen) >= self._most:
                self._seen.clear()
            self._seen[key] = (at, 0)
            return waiting + 1


_recent = Recent()


def record(denied: Denied, key: VerifiedKey, model: str, at: datetime | None = None) -> None:
    """Note a denial in the audit log: at most once a minute for a key, code and policy, with the number since.

    Its details say what is needed to decide it again: the epoch and instant of the policies, and what was asked.
    """
    times = _recent.count((key.key_id, denied.code, denied.policy_id), (at or now()).timestamp())
    if not times:
        return
    asked = "".join(letter if letter.isprintable() else "�" for letter in redact_text(model)[:265])
    figures = {name: getattr(denied, name) for name in ("limit", "used", "reserved", "requested")}
    details = {"code": denied.code, "policy_version": denied.policy_version, "model": asked, "times": times}
    details |= {name: f"{value:f}" for name, value in figures.items() if value is not None}
    if denied.decision is not None:
        effective = denied.decision.effective
        details |= {"at": effective.at.isoformat(), "fingerprint": effective.fingerprint}
        details |= {"region": denied.decision.request.get("region"), "epoch": effective.epoch}
    write = partial(
        AuditLog.objects.record,
        "gate.denied", tenant=key.tenant_id, app=key.app_id, branch=key.branch_id, user=key.user_id,
        api_key=key.key_id, actor=key, outcome="denied", reason=denied.message, model=asked,
        resource=("cp_policies_policy", denied.policy_id) if denied.policy_id else None,
        details={name: value for name, value in details.items() if value is not None},
    )  # fmt: skip
    try:
        # The refusal is raised, and undoes the transaction that it is raised through.
        apart(write) if connections[conf.DATABASE].in_atomic_block else write()
    except (DatabaseError, InterfaceError) as error:
        logger.error("a denial was not recorded: %s", error, extra={"code": denied.code})
