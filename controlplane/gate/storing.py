"""What a caller's tenant has stored, by the caller's token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps

from controlplane.core.caches import CacheUnavailable
from controlplane.denials import Denied, Object
from controlplane.gate import phases, refusing
from controlplane.gate.asking import Asked
from controlplane.gate.reconnecting import AWAY, persistently
from controlplane.gate.refusing import counted
from tenants.models import Tenant

if TYPE_CHECKING:
    from storage_meta.handle import Files


def files(token: str, *, environment: str | None = None, scope: str | None = None, request: Any = None) -> Files:
    """The handle on what the tenant of a key has stored; each of its calls asks the storage policies of the key.

    environment, scope: what the key must be good for. request: an HTTP request, of whose address and browser the access log
    tells. Raises Denied as `authorize` does for the key and for policies that cannot be had. For the length of a request: a key
    that is revoked meanwhile is not noticed by the handle. LookupError: the app storage_meta is not installed.
    """
    asked = Asked(model="", environment=environment, scope=scope)
    key = phases.verify(token, asked)
    effective = phases.in_force(key)
    try:
        tenant = persistently(lambda: Tenant.objects.filter(pk=key.tenant_id).first())
    except (*AWAY, CacheUnavailable) as error:
        raise counted(refusing.unavailable("policy_unavailable")) from error
    if tenant is None:  # hidden by the present tenant scope, which is another's
        text = "This key is of another organization than the one at hand. Use a key of that."
        raise counted(Denied("tenant_mismatch", 403, text, level="tenant", object=Object("tenant", key.tenant_id)))
    objects: Any = apps.get_model(
        "cp_storage_meta", "StorageObject"
    ).objects  # a sibling may call models and store nothing
    found: Files = objects.for_tenant(tenant, effective=effective, actor=key, request=request)
    return found
