from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from django.core.management.base import CommandError

from controlplane.core.commands import COULD_NOT_RUN
from storage_meta.commands import Command as StorageCommand
from storage_meta.commands import add_bucket, add_json, add_tenant


class Command(StorageCommand):
    help = (
        "Writes the bytes of a key to a file or to stdout. A file is there, in place of what was, only once its SHA-256 was "
        "found right; of what went to stdout before an error, the exit code tells."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("key", metavar="KEY", help="the key, as it is")
        parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="where to write; - for stdout (-)")
        add_tenant(parser)
        add_bucket(parser)
        parser.add_argument("--version-id", metavar="ID", help="this version, not the current one")
        parser.add_argument("--range", metavar="RANGE", help="a part, as bytes=0-99, bytes=100- or bytes=-100")
        add_json(parser)

    def handle(self, *args: Any, key: str, file: str, tenant: str, bucket: str, **options: Any) -> None:
        stored = self.files(tenant, bucket).get_object(key, options["version_id"], options["range"])
        with stored, standard_output() if file == "-" else replaced(file) as target:
            for piece in stored:
                target.write(piece)
        row = {
            "key": key,
            "version_id": stored.version.version_id,
            "size": stored.size,
            "etag": stored.version.etag,
            "file": file,
        }
        if file != "-":
            line = f"Wrote {stored.size:,} bytes of version {stored.version.version_id} of {key!r} to {file}."
            self.report(row, line, as_json=options["json"])


@contextmanager
def standard_output() -> Iterator[IO[bytes]]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would flush, and fail once more
        raise CommandError("Who reads the output has gone: it is not whole.") from None


@contextmanager
def replaced(file: str) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `file` at the end, if no error comes before. Raises CommandError."""
    target = Path(file)
    try:
        new = NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:100]}.", delete=False)  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise CommandError(f"{file!r} cannot be written: {error}.", returncode=COULD_NOT_RUN) from error
    try:
        with new:
            yield new
        os.replace(new.name, target)
    except OSError as error:
        raise CommandError(f"{file!r} cannot be written: {error}.", returncode=COULD_NOT_RUN) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(new.name)
