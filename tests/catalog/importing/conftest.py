from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.catalog.importing.files import dump


@pytest.fixture
def write(tmp_path):
    """Write a price file of entries, or of bytes as they are; returns its path."""

    def write(entries, name="prices.json"):
        path = tmp_path / name
        path.write_bytes(entries if isinstance(entries, bytes) else dump(entries))
        return str(path)

    return write


@pytest.fixture
def run():
    """Run a command; returns what it says on stdout and on stderr."""

    def run(*arguments):
        out, err = StringIO(), StringIO()
        call_command(*arguments, stdout=out, stderr=err)
        return out.getvalue().strip(), err.getvalue().strip()

    return run


@pytest.fixture
def failed():
    """Run a command that fails; returns its exit code, its sentence (one line), stdout and stderr."""

    def failed(*arguments):
        out, err = StringIO(), StringIO()
        with pytest.raises(CommandError) as caught:
            call_command(*arguments, stdout=out, stderr=err)
        assert "\n" not in str(caught.value)
        return caught.value.returncode, str(caught.value), out.getvalue().strip(), err.getvalue().strip()

    return failed
