"""What stands between a process and the database's server, on a socket of its own, and can be cut, mended and frozen."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Lock, Thread

from django.db import connection


class Relay:
    """folder: a short path for the socket. url: of the test database by this way."""

    def __init__(self, folder):
        at = {"port": "", "password": "", **connection.get_connection_params()}
        self._host, self._port = at["host"], at["port"] or "5432"
        self._path = folder / ".s.PGSQL.5432"
        self.url = f"postgresql://{at['user']}:{at['password']}@/{at['dbname']}?host={folder}&port=5432"
        self._ends, self._lock = [], Lock()
        self._flows = Event()
        self.mend()

    def mend(self):
        """Take connections again."""
        self._flows.set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self._path))
        self._listening.listen(64)
        Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def cut(self):
        """End every connection and take no other one, as a server that was stopped."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._flows.set()
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def freeze(self):
        """Keep every connection, and pass on nothing any more."""
        self._flows.clear()

    def thaw(self):
        self._flows.set()

    def _accept(self, listening):
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            server = self._server()
            with self._lock:
                self._ends += [client, server]
            for one, other in ((client, server), (server, client)):
                Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _server(self):
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
            return server
        return socket.create_connection((self._host, int(self._port)))

    def _pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(65_536):
                self._flows.wait()
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
