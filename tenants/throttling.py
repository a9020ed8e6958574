"""How often a sign-in may fail: SIGN_IN_FAILURES times in SIGN_IN_WINDOW, under one name and from one address.

An attempt is counted before its password is looked at, in one statement, and taken back if it succeeds. So a hundred
guesses sent at once are five guesses, and a guesser with an account of its own gains nothing by signing in between. A name
is counted as it was typed, whether there is such a user or not: nobody learns from a refusal who has an account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from django.db import connections, models
from django.utils.crypto import salted_hmac

from auditing.redaction import clean
from controlplane.core.conf import conf
from controlplane.core.ids import now
from tenants.apart import apart
from tenants.models.attempt import SignInCount

_COUNT = """
INSERT INTO cp_tenants_signincount AS c (key, failures, began_at) VALUES (%s, 1, %s)
ON CONFLICT (key) DO UPDATE SET
    failures = CASE WHEN c.began_at > %s THEN c.failures + 1 ELSE 1 END,
    began_at = CASE WHEN c.began_at > %s THEN c.began_at ELSE excluded.began_at END
RETURNING failures, began_at
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that counts as failed until it is `forgiven`."""

    keys: tuple[str, ...]

    def forgive(self) -> None:
        """Take it back: it succeeded, or its password was never looked at."""
        apart(self._forgive)

    def _forgive(self) -> None:
        for key in self.keys:  # the address before the name, as they were counted: nobody waits in a circle
            SignInCount.objects.filter(key=key, failures__gt=0).update(failures=models.F("failures") - 1)


@dataclass(frozen=True, slots=True)
class Refused:
    """retry_after: seconds. first: whether this is the first refusal of the window, the one worth a row in the log."""

    retry_after: int
    first: bool


def begin(name: str, address: str | None) -> Attempt | Refused:
    """Count an attempt. address: None where it is not known."""
    return apart(lambda: _count(_keys(name, address), now()))


def network_of(address: str) -> str:
    """What is counted as one address: of IPv6 the /64, which one household has as a whole."""
    parsed = ip_address(address)
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address


def _keys(name: str, address: str | None) -> list[str]:
    """The name in the lower case of the database, by which users are found: Python's differs, as for the Turkish İ."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute("SELECT lower(%s)", [clean(name)])
        (lowered,) = cursor.fetchone()
    keys = [_key("name", lowered)]
    return keys if address is None else [_key("address", network_of(address)), *keys]


def _key(kind: str, value: str) -> str:
    return salted_hmac(f"cp_tenants.sign_in.{kind}", value, algorithm="sha256").hexdigest()


def _count(keys: list[str], at: datetime) -> Attempt | Refused:
    since = at - timedelta(seconds=conf.SIGN_IN_WINDOW)
    taken: list[str] = []
    for key in keys:
        with connections[conf.DATABASE].cursor() as cursor:
            cursor.execute(_COUNT, [key, at, since, since])
            failures, began_at = cursor.fetchone()
        if failures > conf.SIGN_IN_FAILURES:
            Attempt(tuple(taken))._forgive()
            left = began_at + timedelta(seconds=conf.SIGN_IN_WINDOW) - at
            return Refused(max(1, round(left.total_seconds())), first=failures == conf.SIGN_IN_FAILURES + 1)
        taken.append(key)
    _forget(since)
    return Attempt(tuple(taken))


def _forget(since: datetime) -> None:
    """Remove a few windows that are over, so that the table stays as small as its window."""
    over = SignInCount.objects.select_for_update(skip_locked=True).filter(began_at__lte=since)
    SignInCount.objects.filter(pk__in=list(over.values_list("pk", flat=True)[:100])).delete()
