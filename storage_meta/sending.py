"""One POST to an address that a tenant wrote, under the guard: no redirect, no proxy, no more time or bytes than it may take."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from email.message import Message
from email.utils import parsedate_to_datetime
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from io import BufferedReader, RawIOBase
from typing import Any

from controlplane.core.ids import now
from storage_meta import guard
from storage_meta.errors import InvalidArgument

TIMEOUT_S = 10.0
MAX_ANSWER = 64 * 1024
"""Bytes that are read of an answer's head, and of its body; the rest is left where it is."""

KEPT = 4 * 1024
MAX_ERROR = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a POST. status: None where there was no answer; error: "" where it was 2xx, else what went wrong.

    body: the first 4 KiB as text. retry_after_s: what the answer asks for. seconds: how long it took.
    """

    status: int | None = None
    error: str = ""
    body: str = ""
    retry_after_s: float | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True)
class Client:
    """Sends. resolve: who tells the addresses of names; context: of TLS, None: the machine's certificates are trusted."""

    resolve: guard.Resolve = guard.by_system
    context: ssl.SSLContext | None = None
    timeout_s: float = TIMEOUT_S

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST, and tell what came of it. Raises nothing that depends on the address or on who answers there."""
        began = time.monotonic()
        try:
            status, answered, text = self._exchange(url, body, headers, began + self.timeout_s)
        except InvalidArgument as error:
            return Answer(error=error.message, seconds=time.monotonic() - began)
        except (OSError, HTTPException, ValueError) as error:
            return Answer(error=self._what(error), seconds=time.monotonic() - began)
        return Answer(status, _wrong(status), text, _retry_after(answered), time.monotonic() - began)

    def _exchange(self, url: str, body: bytes, headers: Mapping[str, str], until: float) -> tuple[int, Message, str]:
        target = guard.target_of(url)
        with closing(self._connected(target, until)) as opened:
            connection = HTTPConnection(target.host, target.port)  # which only speaks; it opens nothing
            connection.sock = _Socket(opened, until)
            connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": target.authority, **headers, "Content-Length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.headers, _text(response)

    def _connected(self, target: guard.Target, until: float) -> socket.socket:
        """A connection to one of the very addresses that were judged; TLS asks for the name."""
        failed: OSError = OSError(f"{target.host} has no address")
        for address in guard.addresses(target, self.resolve, _left(until)):
            try:
                opened = socket.create_connection((str(address), target.port), timeout=_left(until))
            except OSError as error:
                failed = error
                continue
            if target.scheme == "http":
                return opened
            try:
                opened.settimeout(_left(until))
                return (self.context or _trusted()).wrap_socket(opened, server_hostname=target.host)
            except BaseException:
                opened.close()
                raise
        raise failed

    def _what(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"There was no whole answer within {self.timeout_s:g} s."
        said = " ".join(str(error).split()) or type(error).__name__
        return f"There was no answer: {said}"[:MAX_ERROR].replace("\x00", "�")


class _Socket:
    """What http.client asks of a socket, where all reads and writes together end at an instant.

    A timeout of each read can be stretched byte by byte. Closing is left to whoever opened it.
    """

    def __init__(self, opened: socket.socket, until: float) -> None:
        self._opened, self._until = opened, until

    def sendall(self, data: Any) -> None:
        self._opened.settimeout(_left(self._until))
        self._opened.sendall(data)

    def makefile(self, mode: str) -> BufferedReader:
        return BufferedReader(_Reads(self._opened, self._until))

    def close(self) -> None:
        pass


class _Reads(RawIOBase):
    def __init__(self, opened: socket.socket, until: float) -> None:
        super().__init__()
        self._opened, self._until = opened, until
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._count > 2 * MAX_ANSWER:  # the body is not read so far
            raise OSError(f"its head is longer than {MAX_ANSWER // 1024} KiB.")
        self._opened.settimeout(_left(self._until))
        count = self._opened.recv_into(buffer)
        self._count += count
        return count


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _text(response: HTTPResponse) -> str:
    """The part of the body that is kept, once what may be read of it was read."""
    try:
        body = response.read(MAX_ANSWER)
    except IncompleteRead as cut:
        body = cut.partial
    return body[:KEPT].decode(errors="replace").replace("\x00", "�")


def _wrong(status: int) -> str:
    if 200 <= status < 300:
        return ""
    if 300 <= status < 400:
        return f"It answered {status}, a redirect, and hooks follow none. Register the address it leads to."
    return f"It answered {status}."


def _retry_after(headers: Message) -> float | None:
    """Seconds, from either form of Retry-After (RFC 9110, 10.2.3); None for what is neither."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
        return max((at.replace(tzinfo=at.tzinfo or UTC) - now()).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


@cache
def _trusted() -> ssl.SSLContext:
    """Reads the machine's certificates, once: that takes 20 ms."""
    return ssl.create_default_context()
