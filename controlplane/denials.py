"""What the gate says when it refuses, and how that is recorded without filling a log."""

from __future__ import annotations

import logging
import threading
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError

from auditing.models import AuditLog
from auditing.redaction import redact_text
from controlplane.core.errors import ControlPlaneError
from controlplane.core.ids import now
from policies.resolution import Decision
from tenants.verification import VerifiedKey

logger = logging.getLogger(__name__)


class Denied(ControlPlaneError):
    """The call is refused. Nothing was sent, nothing is owed.

    code, http_status: why; message: for the caller. level: tenant, app, branch, user or key, where the rule stands.
    object: (kind, id) of what refuses. policy_id, policy_version: the rule, if a policy refused. decision: the whole
    reasoning about the model. retry_after: seconds, for 503.
    """

    def __init__(
        self,
        code: str,
        http_status: int,
        message: str,
        *,
        level: str = "",
        object: tuple[str, UUID | None] | None = None,
        policy_id: UUID | None = None,
        policy_version: int | None = None,
        decision: Decision | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code, message, http_status=http_status)
        self.level, self.object = level, object
        self.policy_id, self.policy_version = policy_id, policy_version
        self.decision, self.retry_after = decision, retry_after


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
    """Note a denial in the audit log: at most once a minute for a key, code and policy, with the number since."""
    times = _recent.count((key.key_id, denied.code, denied.policy_id), (at or now()).timestamp())
    if not times:
        return
    asked = "".join(letter if letter.isprintable() else "�" for letter in redact_text(model)[:265])
    try:
        AuditLog.objects.record(
            "gate.denied", tenant=key.tenant_id, app=key.app_id, branch=key.branch_id, user=key.user_id,
            api_key=key.key_id, actor=key, outcome="denied", reason=denied.message, model=asked,
            resource=("cp_policies_policy", denied.policy_id) if denied.policy_id else None,
            details={"code": denied.code, "policy_version": denied.policy_version, "model": asked, "times": times},
        )  # fmt: skip
    except (OperationalError, InterfaceError) as error:
        logger.error("a denial was not recorded: %s", error, extra={"code": denied.code})
