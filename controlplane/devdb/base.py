"""Django's PostgreSQL backend, with the embedded server running when a connection is asked for; see the package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db.backends.postgresql import base
from django.db.backends.postgresql.client import DatabaseClient as PostgresClient
from psycopg import OperationalError

from . import server


class DatabaseClient(PostgresClient):
    """`dbshell` with the wheel's psql, which has the server's version and needs no installation."""

    @classmethod
    def settings_to_cmd_args_env(
        cls, settings_dict: dict[str, Any], parameters: Iterable[str]
    ) -> tuple[list[str], dict[str, str] | None]:
        command, env = super().settings_to_cmd_args_env(settings_dict | {"PORT": str(server.PORT)}, parameters)
        return [str(server.client("psql")), *command[1:]], env

    def runshell(self, parameters: Iterable[str]) -> None:
        _ensure(self.connection.settings_dict)
        super().runshell(parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    client_class = DatabaseClient

    # Folders whose server this process has seen running: connecting again asks nobody, unless it fails.
    seen: ClassVar[set[str]] = set()

    def get_connection_params(self) -> dict[str, Any]:
        # An explicit port, or libpq takes it from PGPORT and looks for another socket.
        return super().get_connection_params() | {"port": server.PORT}

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        folder = str(self.settings_dict["DEVDB_DIR"])
        if folder not in self.seen:
            _ensure(self.settings_dict)
            self.seen.add(folder)
        try:
            return super().get_new_connection(conn_params)
        except OperationalError:  # stopped or killed since
            _ensure(self.settings_dict)
            return super().get_new_connection(conn_params)


def _ensure(settings: dict[str, Any]) -> None:
    server.ensure(settings["DEVDB_DIR"], durable=settings.get("DEVDB_DURABLE", True))
