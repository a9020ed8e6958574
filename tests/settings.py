"""The project's settings, made quick for tests: one bcrypt round would be a lie, so a plain fast hasher."""

from __future__ import annotations

from controlplane.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
