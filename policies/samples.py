"""Requests to ask again: typed by somebody, or those that were recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Self
from uuid import UUID

from auditing.models import InferenceRequest
from policies.scope import Scope
from tenants.models import APIKey, Branch, Tenant

MOST_REQUESTS = 50_000

_COLUMNS = (
    "created_at", "id", "app_id", "branch_id", "user_id", "api_key_id", "model", "requested_model",
    "prompt_tokens", "completion_tokens", "cost", "latency_ms", "request_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request: a model by any name that a caller may use, or an object by `uri` and `mode`. at: aware.

    region: as for `decide_model`. Tokens and cost (US dollars): what was used, None = not known. ended_at: when the call
    was over, for limits on calls at a time; None = at once. served: the model that answered, to count by.
    """

    scope: Scope
    at: datetime
    model: str = ""
    region: str | None = None
    uri: str = ""
    mode: str = "read"
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None
    ended_at: datetime | None = None
    request_id: str = ""
    served: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """Requests in the order of time. start: from when on all are here, None = nobody knows more than the first one;
    truncated: there were more until `end`.
    """

    requests: tuple[Request, ...]
    start: datetime | None = None
    end: datetime | None = None
    truncated: bool = False

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Self:
        """Requests that somebody typed, in any order. Raises ValueError for over 50,000, or a time without a zone."""
        found = sorted(requests, key=lambda request: (request.at, request.request_id))
        if any(request.at.tzinfo is None for request in found):
            raise ValueError("at has no time zone: give an aware datetime.")
        return cls(tuple(found[: _at_most(len(found))]))

    @classmethod
    def from_requests(cls, tenant: Tenant | UUID, start: datetime, end: datetime, limit: int = MOST_REQUESTS) -> Self:
        """What a tenant's callers asked in start <= at < end (aware), the first `limit` of it (at most 50,000).

        Each asks again what it asked then, by the name it used, and uses what it used. What its key or branch says about
        its scope is filled in, as at the gate. Raises ValueError, InvalidWindow.
        """
        tenant_id = tenant if isinstance(tenant, UUID) else tenant.pk
        rows = InferenceRequest.objects.for_tenant(tenant_id).between(start, end).filter(adjusts=None).order_by("id")
        found = list(rows.values_list(*_COLUMNS)[: _at_most(limit) + 1])
        truncated, found = len(found) > limit, sorted(found[:limit], key=lambda row: row[:2])
        return cls(tuple(_read(tenant_id, found)), start, end, truncated)

    def __len__(self) -> int:
        return len(self.requests)


def _at_most(limit: int) -> int:
    if not 0 <= limit <= MOST_REQUESTS:
        raise ValueError(f"{limit} requests are too many: a sample has {MOST_REQUESTS} at most.")
    return limit


def _read(tenant_id: UUID, rows: list[tuple[Any, ...]]) -> Iterator[Request]:
    filled = _Filler(tenant_id, rows)
    scopes: dict[tuple[UUID | None, ...], Scope] = {}
    for at, _, app, branch, user, key, model, asked, prompt, completion, cost, latency, request_id in rows:
        recorded = (app, branch, user, key)
        scope = scopes.get(recorded)
        if scope is None:
            scope = scopes[recorded] = filled.scope(*recorded)
        yield Request(
            scope=scope,
            at=at,
            model=asked or model,
            input_tokens=prompt,
            output_tokens=completion,
            cost=cost,
            ended_at=None if latency is None else at + timedelta(milliseconds=latency),
            request_id=request_id,
            served=model,
        )


class _Filler:
    """What keys and branches say about a scope; a log from elsewhere may leave it out."""

    def __init__(self, tenant_id: UUID, rows: list[tuple[Any, ...]]) -> None:
        self._tenant_id = tenant_id
        keys = APIKey.objects.filter(tenant_id=tenant_id, pk__in={row[5] for row in rows} - {None})
        branches = Branch.objects.filter(tenant_id=tenant_id, pk__in={row[3] for row in rows} - {None})
        self._keys = {pk: rest for pk, *rest in keys.values_list("pk", "app_id", "branch_id", "user_id")}
        self._apps: dict[UUID | None, UUID] = dict(branches.values_list("pk", "app_id"))

    def scope(self, app: UUID | None, branch: UUID | None, user: UUID | None, key: UUID | None) -> Scope:
        own_app, own_branch, own_user = self._keys.get(key, (None, None, None))
        branch = branch or own_branch
        return Scope(self._tenant_id, app or own_app or self._apps.get(branch), branch, user or own_user, key)
