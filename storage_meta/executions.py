"""The log of what hooks were told, and what it adds up to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db.models import Avg, Count, Q

from controlplane.core.fields import validate_json
from controlplane.core.ids import now
from storage_meta import access, keys, trail
from storage_meta.errors import InvalidArgument
from storage_meta.models import HookExecution
from storage_meta.sending import KEPT

if TYPE_CHECKING:
    from storage_meta.handle import Files

LONGEST_HOURS = 24 * 366
LONGEST_S = 24 * 3600.0
MAX_ERROR = 4096
MAX_PAYLOAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class HookStatistics:
    """Attempts of one hook. average_ms: how long they took; None without any."""

    hook_name: str
    total: int
    succeeded: int
    failed: int
    average_ms: float | None


def log(
    files: Files,
    *,
    hook_name: str,
    event_type: str,
    object_key: str,
    success: bool,
    execution_time: float | timedelta = 0.0,
    error_message: str | None = "",
    response: str | None = "",
    payload: Any = None,
    status_code: int | None = None,
    attempt: int = 1,
    created_at: datetime | None = None,
) -> HookExecution:
    """Write down that a hook was told of something by somebody else than our worker; returns the row.

    execution_time: seconds, or a timedelta. response: its first 4 KiB of UTF-8 are kept. payload: what was sent, JSON of at most
    64 KiB. created_at: aware, None: now. Raises InvalidArgument for what cannot be kept, AccessDenied
    where policies refuse to write the key.
    """
    with trail.asked(files, "cp:LogHookExecution", "ADMIN", object_key):
        if not isinstance(success, bool):
            raise InvalidArgument(message="success is neither True nor False. Give one of them.")
        if not keys.check_text("hook_name", hook_name, 200):
            raise InvalidArgument(message="hook_name is empty. Name the hook.")
        at = now() if created_at is None else _instant(created_at)
        access.demand(files, "write", keys.check_key(object_key))
        return HookExecution.objects.create(
            tenant_id=files.tenant_id,
            hook_name=hook_name,
            event_type=keys.check_text("event_type", event_type, 64),
            object_key=keys.check_key(object_key),
            success=success,
            execution_time=_duration(execution_time),
            error_message=keys.check_text("error_message", error_message or "", MAX_ERROR),
            response=_beginning(keys.check_text("response", response or "", 2**24)),
            payload=_payload(payload),
            status_code=None if status_code is None else _number("status_code", status_code, 100, 999),
            attempt=_number("attempt", attempt, 1, 1000),
            created_at=at,
        )


def statistics(files: Files, hours: int = 24) -> list[HookStatistics]:
    """Attempts of the last so many hours by hook, by name; all buckets. hours: 1 to a year, else InvalidArgument.

    Policies have to allow `list` of every key of each bucket.
    """
    with trail.asked(files, "cp:GetHookStatistics", "READ"):
        since = now() - timedelta(hours=_number("hours", hours, 1, LONGEST_HOURS))
        access.demand(replace(files, bucket_name=None), "list", whole=True)
        return _summed(files, since)


def _summed(files: Files, since: datetime) -> list[HookStatistics]:
    rows = (
        HookExecution.objects.filter(tenant_id=files.tenant_id, created_at__gte=since)
        .values("hook_name")
        .annotate(total=Count("id"), succeeded=Count("id", filter=Q(success=True)), average=Avg("execution_time"))
        .order_by("hook_name")
    )
    return [
        HookStatistics(
            row["hook_name"],
            row["total"],
            row["succeeded"],
            row["total"] - row["succeeded"],
            None if row["average"] is None else row["average"].total_seconds() * 1000,
        )
        for row in rows
    ]


def _duration(value: float | timedelta) -> timedelta:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_S:
        raise InvalidArgument(message=f"execution_time is {value!r:.40}. Give seconds, from 0 to a day.")
    return timedelta(seconds=seconds)


def _instant(value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArgument(message="created_at is no instant with a time zone. Leave it out, or give one.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(message="created_at is outside the years 1 to 9999. Check the date.") from None


def _number(name: str, value: int, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(message=f"{name} is {value!r:.40}. Use a whole number from {least} to {most:,}.")
    return value


def _beginning(text: str) -> str:
    return text.encode()[:KEPT].decode(errors="ignore")


def _payload(value: Any) -> Any:
    if value is None:
        return None
    try:
        validate_json(value)
    except ValidationError as error:
        raise InvalidArgument(message=f"payload: {error.messages[0]}") from None
    if len(repr(value)) > MAX_PAYLOAD:
        raise InvalidArgument(message="payload has more than 64 KiB. Keep what is needed of it.")
    return value
