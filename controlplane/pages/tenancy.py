"""The tenant that a page of the roof is about, from its address."""

from __future__ import annotations

from tenants.models import Tenant

MAX_TENANTS = 200


def some_tenants() -> list[Tenant]:
    """Those that a page offers to choose from."""
    return list(Tenant.objects.present().order_by("name")[:MAX_TENANTS])


def tenant_asked(slug: str, offered: list[Tenant]) -> tuple[Tenant | None, str]:
    """The tenant of a slug, and a sentence if there is none; one that was not offered is from now on."""
    if not slug:
        return None, ""
    found = next((tenant for tenant in offered if tenant.slug == slug), None)
    if found is None and "\x00" not in slug:
        found = Tenant.objects.filter(slug=slug).first()
        offered += [found] if found else []
    return found, "" if found else f"No tenant has the slug {slug[:63]!r}. All tenants are shown."
