"""docs/five-minutes.md and README.md, done as they say, against the test database."""

from __future__ import annotations

import doctest
import io
import re
import shlex
from pathlib import Path

import pytest
from django.core.management import call_command
from django.urls import reverse

from controlplane.core.ids import now
from controlplane.demo.seeding import seed
from tenants.models import User

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CAPTURED = re.compile(r"export (\w+)=\$\((.*)\)")
OTHERWISE = {"make up", ". .venv/bin/activate"}  # tests/test_up.py does the first; the second finds what runs here


def blocks(page):
    """(language, text) of each block of code on a page."""
    return BLOCK.findall((ROOT / page).read_text())


def run(line):
    """Run one `python manage.py …`; returns what it writes on stdout."""
    python, manage, command, *arguments = shlex.split(line)
    assert (python, manage) == ("python", "manage.py")
    written = io.StringIO()
    call_command(command, *arguments, stdout=written, stderr=io.StringIO())
    return written.getvalue()


class Reader:
    """Does what a page says, from top to bottom: its commands, and its session in one shell."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.names = {"__name__": "__console__"}
        self.said = []

    def follow(self, page):
        for language, text in blocks(page):
            {"sh": self.commands, "python": self.session}[language](text)

    def commands(self, text):
        for line in text.splitlines():
            captured = CAPTURED.fullmatch(line)
            if captured:
                self.monkeypatch.setenv(captured[1], run(captured[2]).strip())
            elif line not in OTHERWISE:
                self.said.append(run(line))

    def session(self, text):
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        told = []
        shell = doctest.DocTest(doctest.DocTestParser().get_examples(text), self.names, "page", "page", 0, text)
        doctest.DocTestRunner(verbose=False, optionflags=flags).run(shell, out=told.append, clear_globs=False)
        self.names = shell.globs
        assert not told, "".join(told)


@pytest.fixture
def demo(db):
    seed(now())


def test_the_first_five_minutes_are_as_the_page_says(demo, client, monkeypatch):
    reader = Reader(monkeypatch)

    reader.follow("docs/five-minutes.md")

    listed, limited, explained, sealed, verified = reader.said[2:]
    assert reader.names["token"][:21] in listed
    assert "0.01" in limited
    assert "allowed" in explained
    assert "Checkpoint 1" in sealed
    assert "auditlog: 1 months of tenants pending" in verified
    client.force_login(User.objects.create_superuser("kim@example.org"))
    dashboard = client.get(reverse("controlplane:dashboard"), {"tenant": "acme", "window": "24h"})
    log = client.get(reverse("admin:cp_auditing_auditlog_changelist"))
    assert "1,280" in dashboard.content.decode()
    assert "our contracts name two providers" in log.content.decode()
