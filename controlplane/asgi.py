"""ASGI entry point. CONTROLPLANE_ENV is production here, unless the environment says otherwise."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from auditing.writer import Lifespan, writer

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")

application = Lifespan(get_asgi_application(), writer)
