"""The console script `controlplane`, and manage.py's body.

Exit codes: 0 done, 1 findings or refused, 2 could not run.
"""

from __future__ import annotations

import os
import sys

from django.core.exceptions import ImproperlyConfigured

UNDEFINED_TABLE = "42P01"


def main(environment: str = "production") -> int:
    """Run the command of sys.argv.

    environment: CONTROLPLANE_ENV where neither the process environment nor .env names one; started processes inherit
    it. What cannot run for its settings or its database is one sentence on stderr; --traceback shows the whole.
    """
    from django.core.management import execute_from_command_line
    from django.db import InterfaceError, OperationalError, ProgrammingError

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
    try:
        _name_environment(environment)
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, OperationalError, InterfaceError) as error:
        if "--traceback" in sys.argv:
            raise
        sys.stderr.write(f"{_sentence(error)}\n")
        return 2
    except ProgrammingError as error:
        if "--traceback" in sys.argv or getattr(error.__cause__, "sqlstate", None) != UNDEFINED_TABLE:
            raise
        sys.stderr.write("The database has not all tables of this version: run the command `migrate` first.\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _name_environment(environment: str) -> None:
    from controlplane.env import checkout_file, load

    os.environ["CONTROLPLANE_ENV"] = load(checkout_file()).str("CONTROLPLANE_ENV", default=environment)


def _sentence(error: Exception) -> str:
    # libpq adds hints on indented lines; psycopg, when it tried several hosts, a list after the last one's failure.
    text = str(error).partition("\nMultiple connection attempts failed.")[0]
    text = " ".join(line.strip() for line in text.splitlines() if not line.startswith("\t")).removesuffix(".")
    if isinstance(error, ImproperlyConfigured) or hasattr(error, "code"):  # the embedded database's say all themselves
        return f"{text}."
    if getattr(error.__cause__, "sqlstate", None):
        return f"The database stopped the command: {text}."
    return f"The database does not answer: {text}. Check that it runs and that DATABASE_URL is right."


if __name__ == "__main__":
    sys.exit(main())
