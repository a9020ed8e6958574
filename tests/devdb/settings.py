"""The smallest project on the embedded database: the tests start it in processes of their own, with DEVDB_DIR set."""

from __future__ import annotations

import os

from controlplane.devdb.server import socket_dir

SECRET_KEY = "only for tests"
INSTALLED_APPS = ["controlplane.apps.ControlPlaneConfig", "django.contrib.contenttypes", "django.contrib.staticfiles"]
STATIC_URL = "static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DEVDB_DIR = os.environ["DEVDB_DIR"]
DATABASES = {
    "default": {
        "ENGINE": "controlplane.devdb",
        "NAME": "controlplane",
        "USER": "controlplane",
        "HOST": socket_dir(DEVDB_DIR),
        "DEVDB_DIR": DEVDB_DIR,
    }
}
STATIC_ROOT = os.path.join(DEVDB_DIR, "static")
