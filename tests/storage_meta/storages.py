"""Storages with one fault each, for STORAGES of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

from django.core.files.storage import FileSystemStorage

from tests.storage_meta import killed


class Renames(FileSystemStorage):
    """Keeps what it is given under a name of its own."""

    def get_available_name(self, name, max_length=None):
        return f"{name}_1"


class BreaksOff(FileSystemStorage):
    """Its disk is full after the first piece."""

    def _save(self, name, content):
        super()._save(name, _Short(next(iter(content.chunks())), name))
        raise OSError(28, "No space left on device")


class _Short:
    def __init__(self, first, name):
        self.first, self.name = first, name

    def chunks(self):
        yield self.first


class LeavesTheRest(FileSystemStorage):
    """Says that it saved, and has read the first piece alone."""

    def _save(self, name, content):
        return super()._save(name, _Short(next(iter(content.chunks())), name))


class Hangs(FileSystemStorage):
    """Answers nothing until it is let go."""

    let_go = threading.Event()

    def _save(self, name, content):
        self.let_go.wait()
        return super()._save(name, content)

    def _open(self, name, mode="rb"):
        self.let_go.wait()
        return super()._open(name, mode)

    def delete(self, name):
        self.let_go.wait()
        super().delete(name)


class Overtaken(FileSystemStorage):
    """Before it opens anything, all of `meanwhile` happens, once."""

    meanwhile: ClassVar[list[Callable[[], object]]] = []

    def _open(self, name, mode="rb"):
        while self.meanwhile:
            self.meanwhile.pop()()
        return super()._open(name, mode)


class KeepsAll(FileSystemStorage):
    """Removes nothing whose name is in `kept`."""

    kept: ClassVar[set[str]] = set()

    def delete(self, name):
        if name in self.kept:
            raise PermissionError(13, "Permission denied")
        super().delete(name)


class Stepwise(FileSystemStorage):
    """Tells `killed.step` what it does."""

    def _save(self, name, content):
        killed.step("before save")
        saved = super()._save(name, _Stepwise(content))
        killed.step("after save")
        return saved

    def delete(self, name):
        killed.step("before delete of the blob")
        super().delete(name)
        killed.step("after delete of the blob")


class _Stepwise:
    def __init__(self, content):
        self.content, self.name = content, content.name

    def chunks(self):
        for number, piece in enumerate(self.content.chunks()):
            yield piece
            if number in (0, 1, 20):
                killed.step(f"after piece {number}")
