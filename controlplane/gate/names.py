"""Names of whose limit it is, for the message of a refusal: looked up at most once a minute, so that an attack asks nothing."""

from __future__ import annotations

import threading
import time
from uuid import UUID

from auditing.directory import directory
from controlplane.gate.reconnecting import AWAY

_SPAN_S, _MOST = 60.0, 10_000
_KINDS = {"key": "api_key"}
_lock = threading.Lock()
_names: dict[UUID, tuple[float, str]] = {}


def name_of(kind: str, id: UUID) -> str:
    """Name of a tenant, app, branch, key, or e-mail of a user, as of the last minute; "" where there is none."""
    at = time.monotonic()
    with _lock:
        seen, name = _names.get(id, (float("-inf"), ""))
    if at - seen < _SPAN_S:
        return name
    try:
        name = directory().names(_KINDS.get(kind, kind), [id]).get(id, "")
    except AWAY:
        return name
    with _lock:
        if len(_names) >= _MOST:
            _names.clear()
        _names[id] = (at, name)
    return name
