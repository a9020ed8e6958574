"""What callers give to be stored: read once, in pieces, and measured while it passes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO, TypeAlias

from django.core.files import File

from controlplane.core.errors import ControlPlaneError
from storage_meta.errors import InvalidArgument

Body: TypeAlias = "bytes | File[bytes] | IO[bytes] | Iterator[bytes]"

PIECE = 128 * 1024
"""Bytes that are read, measured and written at a time: longer ones are given to the process anew each time, page by page."""

WHAT = "A body is bytes, a file opened for bytes, or an iterator of bytes"


def pieces(body: object) -> Iterator[bytes]:
    """The bytes of a body in pieces of PIECE bytes, the last one shorter; nothing is read before the first is asked for.

    A Django File is read from its beginning, as storages do; any other file from where it stands. Raises InvalidArgument at
    once for what is no body, and while it is read for what turns out to be none: text, a closed file, an iterator that
    raises. An error of the project, such as the ChecksumMismatch of a body that is a StoredFile, passes as it is.
    """
    if isinstance(body, bytes | bytearray | memoryview):
        return _pieces_of(_view(body))
    read = getattr(body, "read", None)
    if callable(read):
        return _together(_guarded(_reads(body)))
    if isinstance(body, str | dict) or not isinstance(body, Iterable):
        raise InvalidArgument(message=f"{WHAT}, not {type(body).__name__}. Encode text, open paths.")
    return _together(_guarded(body))


def _view(given: bytes | bytearray | memoryview) -> memoryview:
    """As plain bytes; a view with gaps, or of nothing, cannot be cast."""
    view = memoryview(given)
    return view.cast("B") if view.contiguous and view.nbytes else memoryview(view.tobytes())


def _pieces_of(whole: memoryview) -> Iterator[bytes]:
    for begin in range(0, len(whole), PIECE):
        yield bytes(whole[begin : begin + PIECE])


def _reads(file: object) -> Iterator[object]:
    if isinstance(file, File) and file.seekable():
        file.seek(0)
    while (piece := file.read(PIECE)) != b"":  # type: ignore[attr-defined]
        if piece == "":
            raise InvalidArgument(message=f"{WHAT}; this file is opened for text. Open it with mode 'rb'.")
        yield piece


def _guarded(given: Iterable[object]) -> Iterator[bytes | memoryview]:
    """Each thing of it as bytes; whatever it raises as an error with a code."""
    try:
        for piece in given:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise InvalidArgument(message=f"{WHAT}; this one gave {type(piece).__name__}.")
            if len(piece):
                yield piece if isinstance(piece, bytes) else _view(piece)
    except ControlPlaneError:
        raise
    except Exception as error:
        raise InvalidArgument(
            message=f"The body broke off: {type(error).__name__}: {error}. Nothing was stored; send it again."
        ) from error


def _together(given: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in pieces of one size: a thousand lines become one piece, one great chunk becomes many."""
    held = bytearray()
    for chunk in given:
        if not held and len(chunk) == PIECE and isinstance(chunk, bytes):
            yield chunk  # as files are read: it need not be copied
            continue
        for begin in range(0, len(chunk), PIECE):
            held += memoryview(chunk)[begin : begin + PIECE]
            if len(held) >= PIECE:
                yield bytes(held[:PIECE])
                del held[:PIECE]
    if held:
        yield bytes(held)


class Etag:
    """Size and etag of what passes: MD5 in hex, or where it is longer than part_size, as S3 makes it of the parts.

    Raises InvalidArgument for a part_size that is no positive number.
    """

    def __init__(self, part_size: int | None = None) -> None:
        if part_size is not None and (not isinstance(part_size, int) or isinstance(part_size, bool) or part_size < 1):
            raise InvalidArgument(message=f"part_size is {part_size!r}: a whole number of bytes, 1 or more, is needed.")
        self.size = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._part_size = part_size
        self._part = hashlib.md5(usedforsecurity=False)
        self._left = part_size or 0
        self._parts: list[bytes] = []

    def update(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._part_size is None:
            self._md5.update(piece)
            return
        if (
            self.size <= self._part_size
        ):  # what fits into one part has a plain etag; beyond it, that of the whole is idle
            self._md5.update(piece)
        self._split(memoryview(piece), self._part_size)

    def _split(self, piece: memoryview, part_size: int) -> None:
        while len(piece):
            self._part.update(piece[: self._left])
            taken = min(self._left, len(piece))
            piece = piece[taken:]
            self._left -= taken
            if not self._left:
                self._parts.append(self._part.digest())
                self._part, self._left = hashlib.md5(usedforsecurity=False), part_size

    @property
    def value(self) -> str:
        if self._part_size is None or self.size <= self._part_size:
            return self._md5.hexdigest()
        parts = [*self._parts, *([self._part.digest()] if self._left < self._part_size else [])]
        return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
