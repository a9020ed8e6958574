"""The access log: what is written to it and when, how it is read, how old rows go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.db import connections, models
from django.db.backends.utils import CursorWrapper

from auditing.context import Actor, actor_of
from auditing.middleware import client_address
from controlplane.core import partitions
from controlplane.core.conf import conf
from controlplane.core.ids import lower_bound, now
from storage_meta import access, cleaning, keys, tokens
from storage_meta.asking import answered, asked
from storage_meta.errors import AccessDenied, InvalidArgument, StorageUnavailable, TenantRequired
from storage_meta.models import StorageAudit
from storage_meta.recording import insert, who
from tenants.apart import apart
from tenants.models import Tenant
from tenants.scope import current_scope

if TYPE_CHECKING:
    from storage_meta.handle import Files

__all__ = ("AuditPage", "answered", "asked", "cleanup", "log", "logs", "opened", "who", "write")

Handle = TypeVar("Handle", bound="Files")


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Rows, newest first; next_continuation_token: None at the end."""

    rows: list[StorageAudit]
    is_truncated: bool
    next_continuation_token: str | None


def opened(cls: type[Handle], tenant: Tenant, *, effective: Any, actor: object, request: Any) -> Handle:
    """A handle whose calls are recorded as of this actor and request, else as `audit_context` says.

    Raises TenantRequired for anything but a stored tenant, InvalidArgument for policies of another tenant and for a request
    that is none.
    """
    if not isinstance(tenant, Tenant) or tenant._state.adding:
        raise TenantRequired(message="What is stored belongs to a tenant. Name it: for_tenant(tenant), with its row.")
    if getattr(effective, "tenant_id", tenant.pk) != tenant.pk:
        raise InvalidArgument(message="These policies are of another tenant. Resolve those of the tenant itself.")
    by = None if actor is None else actor_of(actor)
    if request is None:
        return cls(tenant=tenant, effective=effective, actor=by)
    if not hasattr(request, "META"):
        raise InvalidArgument(message="request is no HTTP request. Give the view's, or leave it out.")
    user = getattr(request, "user", None)
    if by is None and user is not None:
        by = actor_of(user) if user.is_authenticated else Actor("anonymous")
    return cls(
        tenant=tenant,
        effective=effective,
        actor=by,
        source_ip=client_address(request),
        user_agent=request.META.get("HTTP_USER_AGENT", "")[:512],
        request_id=getattr(request, "request_id", ""),
    )


def write(cursor: CursorWrapper, files: Files, action: str, record_type: str, rows: list[dict[str, Any]]) -> None:
    """Rows of what the open transaction did: dicts of the log's columns, beside who and when, which the handle knows.

    See recording.insert.
    """
    insert(cursor, files, action, record_type, rows, now())


def log(files: Files, action: str, *, created_at: datetime | None = None, **fields: Any) -> UUID:
    """Write a row about what was done elsewhere; returns its id.

    fields: columns of the log (object_key, version_id, size, metadata, success, error_code …); actor, user_id and user_name say
    who, else the handle does; record_type is told by the action where it is left out. created_at: aware, from 2020-01 to 3
    months ahead; its month is made. Raises InvalidArgument, KeyTooLong, InvalidMetadata, AccessDenied, StorageUnavailable.
    """
    with asked(files, "cp:LogAudit", "ADMIN"), answered():
        said, by = _checked(action, fields)
        access.demand(files, "write", said.get("object_key", ""), bucket=said.get("bucket"))
        at = now() if created_at is None else _accepted(created_at)
        with connections[conf.DATABASE].cursor() as cursor:
            [id] = insert(cursor, files, action, said.pop("record_type"), [said], at, prepared=False, **by)
    return id


_WHO = ("actor_type", "actor_id", "actor_name", "source_ip", "user_agent", "request_id")
_SAID = ("bucket", "object_key", "version_id", "sequencer", "etag", "error_code", "error_message")
_ALIASES = {"user_id": "actor_id", "user_name": "actor_name", "username": "actor_name", "ip_address": "source_ip"}
_KINDS = {
    "READ": ("Get", "Head", "List", "Search"),
    "UPDATE_METADATA": ("PutObjectTagging", "PutObjectLegalHold", "PutObjectRetention"),
    "CREATE": ("Put", "Copy", "Restore", "Complete"),
    "DELETE": ("Delete", "Lifecycle"),
}


def _checked(action: str, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a row says, and who did it. Texts that are too long are cut later: a log takes what it is told."""
    if not keys.check_text("action", action, 64):
        raise InvalidArgument(message="action is empty. Name what was done, as s3:PutObject.")
    said: dict[str, Any] = {"record_type": _record_type(action, fields.pop("record_type", None))}
    by: dict[str, Any] = {}
    if fields.get("actor") is not None:
        actor = actor_of(fields["actor"])
        by = {"actor_type": actor.type, "actor_id": actor.id, "actor_name": actor.label}
    elif fields.get("user_id") is not None:
        by = {"actor_type": "user", "actor_id": "", "actor_name": ""}
    fields.pop("actor", None)
    for given, value in fields.items():
        name = _ALIASES.get(given, given)
        if value is None:
            continue
        if name == "object_key":
            said[name] = keys.check_key(value) if value != "" else ""
        elif name == "source_ip":
            by[name] = _address(value)
        elif name in _WHO or name in _SAID:
            (by if name in _WHO else said)[name] = _text(given, value)
        elif name in ("size", "bytes_sent"):
            said[name] = _number(name, value, 2**63 - 1)
        elif name in ("success", "is_delete_marker"):
            said[name] = _flag(name, value)
        elif name == "metadata":
            said[name] = keys.check_metadata(value)
        else:
            raise InvalidArgument(message=f"The access log has no {given!r:.70}. Use the names of its columns.")
    return said, by


def _record_type(action: str, given: object) -> str:
    if given is None:
        done = action.partition(":")[2]
        return next((kind for kind, beginnings in _KINDS.items() if done.startswith(beginnings)), "ADMIN")
    if not isinstance(given, str) or given not in StorageAudit.RecordType.values:
        raise InvalidArgument(message=f"record_type is one of {', '.join(StorageAudit.RecordType.values)}.")
    return given


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(message=f"{name} is no text. Give text, or leave it out.")
    return value


def _number(name: str, value: object, most: int, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidArgument(message=f"{name} is a whole number from {least} to {most:,}.")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(message=f"{name} is true or false.")
    return value


def _address(value: object) -> str:
    try:
        return str(ip_address(_text("source_ip", value))).partition("%")[0]
    except ValueError:
        raise InvalidArgument(
            message="source_ip is no address. Give an IPv4 or IPv6 address, or leave it out."
        ) from None


def _instant(name: str, value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidArgument(message=f"{name} is no instant with a time zone. Give an aware datetime.")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidArgument(message=f"{name} is outside the years 1 to 9999. Check the date.") from None


def _accepted(created_at: datetime) -> datetime:
    """The instant of a row, whose month is there afterwards, made on a connection of its own: a tenant's scope may make none."""
    at = _instant("created_at", created_at)
    month = partitions.month_of(at)
    if month not in partitions.existing_months(cleaning.LOG):
        try:
            partitions.plan((), now(), months=[month])
            apart(lambda: partitions.ensure(cleaning.LOG, now(), months=[month]))
        except partitions.PartitionMissing as error:
            raise InvalidArgument(message=f"created_at: {error.message}") from error
        except partitions.PartitionBusy as error:
            raise StorageUnavailable(message=error.message) from error
    return at


def logs(
    files: Files,
    *,
    object_key: str | None = None,
    action: str | None = None,
    record_type: str | None = None,
    version_id: str | None = None,
    actor_id: str | None = None,
    user_id: str | None = None,
    request_id: str | None = None,
    success: bool | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 100,
    continuation_token: str | None = None,
) -> AuditPage:
    """Rows of the handle's tenant, of its bucket if it is for one, newest first; limit: 1 to 1000 of them.

    action: one, or with a star at its end all that begin alike; user_id: another name of actor_id; since, until: aware, the
    second excluded. Under policies rows about keys that may not be listed are left out: such a page may be short. Raises
    InvalidArgument, KeyTooLong, AccessDenied.
    """
    with asked(files, "cp:ListAudits", "READ", object_key or ""), answered():
        texts = {
            "action": action,
            "record_type": None if record_type is None else _record_type("", record_type),
            "version_id": version_id,
            "actor_id": actor_id if actor_id is not None else user_id,
            "request_id": request_id,
        }
        asks: dict[str, Any] = {name: keys.check_text(name, v, 1024) for name, v in texts.items() if v is not None}
        if object_key is not None:
            asks["object_key"] = keys.check_key(object_key) if object_key != "" else ""
        if success is not None:
            asks["success"] = _flag("success", success)
        for name, at in (("since", since), ("until", until)):
            if at is not None:
                asks[name] = _instant(name, at)
        limit = _number("limit", limit, 1000, 1)
        after = None
        if continuation_token is not None:
            after = UUID(tokens.read(files, "audit", continuation_token, **asks))
        if files.bucket_name is not None:
            keys.check_text("bucket", files.bucket_name, 63)  # it may be gone: its rows are not
            access.demand(files, "list", object_key or "")
        found = list(narrowed(files, asks, after)[: limit + 1])
        more, found = len(found) > limit, found[:limit]
        token = tokens.make(files, "audit", found[-1].pk.hex, **asks) if more else None
        seen = [row for row in found if access.allowed(files, "list", row.object_key, bucket=row.bucket)]
    return AuditPage(seen, more, token)


def narrowed(files: Files, asks: dict[str, Any], after: UUID | None = None) -> models.QuerySet[StorageAudit]:
    """Rows as `logs` asks for them, newest first; asks: columns with their values, since and until; after: the last id before."""
    rows = StorageAudit.objects.for_tenant(files.tenant_id).order_by("-id")
    if files.bucket_name is not None:
        rows = rows.filter(bucket=files.bucket_name)
    if after is not None:
        rows = rows.filter(id__lt=after)
    elif "until" not in asks:
        rows = rows.filter(id__lt=models.Func(function="cp_storage_audit_end", output_field=models.UUIDField()))
    for name, value in asks.items():
        if name == "since":
            rows = rows.filter(created_at__gte=value, id__gte=lower_bound(value))
        elif name == "until":
            rows = rows.filter(created_at__lt=value, id__lt=_behind(value))
        elif name == "action" and value.endswith("*"):
            rows = rows.filter(action__startswith=value[:-1])
        else:
            rows = rows.filter(**{name: value})
    return rows


def _behind(at: datetime) -> UUID:
    """Above all ids of the millisecond of an instant: ids are cut to it, created_at is not."""
    return UUID(int=lower_bound(at).int + (1 << 80))


def cleanup(files: Files, days: int = 365, dry_run: bool = False) -> int:
    """Remove rows of the handle's tenant, or bucket, that are older than so many days and not held; returns how many.

    A bucket's audit_days counts instead of days. Rows about a key of which a version is held stay. dry_run: counts alone. It
    goes by steps that are committed each, on a connection of their own where a transaction is open. Raises InvalidArgument,
    AccessDenied, StorageUnavailable.
    """
    with asked(files, "cp:CleanupAudits", "ADMIN"), answered():
        days = _number("days", days, cleaning.MOST_DAYS)
        if not isinstance(dry_run, bool):
            raise InvalidArgument(message="dry_run is true or false.")
        if current_scope() not in (None, files.tenant_id):  # what follows is done by the owner of the tables
            raise AccessDenied("This is the scope of another tenant. Clean up its own log, or leave the scope.")
        access.demand(files, "delete", whole=True)
        bucket = None if files.bucket_name is None else files.the_bucket().name
        done = cleaning.clean(
            now(), days=days, tenant_id=files.tenant_id, bucket=bucket, dry_run=dry_run, by=who(files)
        )
    return done.rows
