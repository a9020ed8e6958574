"""People at the pages of storage: what a browser sends, and who is signed in."""

from __future__ import annotations

from django.contrib.auth.models import Permission
from django.test import Client, RequestFactory
from django.urls import reverse

from tenants.models import User

APP = "cp_storage_meta"


def address(name, *args, **query):
    """The address of a page of storage, as address("storageobject_browse", bucket="docs")."""
    url = reverse(f"admin:{APP}_{name}", args=args)
    return f"{url}?{'&'.join(f'{key}={value}' for key, value in query.items())}" if query else url


def operator():
    """A client of somebody who may do everything."""
    client = Client()
    client.force_login(
        User.objects.filter(email="operator@example.com").first()
        or User.objects.create_superuser("operator@example.com")
    )
    return client


def clerk(*codenames):
    """A client of staff with these permissions of storage alone."""
    user = User.objects.create_user(f"clerk-{User.objects.count()}@example.com", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label=APP, codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


def asked_by(tenant, path="/"):
    """A request as staff of a tenant would send it, where users are of another model and may be that."""
    request = RequestFactory().get(path)
    request.user = User(tenant=tenant, email="staff@tenant.example")
    return request
