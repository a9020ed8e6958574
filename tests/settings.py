"""The project's settings, made quick and independent of what a developer's .env says about serving."""

from __future__ import annotations

import os

os.environ.setdefault("CONTROLPLANE_ENV", "test")
os.environ.setdefault("SECRET_KEY", "tests-only-" * 6)
os.environ.setdefault("ENCRYPTION_KEYS", "ZGV2ZWxvcG1lbnQta2V5LWZvci10aGUtdGVzdHMtMDE=")
# A server of its own: nothing in it has to survive, so it waits for no disk.
os.environ.setdefault("DEVDB_DIR", ".devdb-tests")
os.environ.setdefault("DEVDB_DURABLE", "0")

from controlplane.settings import *  # noqa: F403

DEBUG = False
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = False
# One bcrypt takes a quarter of a second, and the suite signs in hundreds of times; the real hasher has its own test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
CONTROLPLANE["DATABASE_DIRECT_URL"] = ""  # noqa: F405 - it would lead past the test database
CONTROLPLANE["STATE_DIR"] = ""  # noqa: F405 - a test names its own, where it is about one
