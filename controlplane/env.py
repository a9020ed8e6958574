"""Settings from the process environment and .env.

A value comes through as it was written: nothing is interpolated, unescaped or stripped. Order: process environment,
.env, default; an empty value counts as unset. A secret X may come from the file that X_FILE names (Docker, Kubernetes).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import environ
import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}

URL_SHAPE = "postgresql://user:password@host:5432/name"
ESCAPES = f"cannot be read: write {URL_SHAPE}, and / ? # @ : % of user or password as %2F %3F %23 %40 %3A %25"

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


class Env(environ.Env):
    """django-environ's reader, without its substitutions.

    django-environ takes a value that begins with `$` as the name of another variable, and one in fifty of Django's own
    secret keys begins so; it reads an unknown word as False and strips quotes inside quotes. Here a value is its text,
    and one that cannot be read is refused with the variable's name.
    """

    def __init__(self, process: Mapping[str, str], file: Mapping[str, str] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sources = [process, file or {}]

    def __contains__(self, var: object) -> bool:
        return any(source.get(str(var)) for source in self.sources)

    def get_value(
        self, var: str, cast: Any = None, default: Any = environ.Env.NOTSET, parse_default: bool = False
    ) -> Any:
        """The value of var, or default as it is. Raises ImproperlyConfigured with name and text of a bad value."""
        text = next((source[var] for source in self.sources if source.get(var)), None)
        if text is None:
            if default is self.NOTSET:
                raise ImproperlyConfigured(f"Set {var} in the environment or in .env.")
            return default
        try:
            return self.parse_value(text, cast)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is {text!r}, but must be {error}.") from None

    @classmethod
    def parse_value(cls, value: str, cast: Any) -> Any:
        """Raises ValueError with the words for what was expected."""
        if cast is bool:
            if value.lower() not in TRUE | FALSE:
                raise ValueError("1 or 0")
            return value.lower() in TRUE
        if cast is int:
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise ValueError("a whole number from 0")
            return int(value)
        if cast is list:
            return [word.strip() for word in value.split(",") if word.strip()]
        return cast(value) if cast else value

    def choice(self, var: str, choices: Sequence[str], default: str) -> str:
        value = self.str(var, default=default)
        if value not in choices:
            raise ImproperlyConfigured(f"{var} is {value!r}, but must be one of {', '.join(choices)}.")
        return value

    def secret(self, var: str, default: str = "") -> str:
        """The text of a secret: of X, or of the file X_FILE without its last line end. Never shown in an error."""
        for source in self.sources:
            path = source.get(f"{var}_FILE")
            if path and source.get(var):
                raise ImproperlyConfigured(f"{var} and {var}_FILE are both set: keep one.")
            if path:
                return _read(Path(path), f"{var}_FILE").removesuffix("\n").removesuffix("\r")
            if value := source.get(var):
                return value
        return default

    def secrets(self, var: str) -> list[str]:
        """A comma list of secrets, newest first."""
        words: list[str] = self.parse_value(self.secret(var), list)
        return words

    def keys(self, prefix: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Every variable that begins with prefix, by the rest of its name, read as its default's type.

        bool, int; tuple: comma list, or a JSON list of texts (["a,b"]); dict: comma list of number:text (2:abc,1:def);
        else text. They may be secrets, so X_FILE works and an error does not show the text. A name without a default
        comes as text.
        """
        names = {name.removesuffix("_FILE") for source in self.sources for name in source if name.startswith(prefix)}
        return {
            name.removeprefix(prefix): self._key(name, defaults.get(name.removeprefix(prefix)))
            for name in sorted(names)
        }

    def _key(self, var: str, default: Any) -> Any:
        text = self.secret(var)
        try:
            if isinstance(default, tuple):
                return _json_list(text) if text.lstrip().startswith("[") else tuple(self.parse_value(text, list))
            if isinstance(default, dict):
                pairs = [word.partition(":") for word in self.parse_value(text, list)]
                return {self.parse_value(number, int): value for number, _, value in pairs}
            return self.parse_value(text, type(default)) if isinstance(default, int) else text
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} must be {error}.") from None


def _json_list(text: str) -> tuple[str, ...]:
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError('a comma list, or a JSON list of texts as ["a", "b"]')
    return tuple(words)


def checkout_file() -> Path | None:
    """.env beside manage.py; None in an installed wheel, which has no manage.py."""
    root = Path(__file__).resolve().parent.parent
    return root / ".env" if (root / "manage.py").is_file() else None


def load(default_file: Path | None) -> Env:
    """The reader over the process environment and one file.

    The file is CONTROLPLANE_ENV_FILE, which must exist, or else default_file, if it exists. Nothing is written to
    os.environ, so that a started process reads the file by itself or not at all.
    """
    if named := os.environ.get("CONTROLPLANE_ENV_FILE"):
        return Env(os.environ, parse(_read(Path(named), "CONTROLPLANE_ENV_FILE"), named))
    if default_file is not None and default_file.is_file():
        return Env(os.environ, parse(_read(default_file, "CONTROLPLANE_ENV_FILE"), str(default_file)))
    return Env(os.environ)


def parse(text: str, name: str) -> dict[str, str]:
    """The variables of a .env file: NAME='value', taken as it stands between the quotes, as a shell and compose do.

    NAME="value" undoes a backslash before one of \\ " $ `; NAME=value is the rest of the line without blanks at its
    end. Blank lines and lines that begin with # are skipped. Raises ImproperlyConfigured with file and line, never the
    text.
    """
    found: dict[str, str] = {}
    # Not splitlines(): it also splits at characters that a value may hold (U+0085, U+2028).
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise ImproperlyConfigured(f"{name}, line {number}: write NAME='value', or begin the line with #.")
        found[match[1]] = _unquote(match[2], f"{name}, line {number}")
    return found


def _unquote(value: str, where: str) -> str:
    quote = value[:1]
    if quote not in {"'", '"'}:
        return value
    if len(value) < 2 or value[-1] != quote:
        raise ImproperlyConfigured(f"{where}: the value begins with {quote} and does not end with it.")
    inner = value[1:-1]
    return inner if quote == "'" else re.sub(r'\\([\\"$`])', r"\1", inner)


def local_secret(path: Path, make: Callable[[], str]) -> str:
    """A secret of this checkout, made once, kept in a file that only its owner reads (0600).

    Development alone uses it. Several processes may start at once: the first to link its file wins, all read that one.
    Raises ImproperlyConfigured when the directory or the file belongs to somebody else.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f"{path.name}.", delete=True) as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
                with suppress(FileExistsError):  # another process was first: its secret counts
                    os.link(file.name, path)
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise ImproperlyConfigured(
            f"{path} cannot be read or made ({error.strerror}): set DEVDB_DIR to a directory of your own."
        ) from None


def new_secret_key() -> str:
    return secrets.token_urlsafe(64)


def database(var: str, url: str) -> dict[str, Any]:
    """NAME, USER, PASSWORD, HOST, PORT and OPTIONS of Django for a PostgreSQL URL.

    The URL is read by libpq itself: several hosts (h1:5432,h2:5433), a socket directory (?host=/run/postgresql) and any
    connection parameter (?sslmode=verify-full) mean what they mean everywhere; parameters become OPTIONS.
    Raises ImproperlyConfigured without any part of the URL but its scheme: libpq's own messages quote the password.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres"}:
        named = f" begins with {scheme[:20]}://, but" if separator else ""
        raise ImproperlyConfigured(f"{var}{named} must be {URL_SHAPE}.")
    try:
        found: dict[str, Any] = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        raise ImproperlyConfigured(f"{var} {ESCAPES}.") from None
    ports = [port for port in str(found.get("port") or "").split(",") if port]
    if not all(port.isdigit() and 0 < int(port) < 65536 for port in ports):
        raise ImproperlyConfigured(f"{var} has a port that is not a number from 1 to 65535.")
    if not found.get("dbname"):
        raise ImproperlyConfigured(f"{var} names no database: write {URL_SHAPE}.")
    if set(found["dbname"]) & set("/@"):  # what is left of an unescaped password
        raise ImproperlyConfigured(f"{var} {ESCAPES}.")
    parts = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return {name: found.pop(key, "") for name, key in parts.items()} | {"OPTIONS": found}


def database_name_for_tests(name: str, checkout: Path) -> str:
    """test_<name>_<8 hex digits of the checkout's path>: two checkouts on one server never drop each other's database.

    At most 63 bytes, PostgreSQL's limit for a name.
    """
    digest = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:8]
    return f"test_{name[:49]}_{digest}"


def _read(path: Path, var: str) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ImproperlyConfigured(f"{var}: {path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{var}: {path} is not UTF-8 text.") from None
