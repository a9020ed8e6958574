"""Calls to the storages of STORAGES: each ends in time, and where it fails, as a StorageError."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Self, TypeVar, cast

from django.core.files import File
from django.core.files.storage import FileSystemStorage, Storage, storages
from django.db import connections

from controlplane.core.conf import conf
from storage_meta.errors import StorageUnavailable

T = TypeVar("T")

if TYPE_CHECKING:
    _File = File[bytes]
else:
    _File = File

CHUNK = 1024 * 1024
"""Bytes that a storage is asked for at a time."""

AHEAD, TOGETHER = 32, 8
"""Pieces that may wait for a storage: while some are written, the next are read and measured. It is woken for several at a
time: to be woken for each would take as long as to write it."""

GRACE = timedelta(days=1)
"""After so long nobody finishes an upload: what is left of it is removed, and the put that comes yet is refused."""

IDLE = 8
"""Threads that wait for the next call to a storage; what needs more at once starts more."""

_flushed: set[Path] = set()
"""Folders of which the way up to the storage's own is known to be on the disk."""

logger = logging.getLogger(__name__)


def storage_of(alias: str) -> Storage:
    """Raises StorageUnavailable where STORAGES has no such alias, its storage cannot be made, or has no place of its own."""
    if fault := fault_of(alias):
        logger.warning("The storage %r %s", alias, fault)
        raise StorageUnavailable(
            message=f"The storage {alias!r} cannot be used. Nothing was changed; `manage.py check --deploy` tells why."
        )
    return storages[alias]


def fault_of(alias: str) -> str:
    """Why a storage cannot be used; empty: it can."""
    try:
        storage = storages[alias]
    except Exception as error:
        return f"cannot be made ({type(error).__name__}: {error})"
    # without a location Django means MEDIA_ROOT, which is served
    if isinstance(storage, FileSystemStorage) and not storage._location:  # type: ignore[attr-defined]
        return "has no folder"
    return ""


def ask(alias: str, work: Callable[[Storage], T]) -> T:
    """What `work` returns of the storage: see `answer`."""
    storage = storage_of(alias)
    return answer(alias, lambda: work(storage))


def answer(alias: str, work: Callable[[], T]) -> T:
    """What a call to a storage, or to a file of it, returns.

    FileNotFoundError passes; another failure is StorageUnavailable, and so is no answer in STORAGE_TIMEOUT seconds: what hangs
    is left to itself, in a thread that nobody waits for.
    """
    outcome: Outcome[T] = Outcome(alias)
    start(lambda: outcome.settle(work))
    return outcome.result()


def remove_blob(alias: str, name: str) -> None:
    """Remove a blob; that it is not there is no failure. Raises StorageUnavailable."""
    try:
        ask(alias, lambda storage: storage.delete(name))
    except FileNotFoundError:
        return


def start(work: Callable[[], None]) -> None:
    """Do it in a thread that no exit of the process waits for, with the caller's context variables.

    Threads are used again: boto3, of which each thread has its own, takes a tenth of a second to make.
    """
    context = copy_context()
    try:
        jobs = _idle.pop()
    except IndexError:
        jobs = SimpleQueue()
        threading.Thread(target=_works, args=[jobs], name="storage", daemon=True).start()
    jobs.put(lambda: context.run(work))


_idle: list[SimpleQueue[Callable[[], object]]] = []
os.register_at_fork(after_in_child=_idle.clear)  # a child has none of these threads


def _works(jobs: SimpleQueue[Callable[[], object]]) -> None:
    while True:
        job = jobs.get()
        try:
            job()
        finally:
            connections.close_all()  # a storage may keep its bytes in a database
        del job  # and what it holds, while this waits
        if len(_idle) >= IDLE:
            return
        _idle.append(jobs)


class Outcome(Generic[T]):
    """What a call in another thread returned or raised, once it has."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._ended = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def settle(self, work: Callable[[], T]) -> None:
        try:
            self._value = work()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def result(self) -> T:
        if not self._ended.wait(conf.STORAGE_TIMEOUT):
            hangs(self._alias)
        if isinstance(self._error, FileNotFoundError):
            raise self._error
        if self._error is not None:
            failed(self._alias, self._error)
        return cast(T, self._value)


def failed(alias: str, error: BaseException) -> NoReturn:
    logger.warning("The storage %r failed: %s: %s", alias, type(error).__name__, error)
    raise StorageUnavailable(
        message=f"The storage {alias!r} failed ({type(error).__name__}). Try again later; the log of the server tells more."
    ) from error


def hangs(alias: str) -> NoReturn:
    logger.warning("The storage %r has not answered for %s s", alias, conf.STORAGE_TIMEOUT)
    raise StorageUnavailable(
        message=f"The storage {alias!r} does not answer within {conf.STORAGE_TIMEOUT} seconds. Try again later."
    )


class Stream(_File):
    """The file that a storage is given to save: what another thread feeds it, piece by piece. It can be read once.

    Its SHA-256 is that of what the storage took, made in its thread, while the one that feeds makes the MD5.
    """

    def __init__(self, name: str) -> None:
        super().__init__(None, name)
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._fed = self._broken = self._left = False
        self._rest = b""
        self._sha256 = hashlib.sha256()
        self.consumed = False
        """Whether the storage has seen the end."""

    @property
    def checksum_sha256(self) -> str:
        return self._sha256.hexdigest()

    # --- for who feeds it

    def feed(self, piece: bytes) -> bool:
        """False: the storage has taken nothing for STORAGE_TIMEOUT seconds. What is fed after it left is for nobody."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._left or len(self._waiting) < AHEAD, conf.STORAGE_TIMEOUT):
                return False
            self._waiting.append(piece)
            if len(self._waiting) >= TOGETHER:
                self._changed.notify_all()
            return True

    def end(self, *, broken: bool = False) -> None:
        with self._changed:
            self._fed, self._broken = True, self._broken or broken
            self._changed.notify_all()

    def leave(self) -> None:
        """The storage reads no more."""
        with self._changed:
            self._left = True
            self._waiting.clear()
            self._changed.notify_all()

    # --- for the storage

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        while piece := self._take():
            yield piece

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end."""
        held = bytearray(self._rest)
        while (size < 0 or len(held) < size) and (piece := self._take()):
            held += piece
        taken = len(held) if size < 0 else size
        self._rest = bytes(held[taken:])
        return bytes(held[:taken])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Storages go to the beginning before they read, where it is anyway."""
        return 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is held."""

    @property
    def closed(self) -> bool:
        return False

    def __bool__(self) -> bool:
        return True

    def _take(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._fed)
            if self._broken:
                raise BrokenOffError
            if not self._waiting:
                self.consumed = True
                return b""
            piece = self._waiting.popleft()
            self._changed.notify_all()
        self._sha256.update(piece)
        return piece


class BrokenOffError(Exception):
    """To the storage: who fed it has given up."""


class Saving:
    """Within `with`: a blob that is being written under exactly this name. At its end it is on the disk, or the storage has it.

    hung: the storage never answered, so it may still write, later. Raises StorageUnavailable.
    """

    def __init__(self, alias: str, name: str) -> None:
        self._alias, self._name = alias, name
        self._storage = storage_of(alias)
        self._stream = Stream(name)
        self._outcome: Outcome[str] = Outcome(alias)
        self._size = 0
        self.hung = False

    def __enter__(self) -> Self:
        start(self._save)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.end(broken=kind is not None)
        if kind is None:
            self._finish()
        elif not self.hung:
            self._give_up()

    @property
    def checksum_sha256(self) -> str:
        """Of what the storage took."""
        return self._stream.checksum_sha256

    def write(self, piece: bytes) -> None:
        self._size += len(piece)
        if not self._stream.feed(piece):
            self.hung = True
            hangs(self._alias)

    def _save(self) -> None:
        try:
            self._outcome.settle(lambda: self._storage.save(self._name, self._stream))
        finally:
            self._stream.leave()

    def _finish(self) -> None:
        name = self._ended()
        if name != self._name:
            ask(self._alias, lambda storage: storage.delete(name))
            failed(self._alias, ValueError(f"asked to save {self._name}, it saved {name}"))
        if not self._stream.consumed:
            failed(self._alias, ValueError(f"it did not read {name} to its end"))
        try:
            keep(self._storage, name, self._size)
        except OSError as error:
            failed(self._alias, error)

    def _give_up(self) -> None:
        try:
            self._ended()
        except (StorageUnavailable, FileNotFoundError):
            """It failed, as it should: it was told that the body broke off."""

    def _ended(self) -> str:
        try:
            return self._outcome.result()
        except FileNotFoundError as error:
            failed(self._alias, error)
        finally:
            self.hung = not self._outcome.ended


def keep(storage: Storage, name: str, size: int) -> None:
    """Have a blob that is a local file survive a loss of power, with the folders that lead to it, readable by its owner alone.

    Django's storages neither flush what they save nor the folder it lies in. Raises OSError if it is not `size` bytes long.
    """
    try:
        path = Path(storage.path(name))
    except NotImplementedError:  # elsewhere: what it acknowledged, it keeps
        return
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_size != size:
            raise OSError(f"{name} has {found.st_size} bytes of {size}")
        if stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())
    _flush_folder(path.parent)
    if path.parent not in _flushed:
        # each folder is named in the one above, up to the storage's own and the one that holds it
        for folder in list(path.parent.parents)[: name.count("/") + 1]:
            _flush_folder(folder)
        if len(_flushed) > 1000:
            _flushed.clear()
        _flushed.add(path.parent)


def _flush_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
