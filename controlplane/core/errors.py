from __future__ import annotations

from typing import ClassVar


class ControlPlaneError(Exception):
    """Base of every error of the project.

    code: stable machine word, for callers to branch on. http_status: what a web caller should be answered with.
    The message is for people: what is so, and what to do. It never carries a secret.
    """

    code: str = "error"
    http_status: int = 400
    messages: ClassVar[dict[str, str]] = {}

    def __init__(self, code: str | None = None, message: str | None = None, *, http_status: int | None = None) -> None:
        self.code = code or self.code
        self.http_status = http_status or self.http_status
        self.message = message or self.messages.get(self.code, self.code)
        super().__init__(self.message)
