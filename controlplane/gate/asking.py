"""What a caller asks of the gate, checked before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from controlplane.denials import Denied

MAX_REQUEST_ID = 190
"""Characters of a caller's request id: room is left for the numbers of its retries."""

MAX_TOKENS = 2**31 - 1
LONGEST = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call as its caller wants it: the arguments of `gate.authorize` but for the token. Raises Denied (400)."""

    model: str
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    request_id: str | None = None
    environment: str | None = None
    scope: str | None = None
    region: str | None = None
    stream: bool = False
    deadline: timedelta = timedelta(minutes=10)
    units: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 0
    retry_of: str | None = None

    def __post_init__(self) -> None:
        if self.request_id is not None and not self.attempt and not _fits(self.request_id):
            text = f"A request id has 1 to {MAX_REQUEST_ID} characters of Unicode text without NUL."
            raise Denied("bad_request_id", 400, text)
        for name in ("input_tokens", "max_output_tokens"):
            value = getattr(self, name)
            if value is not None and not (type(value) is int and 0 <= value <= MAX_TOKENS):
                raise _bad(name, f"a whole number from 0 to {MAX_TOKENS}, or None")
        for name in ("environment", "scope", "region"):
            if not isinstance(getattr(self, name), str | None):
                raise _bad(name, "text, or None")
        if not isinstance(self.stream, bool):
            raise _bad("stream", "True or False")
        if not (isinstance(self.deadline, timedelta) and timedelta(0) < self.deadline <= LONGEST):
            raise _bad("deadline", "a timedelta of more than 0 and at most 24 hours")
        if not (isinstance(self.units, Mapping) and all(isinstance(name, str) for name in self.units)):
            raise _bad("units", "fields of catalog.pricing.Usage by name")


def _bad(name: str, wanted: str) -> Denied:
    return Denied("bad_argument", 400, f"{name} cannot be read: give {wanted}.")


def _fits(request_id: object) -> bool:
    """Whether the log can keep a request id: text of the right length, without NUL and halves of characters."""
    if not isinstance(request_id, str):
        return False
    whole = request_id.encode("utf-8", "replace").decode("utf-8") == request_id
    return 0 < len(request_id) <= MAX_REQUEST_ID and whole and "\x00" not in request_id
