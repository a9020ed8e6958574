from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.env import checkout_file, load
from controlplane.serving import ServeExtraMissing, ServingError, become_gunicorn, listen, require_gunicorn, workers


class Command(BaseCommand):
    help = (
        "Serves the project with gunicorn until SIGTERM, which lets requests finish for 30 s. Read from the "
        "environment or .env: BIND (127.0.0.1), PORT (8000), WEB_CONCURRENCY (2 processes), WEB_THREADS (8 in each), "
        "WEB_TIMEOUT (30 s). It neither migrates nor collects static files."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        env = load(checkout_file())
        host, port = env.str("BIND", default="127.0.0.1"), env.int("PORT", default=8000)
        try:
            require_gunicorn()
            listener = listen(host, port)
        except ServingError as error:
            raise CommandError(str(error), returncode=2 if isinstance(error, ServeExtraMissing) else 1) from error
        self.stdout.write(f"Serving on http://{f'[{host}]' if ':' in host else host}:{port}/")
        become_gunicorn("controlplane.wsgi:application", listener, workers(env), env)
