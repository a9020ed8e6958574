"""What can go wrong when policies are asked or written. The codes are stable and listed in docs/policies.md."""

from __future__ import annotations

from typing import ClassVar

from controlplane.core.errors import ControlPlaneError


class PolicyError(ControlPlaneError):
    """A question about policies that has no answer, or a write that came too late."""

    http_status = 403
    messages: ClassVar[dict[str, str]] = {
        "amount_invalid": "An amount to count is negative, no number or too large. Give ints and a Decimal, None if unknown.",
        "amount_unknown": "A limit counts something of which this call has no upper bound. Give the tokens and a price.",
        "idempotency_conflict": "This request id was used for another request. Give each request an id of its own.",
        "limits_unavailable": "The counters of a limit cannot be had. Try again in a second.",
        "reason_required": "Say why: this is kept in the audit log.",
        "request_id_invalid": "A request id has 1 to 200 characters of Unicode text without NUL. Give another one.",
        "reservation_ended": "This reservation has ended already. Nothing is held.",
        "scope_mismatch": "The app, branch or user given is not the one the key or branch belongs to. Leave it out.",
        "time_out_of_range": "This time lies before the year 2 or after the year 9998. Give one in between.",
        "tenant_mismatch": "An object of another tenant was given, or this tenant cannot be seen here. Stay in one.",
        "policy_invalid": "A policy cannot be read, so everything it is about is refused. An administrator must repair it.",
        "version_unknown": "There is no such version of this policy. policy_history shows them.",
        "policy_unavailable": "The policies cannot be read: the database does not answer. Try again in a second.",
        "document_unreadable": "This is no JSON document of policies. policy_export writes one.",
        "plan_refused": "Some policies of the document do not fit, so nothing was written. Repair them first.",
        "plan_stale": "Policies were changed since the plan was made, so nothing was written. Plan again.",
        "ttl_invalid": "A reservation is kept for a timedelta of more than 0 and at most 24 hours. Give one, or None.",
        "unknown_time_zone": "This machine does not know the time zone. Use an IANA name such as Europe/Berlin.",
    }
