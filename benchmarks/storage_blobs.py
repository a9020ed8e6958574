"""One long file put, and got again, beside Django's storage as it is: `storage.save` and one fsync."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage
from django.test import override_settings

from benchmarks.report import Goal, show
from storage_meta.handle import Files
from storage_meta.models import Bucket, StorageObject
from tenants.models import Tenant

MIB = 1024 * 1024
SIZE, TIMES = 256, 5
AGAINST_PLAIN, GROWN = 0.4, 32


def run() -> bool:
    tenant = Tenant.objects.create(slug="blobs", name="Blobs")
    Bucket.objects.create(tenant=tenant, name="docs")
    with TemporaryDirectory(prefix="bench-blobs-") as folder:
        objects = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": f"{folder}/ours"}}
        with override_settings(STORAGES={**settings.STORAGES, "objects": objects}):
            return _beside_plain(StorageObject.objects.for_tenant(tenant).bucket("docs"), Path(folder))


def _beside_plain(docs: Files, folder: Path) -> bool:
    source = folder / "source"
    _write(source)
    docs.put_object("warm", b"x")
    plain = FileSystemStorage(f"{folder}/plain")
    grown = _growth(lambda: _put(docs, source))
    docs.delete_object("a")
    seconds: dict[str, list[float]] = {"storage.save, fsync": [], "put_object": [], "get_object": []}
    for _ in range(TIMES):  # in turns: the disk is nobody's alone
        seconds["storage.save, fsync"].append(_seconds(lambda: _save(plain, source)))
        seconds["put_object"].append(_seconds(lambda: _put(docs, source)))
        seconds["get_object"].append(_seconds(lambda: _get(docs)))
        plain.delete("a")  # that a file goes is measured of neither
        docs.delete_object("a")
    rates = {name: SIZE / median(took) for name, took in seconds.items()}
    ratio = median(
        plainly / ours for plainly, ours in zip(seconds["storage.save, fsync"], seconds["put_object"], strict=True)
    )
    goals = [
        Goal("put against storage.save and fsync", ratio, AGAINST_PLAIN, "{:.2f} x"),
        Goal("growth of resident memory, MiB", grown, GROWN, "{:.1f}", most=True),
    ]
    return show(f"A file of {SIZE} MiB, measured, flushed and versioned", rates, "MiB/s", goals)


def _write(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(SIZE):
            file.write(os.urandom(MIB))


def _put(docs: Files, source: Path) -> None:
    with source.open("rb") as file:
        docs.put_object("a", file)


def _get(docs: Files) -> None:
    with docs.get_object("a") as stored:
        for _ in stored:
            pass


def _save(plain: FileSystemStorage, source: Path) -> None:
    with source.open("rb") as file:
        name = plain.save("a", File(file))
    with plain.open(name) as saved:
        os.fsync(saved.fileno())


def _seconds(work: Callable[[], None]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def _growth(work: Callable[[], None]) -> float:
    """MiB by which resident memory grew at its highest; Linux counts anew when it is told to."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident()
    work()
    return (_resident() - before) / 1024


def _resident() -> int:
    """Most KiB that were resident since the counter was reset."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])
