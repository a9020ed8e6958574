"""What goes over the wire: libpq's own trace of a connection, which no wrapper can get wrong."""

from __future__ import annotations

from contextlib import contextmanager
from tempfile import TemporaryFile


class Wire:
    """lines: of the trace. trips: round trips; each ends with the server's ReadyForQuery, a pipeline of many statements too."""

    lines: list[str]

    @property
    def trips(self):
        return sum("\tReadyForQuery\t" in line for line in self.lines)


@contextmanager
def wire(connection):
    """Trace Django's connection, which must be open, while the body runs; what was seen is known after it."""
    traced, raw = Wire(), connection.connection.pgconn
    with TemporaryFile() as file:
        raw.trace(file.fileno())
        try:
            yield traced
        finally:
            raw.untrace()
            file.seek(0)
            traced.lines = file.read().decode(errors="replace").splitlines()
