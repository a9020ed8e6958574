"""The one setting of the apps: the dict `CONTROLPLANE`, with these defaults, looked up live at each use."""

from __future__ import annotations

from typing import Any

from django.conf import settings


class Conf:
    """Defaults of the keys of `CONTROLPLANE`. A sibling project sets what differs; an unknown key fails `check`."""

    DATABASE: str = "default"
    """Alias of the control plane's database in this project's DATABASES."""

    MIGRATE: bool = False
    """Whether this project migrates our tables: only the control plane itself, and a sibling's tests."""

    ENCRYPTION_KEYS: tuple[str, ...] = ()
    """Fernet keys for encrypted columns, newest first: the first writes, all read."""

    STATE_DIR: str = ""
    """Folder of this machine for what waits for the database, such as rows of the logs; empty: they wait in memory alone."""

    AUDIT_DIRECTORY: Any = None
    """Object, or dotted path of one, that tells auditing about tenants (auditing.directory.Directory)."""

    AUDIT_PRICER: Any = None
    """Callable, or dotted path of one, that tells auditing what a request costs (auditing.pricer.Pricer)."""

    AUDIT_TRUSTED_PROXIES: tuple[str, ...] = ()
    """Networks (CIDR) whose X-Forwarded-For is believed when the caller's address is recorded."""

    AUDIT_SIGNING_KEY: str = ""
    """Key that signs anchors of the audit log: base64 of the 32 bytes of an Ed25519 seed."""

    AUDIT_ANCHORS: tuple[str, ...] = ()
    """Where signed anchors go: paths of files on other machines, https:// addresses that take a POST."""

    AUDIT_ORIGIN: str = "controlplane/audit"
    """Name of this installation's audit log in its anchors; no spaces, no plus sign."""

    API_KEY_MAX_GRACE: int = 7 * 86_400
    """Longest grace of a rotation, in seconds."""

    API_KEY_MAX_SECRETS: int = 5
    """Live secrets that one API key may have at a time."""

    API_KEY_PURGE_AFTER: int = 90 * 86_400
    """Seconds after its end that a secret is kept before `keys_purge` removes it."""

    API_KEY_PEPPERS: dict[int, str] = {}
    """Peppers of key digests by version, hex of at least 32 bytes; the highest writes. Empty: plain SHA-256."""

    API_KEY_PEPPER_WRITES: int = -1
    """The version of the pepper that new digests get, while not all processes know the highest; -1: the highest."""

    API_KEY_FOREIGN_PATTERNS: tuple[str, ...] = ()
    """Regular expressions of whole tokens of another gateway, whose imported SHA-256 digests may open keys."""

    DATABASE_DIRECT_URL: str = ""
    """URL of the control plane's database past a pooler, where DATABASE goes through one: for LISTEN."""

    CACHE_API_KEY_SIZE: int = 1000
    """API keys that a process remembers."""

    CACHE_API_KEY_TTL: int = 300
    """Seconds that it remembers one, ± 10 %."""

    CACHE_MODEL_SIZE: int = 500
    """Models, by name or alias, that a process remembers."""

    CACHE_MODEL_TTL: int = 900
    """Seconds that it remembers one, ± 10 %."""

    CACHE_POLICY_SIZE: int = 10_000
    """Effective policies, by tenant, app, branch, user and key, that a process remembers."""

    CACHE_POLICY_TTL: int = 900
    """Seconds that it remembers one, ± 10 %, or less where a schedule or validity changes before."""

    CACHE_NEGATIVE_SIZE: int = 10_000
    """Unknown keys or names that a cache remembers, apart from the known ones."""

    CACHE_NEGATIVE_TTL: int = 5
    """Seconds that it remembers an unknown one."""

    CACHE_POLL: int = 1
    """Seconds between two looks at the log of changes, where no notification comes earlier."""

    CACHE_LEASE: int = 5
    """Seconds that caches answer without having looked at the log: a stopped key is refused that much later at most."""

    CACHE_LISTEN: bool = True
    """Whether to be woken by notifications; without them changes are noticed by looking alone."""

    CACHE_MAX_LOADS: int = 8
    """Statements that a cache of a process runs at once; more wait."""

    REFRESH_IDLE: int = 14 * 86_400
    """Seconds after which an unused refresh token ends."""

    REFRESH_ABSOLUTE: int = 90 * 86_400
    """Seconds after which a family of refresh tokens ends, however often it was rotated."""

    REFRESH_REUSE_WINDOW: int = 10
    """Seconds in which a spent refresh token is taken for that of a parallel tab, not for a stolen one."""

    REFRESH_MAX_FAMILIES: int = 20
    """Live families that one user may have at a time; a further one ends the oldest."""

    RESERVATION_TTL: int = 900
    """Seconds after which what a call holds of its limits is given back, if it was neither settled nor released."""

    STORAGE_ALIAS: str = "objects"
    """Alias in STORAGES for the bytes of buckets that name none."""

    STORAGE_TIMEOUT: float = 60
    """Seconds that a storage may take for one answer, or for the next piece of a body, before a call gives it up."""

    STORAGE_TRIGRAM: bool = False
    """Whether objects are found by any part of their key: an index more, made and removed by `storage_index`."""

    STORAGE_HOOK_NETWORKS: tuple[str, ...] = ()
    """Networks (CIDR) that hooks may reach beyond the public internet."""

    STORAGE_HOOK_PORTS: tuple[int, ...] = (443, 8443)
    """Ports that hooks may reach."""

    STORAGE_HOOK_HTTP: bool = False
    """Whether hooks may be plain http, for development."""

    SIGN_IN_FAILURES: int = 5
    """Failed sign-ins under one name, or from one address, after which no more are tried in SIGN_IN_WINDOW."""

    SIGN_IN_WINDOW: int = 15 * 60
    """Seconds from the first failure in which the others are counted."""

    PASSWORD_HASHES: int = 0
    """Passwords that one process hashes at a time; 0: as many as this machine has cores."""

    PASSWORD_WAIT: int = 5
    """Seconds that a sign-in waits for its turn to be hashed, before it is refused."""

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            given: dict[str, Any] = getattr(settings, "CONTROLPLANE", {})
            if name in given:
                return given[name]
        return object.__getattribute__(self, name)  # not super(), which takes as long again: hot paths ask here


conf = Conf()


def known_keys() -> set[str]:
    """Names that CONTROLPLANE may hold."""
    return {name for name in Conf.__annotations__ if name.isupper()}
