"""Inside `with tenant_scope(tenant):` no query of any kind sees or writes a row of another tenant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from django.db import connections, transaction

from controlplane.core.conf import conf

_scope: ContextVar[UUID | None] = ContextVar("cp_tenant_scope", default=None)


def current_scope() -> UUID | None:
    """Id of the tenant whose scope this code runs in; None outside."""
    return _scope.get()


@contextmanager
def tenant_scope(tenant: object, using: str | None = None) -> Iterator[None]:
    """Open a transaction as the role `cp_tenant`, bound by row security to one tenant (a row or its id).

    It works behind a pooler in transaction mode: role and setting are local to the transaction. A nested scope is of
    its own tenant, and the outer one holds again after it. It guards against a forgotten filter, not against SQL that
    resets the role: untrusted SQL needs a login that owns nothing.
    """
    alias = using or conf.DATABASE
    inner = tenant if isinstance(tenant, UUID) else UUID(str(getattr(tenant, "pk", tenant)))
    nested = connections[alias].in_atomic_block
    with transaction.atomic(using=alias):
        before = _enter(alias, "cp_tenant", str(inner))
        token = _scope.set(inner)
        try:
            yield
        finally:
            _scope.reset(token)
        if nested and not connections[alias].needs_rollback:
            _enter(alias, *before)  # a rollback, and the end of the outermost transaction, undo it by themselves


def _enter(alias: str, role: str, tenant: str) -> tuple[str, str]:
    """Take on role and tenant for the transaction; returns those before, as the connection may have a role of its own."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_setting('role'), coalesce(current_setting('cp.tenant_id', true), '')")
        before: tuple[str, str] = cursor.fetchone()
        cursor.execute("SELECT set_config('role', %s, true), set_config('cp.tenant_id', %s, true)", [role, tenant])
    return before
