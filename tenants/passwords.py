"""Limits of passwords, of whatever hasher: how long one may be, and how many are hashed at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

from django.core.exceptions import ValidationError

from controlplane.core.conf import conf
from tenants.errors import PasswordsBusy, TenantsError

MAX_BYTES = 1024
"""A longer text is nobody's password; a hash of megabytes is a way to keep the machine busy."""


def fault(password: str) -> str:
    """Code of what keeps a text from being a password at all, before anything is hashed; empty: nothing."""
    try:
        size = len(password.encode())
    except UnicodeEncodeError:
        return "password_unreadable"
    return "password_too_long" if size > MAX_BYTES else ""


class _Turns:
    """At most so many at once; those who wait go on in any order."""

    def __init__(self) -> None:
        self._free = Condition()
        self._taken = 0

    def take(self, most: int, wait_s: float) -> bool:
        """False: none came free in time."""
        with self._free:
            if not self._free.wait_for(lambda: self._taken < most, wait_s):
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        with self._free:
            self._taken -= 1
            self._free.notify()


_turns = _Turns()


@contextmanager
def hashing() -> Iterator[None]:
    """Around one hash: a quarter of a second of a core, on purpose. Raises PasswordsBusy.

    Without it a few dozen sign-ins at once make every other request of the process wait.
    """
    if not _turns.take(conf.PASSWORD_HASHES or os.cpu_count() or 1, conf.PASSWORD_WAIT):
        raise PasswordsBusy
    try:
        yield
    finally:
        _turns.give_back()


class MaximumLengthValidator:
    """For AUTH_PASSWORD_VALIDATORS: a form says by its field what `set_password` would refuse."""

    def validate(self, password: str, user: Any = None) -> None:
        if code := fault(password):
            raise ValidationError(TenantsError.messages[code], code=code)

    def get_help_text(self) -> str:
        return f"Your password can have at most {MAX_BYTES:,} bytes."
