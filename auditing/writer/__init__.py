"""Rows of the logs written beside the caller: in microseconds, or until they are committed, whatever he rolls back."""

from __future__ import annotations

from pathlib import Path

from auditing.writer.leaving import Lifespan, close_at_exit
from auditing.writer.running import Stats, Writer
from controlplane.core.conf import conf

__all__ = ["Lifespan", "Stats", "Writer", "writer"]


def _folder() -> Path | None:
    return Path(conf.STATE_DIR) / "spool" if conf.STATE_DIR else None


def _start() -> None:
    close_at_exit(writer)


writer: Writer = Writer(_folder, on_start=_start)
"""That of this process."""
