from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from controlplane.core.errors import ControlPlaneError


class AuditingError(ControlPlaneError):
    """Base of the errors of auditing; `code` is the name in snake case."""

    code = "auditing_error"


class AuditUnavailable(AuditingError):
    """The database did not answer. Running the same call again is safe."""

    code = "audit_unavailable"
    http_status = 503


class InvalidRow(AuditingError):
    """A value that a log does not take; the message names the field."""

    code = "invalid_row"
    http_status = 422


class RequestError(AuditingError):
    """An inference request cannot be started or finished. id, status: of the row that stands in the way, if any."""

    def __init__(self, message: str, *, id: object = None, status: str = "") -> None:
        self.id, self.status = id, status
        super().__init__(message=message)


class DuplicateRequest(RequestError):
    """The request id is in flight or finished already."""

    code = "duplicate_request"
    http_status = 409


class ConflictingDuplicate(RequestError):
    """The request was finished, or adjusted under the same key, before, with other figures."""

    code = "conflicting_duplicate"
    http_status = 409


class UnknownRequest(RequestError):
    """No request of that id is in flight or finished."""

    code = "unknown_request"
    http_status = 404


class AdjustmentRefused(AuditingError):
    """A finished request cannot be adjusted so. id: of the request."""

    code = "adjustment_refused"
    http_status = 409
    messages = {
        "adjusts_adjustment": "This row is an adjustment itself. Adjust the request that it corrects.",
        "not_unpriced": "The request has a price already. Use the code repriced to change it.",
        "not_lost": "The request is not lost, or its late end is recorded already.",
    }

    def __init__(self, code: str, *, id: object = None) -> None:
        self.id = id
        super().__init__(code)


class ReasonRequired(AuditingError):
    """What corrects a record says why."""

    code = "reason_required"
    messages = {"reason_required": "Say why: this is kept with the record."}


class InvalidCursor(AuditingError):
    """The cursor is damaged, or of other filters: start at the first page."""

    code = "invalid_cursor"
    messages = {"invalid_cursor": "The cursor is damaged or belongs to other filters. Start again at the first page."}


class InvalidWindow(AuditingError):
    """A span of time that is naive, empty or reversed."""

    code = "invalid_window"


class AppendOnly(AuditingError):
    """A log refuses UPDATE and DELETE."""

    code = "append_only"
    http_status = 409
    messages = {
        "append_only": "A log is append-only: UPDATE and DELETE are refused. Record a correction as a new row; "
        "whole months are retired by retention."
    }


class InvalidImport(AuditingError):
    """A file or mapping that cannot be read as a usage log at all; the message says where."""

    code = "invalid_import"
    http_status = 422


class ClusterChanged(AuditingError):
    """The numbers of transactions begin anew: the database was restored from a dump, or into another cluster."""

    code = "cluster_changed"
    http_status = 503
    messages = {
        "cluster_changed": "The database was restored from a dump: transactions are numbered anew. Sealing and roll-ups wait "
        "until manage.py audit_rebase."
    }


class AckTimeout(AuditingError):
    """The database has not confirmed a row in time. It is written later, or was a moment ago: `id` says which row."""

    code = "ack_timeout"
    http_status = 503
    messages = {
        "ack_timeout": "The database has not confirmed the row in time. It waits to be written and is not lost: do not write it "
        "again under another id."
    }

    def __init__(self, id: object = None) -> None:
        self.id = id
        super().__init__()


class MonthClosed(AuditingError):
    """The sums of a closed month do not change."""

    code = "month_closed"
    http_status = 409

    def __init__(self, month: date) -> None:
        super().__init__(
            message=f"{month:%Y-%m} is closed: its sums do not change, and what is late is booked now. Reopen it first."
        )


class MonthNotClosed(AuditingError):
    """A month that is open cannot be reopened."""

    code = "month_not_closed"
    http_status = 409

    def __init__(self, month: date) -> None:
        super().__init__(message=f"{month:%Y-%m} is open: there is nothing to reopen.")


class MonthNotClosable(AuditingError):
    """A month cannot be closed yet. reasons: all that stands in the way, a sentence each."""

    code = "month_not_closable"
    http_status = 409

    def __init__(self, month: date, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(message=f"{month:%Y-%m} cannot be closed. {' '.join(reasons)}")


class MonthRetired(AuditingError):
    """The requests of a month are gone: nothing can tell its sums anew."""

    code = "month_retired"
    http_status = 409

    def __init__(self, month: date) -> None:
        super().__init__(
            message=f"Requests of {month:%Y-%m} are retired: its sums stay as they are. Correct it by adjustments."
        )


class InvalidMonth(AuditingError):
    """What is no month of the logs."""

    code = "invalid_month"
    http_status = 422


class InvalidAnchor(AuditingError):
    """A file of anchors, or the key that signs them, that cannot be read; the message says where."""

    code = "invalid_anchor"
    http_status = 422


class ExportRefused(AuditingError):
    """An export of the audit cannot be written there, or not of this; the message says why."""

    code = "export_refused"
    http_status = 409


class InvalidExport(AuditingError):
    """What cannot be exported so, or not to there; the message says why."""

    code = "invalid_export"
    http_status = 422


class InvalidAnchoring(AuditingError):
    """The settings do not say how to sign an anchor."""

    code = "invalid_anchoring"
    http_status = 503
    messages = {
        "invalid_signing_key": "AUDIT_SIGNING_KEY is no key: set it to the base64 of 32 random bytes, as of "
        "openssl rand -base64 32.",
        "invalid_origin": "AUDIT_ORIGIN is no name of a log: use letters, digits, dots and slashes, no spaces and no plus sign.",
    }


class AnchorFailed(AuditingError):
    """Some places of AUDIT_ANCHORS did not take the anchor. failed: each with what it said."""

    code = "anchor_failed"
    http_status = 503

    def __init__(self, failed: Sequence[str]) -> None:
        self.failed = tuple(failed)
        super().__init__(message=f"The anchor was not taken by {'; '.join(failed)}. The next run tries again.")


class LegalHold(AuditingError):
    """Records that are held are neither removed nor changed, whatever a rule says."""

    code = "legal_hold"
    http_status = 409


class RetentionRefused(AuditingError):
    """Records cannot be retired, held or released so; the message says why."""

    code = "retention_refused"
    http_status = 409
    messages = {
        "retention_running": "Another run of retention is going on. Wait until it has ended, then try again.",
        "in_transaction": "Months are removed outside of transactions. Call this where none is open.",
        "direct_connection": "Months cannot be removed through a pooler. Set DATABASE_DIRECT_URL to the database itself.",
    }


class UsageDiffers(AuditingError):
    """A roll-up is not what its requests add up to."""

    code = "usage_differs"
    http_status = 409

    def __init__(self, on: date, count: int) -> None:
        super().__init__(
            message=f"{count} days of roll-ups are not what their requests add up to, the first is {on}. "
            "Look with usage_reconcile, which repairs open months with --fix."
        )


class InvalidInvoice(AuditingError):
    """A file that cannot be read as an invoice; the message names the line."""

    code = "invalid_invoice"
    http_status = 422
