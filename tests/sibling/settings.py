"""A sibling project: it installs the wheel, has users of its own, and asks the control plane's database.

PORTAL_DB names its default database. CONTROLPLANE_DB, when set, is another one, behind the alias `controlplane`; else
both share one.
"""

from __future__ import annotations

import os


def database(name: str) -> dict[str, object]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ["PGPASSWORD"],
        "OPTIONS": {"options": os.environ.get("CONTROLPLANE_OPTIONS", "")} if name == CONTROLPLANE_DB else {},
    }


CONTROLPLANE_DB = os.environ.get("CONTROLPLANE_DB")

SECRET_KEY = "portal-" * 10
INSTALLED_APPS = [
    "portal",
    "storage_meta",
    "policies",
    "catalog",
    "tenants",
    "auditing",
    "controlplane.core",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",  # from Django 6 on, array fields ask for it
]
AUTH_USER_MODEL = "portal.User"

DATABASES = {"default": database(os.environ["PORTAL_DB"])}
if CONTROLPLANE_DB:
    DATABASES["controlplane"] = database(CONTROLPLANE_DB)
DATABASE_ROUTERS = ["controlplane.routers.ControlPlaneRouter"]
CONTROLPLANE = {"DATABASE": "controlplane" if CONTROLPLANE_DB else "default"}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "objects": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": os.environ.get("PORTAL_OBJECTS", "objects"), "file_permissions_mode": 0o600},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

MIGRATION_MODULES = {"portal": None}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
