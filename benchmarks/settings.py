"""The project's settings, with the apps of the peers that are in this environment."""

from __future__ import annotations

from importlib.util import find_spec

from controlplane.settings import *  # noqa: F403

PEERS = ("rest_framework", "rest_framework_api_key", "knox", "guardian")
LOGS_OF_CHANGES = ("auditlog", "simple_history", "pgtrigger", "pghistory")
INSTALLED_APPS = [*INSTALLED_APPS, *(app for app in PEERS if find_spec(app))]  # noqa: F405
if all(find_spec(app) for app in LOGS_OF_CHANGES):
    INSTALLED_APPS += [*LOGS_OF_CHANGES, "benchmarks.watched"]
ANONYMOUS_USER_NAME = None  # of guardian: it makes no user of its own
TEST_NON_SERIALIZED_APPS = ["benchmarks.watched"]  # its tables are made by its benchmark
