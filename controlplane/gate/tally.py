"""What this process's gate did, counted: refusals by code, of phases 1 and 2 too, and what an operator should look at."""

from __future__ import annotations

import threading
from collections import Counter

_lock = threading.Lock()
_counts: Counter[str] = Counter()


def count(name: str) -> None:
    with _lock:
        _counts[name] += 1


def counts() -> dict[str, int]:
    """How often since the process began: `denied.<code>`, `reservation_in_transaction`, `end_repeated`, `end_kept`."""
    with _lock:
        return dict(_counts)
