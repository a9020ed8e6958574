"""A tree of files, stored: each under its path in the tree."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import stat
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from django.db import connections

from controlplane.core.conf import conf
from storage_meta import access
from storage_meta.errors import (
    AccessDenied,
    InvalidArgument,
    KeyTooLong,
    ObjectLocked,
    QuotaExceeded,
    StorageError,
)
from storage_meta.keys import KEY_BYTES, check_key, check_text
from storage_meta.models import StorageObject
from storage_meta.stores import CHUNK

if TYPE_CHECKING:
    from storage_meta.handle import Files

PAGE = 500
"""Files whose keys are looked up at a time."""

OF_ONE_FILE = (InvalidArgument, KeyTooLong, AccessDenied, ObjectLocked, QuotaExceeded)
"""What may be wrong with one file and right with the next; anything else ends the import."""


@dataclass(slots=True)
class Imported:
    """stored, skipped: how many files; skipped ones lie there as they are, of equal size and SHA-256. size: bytes stored.

    failed: path in the tree and why, of what was left out.
    """

    stored: int = 0
    skipped: int = 0
    size: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seen(self) -> int:
        return self.stored + self.skipped + len(self.failed)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tree. name: its path there, with slashes. fault: why it is none to be stored; empty: it is."""

    path: bytes
    name: str
    fault: str = ""
    folder: bool = False

    @property
    def shown(self) -> str:
        """The name as text that can be written anywhere."""
        return os.fsencode(self.name).decode(errors="backslashreplace")


def import_tree(
    files: Files,
    path: str | os.PathLike[str],
    *,
    prefix: str = "",
    workers: int = 4,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Store every file below `path`, or the one that it is, under prefix + its path in the tree, with `/` between names.

    The bucket is the handle's. A file whose key holds as many bytes with the same SHA-256 is skipped, so an import that was
    interrupted goes on where it was. What cannot be stored, for its name, its kind or its owner, is listed, and the rest goes
    on; links are not followed. workers: threads, each with a connection; with one, the caller's own. Raises InvalidArgument
    where there is no such path, and what no file can help: NoSuchBucket, StorageUnavailable.
    """
    if not isinstance(workers, int) or not 1 <= workers <= 64:
        raise InvalidArgument(message=f"workers is {workers!r}: use 1 to 64.")
    check_text("prefix", prefix, KEY_BYTES)
    files.the_bucket()
    run = _Run(files, prefix, entries(path), progress or (lambda number: None))
    if workers == 1:
        run.work()
    else:
        run.together(workers)
    if run.error is not None:
        raise run.error
    run.done.failed.sort()
    return run.done


def entries(path: str | os.PathLike[str]) -> Iterator[Entry]:
    """The files of a tree, in the order of their names; what is no file, or a link, has a fault. InvalidArgument at once."""
    top = os.fsencode(path)
    try:
        found = os.stat(top)
    except (OSError, ValueError) as error:
        raise InvalidArgument(message=f"There is no {os.fspath(path)!r} that can be read: {error}.") from error
    if stat.S_ISDIR(found.st_mode):
        return _below(top)
    name = os.fsdecode(os.path.basename(top))
    return iter([Entry(top, name, "" if stat.S_ISREG(found.st_mode) else "It is no file.")])


def _below(top: bytes) -> Iterator[Entry]:
    waiting = [Entry(top, "", folder=True)]  # the last one is next; a tree may be deeper than calls may be nested
    while waiting:
        entry = waiting.pop()
        if not entry.folder:
            yield entry
            continue
        try:
            with os.scandir(entry.path) as found:
                inside = sorted(found, key=lambda one: one.name, reverse=True)
        except OSError as error:
            yield Entry(entry.path, entry.name or ".", f"It cannot be read: {error.strerror}.")
        else:
            waiting += [_entry(one, entry.name) for one in inside]


def _entry(found: os.DirEntry[bytes], folder: str) -> Entry:
    name = f"{folder}/{os.fsdecode(found.name)}" if folder else os.fsdecode(found.name)
    if found.is_symlink():
        return Entry(found.path, name, "It is a link. Import what it points at.")
    if found.is_dir():
        return Entry(found.path, name, folder=True)
    return Entry(found.path, name, "" if found.is_file() else "It is no file.")


class _Run:
    """One import: threads take the next entry from one line, and tell what became of it."""

    def __init__(self, files: Files, prefix: str, line: Iterator[Entry], progress: Callable[[int], None]) -> None:
        self.files, self.prefix, self.progress = files, prefix, progress
        self.bucket = files.the_bucket()
        self.line = self._with_known(line)
        self.taking, self.telling = Lock(), Lock()
        self.done = Imported()
        self.error: BaseException | None = None
        self.stopped = False

    def together(self, workers: int) -> None:
        threads = [Thread(target=copy_context().run, args=[self._alone], name=f"import-{n}") for n in range(workers)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:  # interrupted: what is being stored is finished, no more is begun
            self.stopped = True
            for thread in threads:
                thread.join()
            raise

    def _alone(self) -> None:
        try:
            self.work()
        finally:
            connections[conf.DATABASE].close()

    def work(self) -> None:
        try:
            while not self.stopped:
                with self.taking:
                    entry, known = next(self.line, (None, None))
                if entry is None:
                    return
                self._one(entry, known)
        except BaseException as error:
            self.stopped = True
            if self.error is None:
                self.error = error

    def _one(self, entry: Entry, known: tuple[int, str] | None) -> None:
        stored, fault = None, entry.fault
        if not fault:
            try:
                stored = self._store(entry, known)
            except OF_ONE_FILE as error:
                fault = error.message
            except OSError as error:
                fault = f"It cannot be read: {error.strerror}."
        with self.telling:
            if fault:
                self.done.failed.append((entry.shown, fault))
            elif stored is None:
                self.done.skipped += 1
            else:
                self.done.stored += 1
                self.done.size += stored
            self.progress(self.done.seen)

    def _store(self, entry: Entry, known: tuple[int, str] | None) -> int | None:
        """Bytes that were stored; None: they lie there already."""
        key = check_key(self.prefix + entry.name)
        with open(entry.path, "rb") as file:
            if known and known[0] == os.fstat(file.fileno()).st_size and known[1] == _sha256(file):
                return None
            file.seek(0)
            content_type = mimetypes.guess_type(entry.name)[0] or "application/octet-stream"
            return self.files.put_object(key, file, content_type=content_type).size

    def _with_known(self, line: Iterator[Entry]) -> Iterator[tuple[Entry, tuple[int, str] | None]]:
        """Each entry with the size and SHA-256 that its key holds, if it does and may be read."""
        while page := list(islice(line, PAGE)):
            keys = [self.prefix + entry.name for entry in page if not entry.fault]
            known = self._known([key for key in keys if _takes(key)])
            for entry in page:
                yield entry, known.get(self.prefix + entry.name)

    def _known(self, keys: list[str]) -> dict[str, tuple[int, str]]:
        readable = [key for key in keys if access.allowed(self.files, "read", key)]
        heads = StorageObject.objects.live().filter(
            tenant_id=self.files.tenant_id, bucket=self.bucket, object_key__in=readable
        )
        return {key: (size, sha256) for key, size, sha256 in heads.values_list("object_key", "size", "checksum_sha256")}


def _takes(key: str) -> bool:
    try:
        check_key(key)
    except StorageError:
        return False
    return True


def _sha256(file: Any) -> str:
    digest = hashlib.sha256()
    while piece := file.read(CHUNK):
        digest.update(piece)
    return digest.hexdigest()
