"""Django's settings of the control plane. Every variable: docs/settings.md.

The apps read the dict CONTROLPLANE alone (controlplane.core.conf); a sibling project has settings of its own.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from controlplane.core.conf import Conf, known_keys
from controlplane.env import checkout_file, database, database_name_for_tests, load, local_secret, new_secret_key

PACKAGE_DIR = Path(__file__).resolve().parent
BASE_DIR = PACKAGE_DIR.parent
CHECKOUT = checkout_file() is not None
# Files of this machine lie beside manage.py; an installed wheel has no such place, so where it was started.
LOCAL_DIR = BASE_DIR if CHECKOUT else Path.cwd()

env = load(checkout_file())

CONTROLPLANE_ENV = env.choice("CONTROLPLANE_ENV", ["development", "test", "production"], default="production")
PRODUCTION = CONTROLPLANE_ENV == "production"
DEVDB_DIR = LOCAL_DIR / env.str("DEVDB_DIR", default=".devdb")

# Production says where: a container's own disk would not outlive it.
STATE_DIR = env.str("STATE_DIR", default="" if PRODUCTION else str(DEVDB_DIR / "state"))

DATABASE_URL = env.secret("DATABASE_URL")
SECRET_KEY = env.secret("SECRET_KEY")
DEBUG = env.bool("DEBUG", default=CONTROLPLANE_ENV == "development")

if PRODUCTION:
    given = {"set DATABASE_URL": DATABASE_URL, "set SECRET_KEY": SECRET_KEY, "set DEBUG to 0": not DEBUG}
    if wrong := [what for what, right in given.items() if not right]:
        raise ImproperlyConfigured(
            f"Production does not start yet: {', '.join(wrong)} (for development: CONTROLPLANE_ENV=development)."
        )

SECRET_KEY = SECRET_KEY or local_secret(DEVDB_DIR / "secret-key", new_secret_key)
SECRET_KEY_FALLBACKS = env.secrets("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=[] if PRODUCTION else ["localhost", ".localhost", "127.0.0.1", "[::1]"]
)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# Apps: the roof first, so that its templates and commands win; then from the top floor down.
INSTALLED_APPS = [
    "controlplane.apps.ControlPlaneConfig",
    "storage_meta",
    "policies",
    "catalog",
    "tenants",
    "auditing",
    "controlplane.core",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.staticfiles",
]

WHITENOISE = find_spec("whitenoise") is not None  # extra `serve`
NATIVE_CSP = django.VERSION >= (6,)

MIDDLEWARE = [
    "controlplane.metrics.MetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    *(["whitenoise.middleware.WhiteNoiseMiddleware"] if WHITENOISE else []),
    "django.middleware.csp.ContentSecurityPolicyMiddleware" if NATIVE_CSP else "csp.middleware.CSPMiddleware",
    "controlplane.middleware.DatabaseUnavailableMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "auditing.middleware.AuditContextMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

METRICS_TOKEN = env.secret("METRICS_TOKEN")

ROOT_URLCONF = "controlplane.urls"
WSGI_APPLICATION = "controlplane.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the apps' own, so that the theme overrides the admin's; in the wheel they travel inside the package.
        "DIRS": [BASE_DIR / "templates" if CHECKOUT else PACKAGE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Database. Serving turns the pool on and gets the short limits of a request; commands and the worker work for minutes.
DB_POOL = env.bool("DB_POOL", default=False)
DB_PGBOUNCER = env.bool("DB_PGBOUNCER", default=False)
_pool = {
    "min_size": env.int("DB_POOL_MIN", default=5),
    "max_size": env.int("DB_POOL_MAX", default=25),
    "timeout": env.int("DB_POOL_TIMEOUT", default=5),
    "max_lifetime": env.int("DB_POOL_MAX_LIFETIME", default=300),
}
if not 0 < _pool["max_size"] >= _pool["min_size"]:
    raise ImproperlyConfigured("DB_POOL_MAX must be at least 1 and not less than DB_POOL_MIN.")
_timeouts = {
    "statement_timeout": env.int("DB_STATEMENT_TIMEOUT", default=15_000 if DB_POOL else 900_000),
    "lock_timeout": env.int("DB_LOCK_TIMEOUT", default=5_000),
    "idle_in_transaction_session_timeout": env.int("DB_IDLE_IN_TX_TIMEOUT", default=60_000),
}
_connection = {
    "connect_timeout": env.int("DB_CONNECT_TIMEOUT", default=2),
    "tcp_user_timeout": env.int("DB_TCP_USER_TIMEOUT", default=10_000),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # Raw cursors may prepare; behind PgBouncer a prepared statement would be looked for on another connection.
    "prepare_threshold": None if DB_PGBOUNCER else 5,
}
_max_age = env.int("DB_CONN_MAX_AGE", default=300)


def _database(parts: dict[str, Any]) -> dict[str, Any]:
    """One entry of DATABASES. A parameter of the URL wins over ours, as the later of two `-c name=value` does."""
    options: dict[str, Any] = {**_connection, **parts["OPTIONS"]}
    if not DB_PGBOUNCER:  # it refuses `options=`: there they are set by ALTER ROLE
        ours = " ".join(f"-c {name}={value}" for name, value in _timeouts.items())
        options["options"] = f"{ours} {options.get('options', '')}".strip()
    if DB_POOL:
        options["pool"] = dict(_pool)
    return {
        "ENGINE": "django.db.backends.postgresql",
        **parts,
        "OPTIONS": options,
        "CONN_MAX_AGE": 0 if DB_POOL else _max_age,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": DB_PGBOUNCER,
        "TEST": {"NAME": database_name_for_tests(parts["NAME"], BASE_DIR)},
    }


if DATABASE_URL:
    DATABASES = {"default": _database(database("DATABASE_URL", DATABASE_URL))}
else:
    from controlplane.devdb.server import socket_dir

    DATABASES = {
        "default": _database(
            {
                "ENGINE": "controlplane.devdb",
                "NAME": "controlplane",
                "USER": "controlplane",
                "PASSWORD": "",
                "HOST": str(socket_dir(DEVDB_DIR)),
                "PORT": "",
                "OPTIONS": {},
                "DEVDB_DIR": str(DEVDB_DIR),
                "DEVDB_DURABLE": env.bool("DEVDB_DURABLE", default=True),
            }
        )
    }
DATABASE_ROUTERS = ["controlplane.routers.ControlPlaneRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Who signs in.
AUTH_USER_MODEL = "cp_tenants.User"
AUTHENTICATION_BACKENDS = ["tenants.backends.TenantBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",  # the one that writes: 12 rounds, over a SHA-256
    # imported hashes, replaced at the next sign-in; never plain bcrypt, which reads 72 bytes of a password
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "tenants.passwords.MaximumLengthValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "controlplane:dashboard"  # when the address to go on to is not ours
SESSION_COOKIE_AGE = 12 * 3600
# An e-mail address is unique within its tenant, not in the table; the backend above signs in by both.
SILENCED_SYSTEM_CHECKS = ["auth.W004"]

# What every answer carries. Nothing inline, nothing from elsewhere.
_csp = {
    "default-src": ["'self'"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
    "form-action": ["'self'"],
}
CONTENT_SECURITY_POLICY = {"DIRECTIVES": _csp}  # django-csp, on Django 5.2
SECURE_CSP = _csp  # Django's own, from 6.0
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

FORCE_HTTPS = env.bool("FORCE_HTTPS", default=PRODUCTION)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = FORCE_HTTPS
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=3600) if FORCE_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.bool("HSTS_PRELOAD", default=False)
if env.bool("TRUST_PROXY_HEADER", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Static files: in production hashed and collected, so that a browser may keep them for a year.
STATIC_URL = "static/"
STATIC_ROOT = LOCAL_DIR / env.str("STATIC_ROOT", default="staticfiles")
_hashed = (
    "whitenoise.storage.CompressedManifestStaticFilesStorage"
    if WHITENOISE
    else "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # what tenants store (storage_meta): never served from here, so it has no address
    "objects": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": str(LOCAL_DIR / STATE_DIR / "objects") if STATE_DIR else None,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {
        "BACKEND": _hashed if PRODUCTION else "django.contrib.staticfiles.storage.StaticFilesStorage",
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = not PRODUCTION  # straight from the sources

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

LOG_LEVEL = env.choice("LOG_LEVEL", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], default="INFO")
LOG_FORMAT = env.choice("LOG_FORMAT", ["json", "text"], default="json" if PRODUCTION else "text")
DEFAULT_EXCEPTION_REPORTER = "controlplane.reports.RedactedReporter"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "controlplane.logs.JsonFormatter"},
        "text": {"()": "controlplane.logs.TextFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    # Django's own handlers would write each line a second time, unredacted. runserver keeps its request lines.
    "loggers": {"django": {"handlers": [], "level": LOG_LEVEL, "propagate": True}},
}

# What the apps read. CP_<KEY> fills CONTROLPLANE[<KEY>]; a key that no app knows fails `check`, so a slip is noticed.
CONTROLPLANE: dict[str, Any] = {
    "MIGRATE": True,
    # known without the prefix, too; with it they win
    "DATABASE_DIRECT_URL": env.secret("DATABASE_DIRECT_URL"),
    "STATE_DIR": str(LOCAL_DIR / STATE_DIR) if STATE_DIR else "",
    "CACHE_API_KEY_SIZE": env.int("CACHE_API_KEY_SIZE", default=Conf.CACHE_API_KEY_SIZE),
    "CACHE_API_KEY_TTL": env.int("CACHE_API_KEY_TTL", default=Conf.CACHE_API_KEY_TTL),
    "CACHE_MODEL_SIZE": env.int("CACHE_MODEL_SIZE", default=Conf.CACHE_MODEL_SIZE),
    "CACHE_MODEL_TTL": env.int("CACHE_MODEL_TTL", default=Conf.CACHE_MODEL_TTL),
    "CACHE_POLICY_SIZE": env.int("CACHE_POLICY_SIZE", default=Conf.CACHE_POLICY_SIZE),
    "CACHE_POLICY_TTL": env.int("CACHE_POLICY_TTL", default=Conf.CACHE_POLICY_TTL),
    # A hash is a quarter of a second of a core: the processes that serve share the cores for it.
    "PASSWORD_HASHES": max(1, (os.cpu_count() or 1) // max(1, env.int("WEB_CONCURRENCY", default=2))),
    **env.keys("CP_", defaults={name: getattr(Conf, name) for name in known_keys()}),
    "ENCRYPTION_KEYS": tuple(env.secrets("ENCRYPTION_KEYS")),
}
if not PRODUCTION and not CONTROLPLANE["ENCRYPTION_KEYS"]:
    CONTROLPLANE["ENCRYPTION_KEYS"] = (
        local_secret(DEVDB_DIR / "encryption-key", lambda: Fernet.generate_key().decode()),
    )
