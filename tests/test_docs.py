"""What code and documentation both must know, read from the code: a new thing without a word about it fails here."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import find_commands

from controlplane.core.conf import known_keys
from controlplane.core.errors import ControlPlaneError
from controlplane.env import parse

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["controlplane", "auditing", "tenants", "catalog", "policies", "storage_meta"]
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
SETTINGS_PAGE = (ROOT / "docs" / "settings.md").read_text()

READERS = {"str", "int", "bool", "list", "choice", "secret", "secrets"}
NOT_SETTINGS = {"DJANGO_SETTINGS_MODULE", "PATH", "HOME", "USER", "TERM", "NO_COLOR", "XDG_RUNTIME_DIR", "TMPDIR"}
CHECK_ID = re.compile(r"cp_[a-z_]+\.[EWI]\d{3}")


def documented(word):
    """Whether a page names the word, as code: `word` or `word …`."""
    return any(re.search(rf"`(manage\.py |controlplane )?{re.escape(word)}[` ]", page.read_text()) for page in PAGES)


def constants(node):
    """Every text constant in the sources below node."""
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def variables_read():
    """Names that the code reads: env.str("X"), os.environ.get("X"), os.environ["X"], os.getenv("X")."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                owner = ast.unparse(node.func.value)
                reads = (owner.endswith("env") or owner.startswith("load(")) and node.func.attr in READERS
                if reads or (owner.endswith("environ") and node.func.attr == "get") or node.func.attr == "getenv":
                    found |= set(constants(node.args[0]))
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("environ"):
                found |= set(constants(node.slice)) if isinstance(node.ctx, ast.Load) else set()
    return {name for name in found if name.isupper()} - NOT_SETTINGS


def table(heading):
    """Names in the first column of the tables below a heading of docs/settings.md, up to the next heading."""
    section = SETTINGS_PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)}


def documented_variables():
    headings = set(re.findall(r"^## (.+)$", SETTINGS_PAGE, re.MULTILINE)) - {"CONTROLPLANE"}
    return {name for heading in headings for name in table(heading)}


def our_commands():
    return sorted(
        name
        for config in apps.get_app_configs()
        if config.name.split(".")[0] in PACKAGES
        for name in find_commands(str(Path(config.path, "management")))
    )


def check_ids():
    return sorted({found for path in SOURCES for found in CHECK_ID.findall(path.read_text())})


def error_codes():
    """Codes of the error classes: their own, and those they have a message for."""
    for path in SOURCES:
        if path.name == "errors.py":
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    classes, found = [ControlPlaneError], set()
    while classes:
        error = classes.pop()
        classes += error.__subclasses__()
        found |= {error.code, *error.messages}
    return sorted(found - {ControlPlaneError.code})


def test_every_variable_that_is_read_is_documented():
    assert variables_read() - documented_variables() == set()


def test_every_documented_variable_is_read():
    assert documented_variables() - variables_read() == set()


def test_the_keys_of_the_apps_and_the_page_are_the_same():
    assert table("CONTROLPLANE") == known_keys()


def test_the_example_file_can_be_read_and_names_real_variables_only():
    text = (ROOT / ".env.example").read_text()
    with_the_rest = re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE)

    assert set(parse(with_the_rest, ".env.example")) <= documented_variables()


@pytest.mark.parametrize("name", our_commands())
def test_a_command_is_documented(name):
    assert documented(name)


@pytest.mark.parametrize("check_id", check_ids())
def test_a_check_is_documented(check_id):
    assert documented(check_id)


@pytest.mark.parametrize("code", error_codes())
def test_an_error_code_is_documented(code):
    assert documented(code)


def test_no_page_links_to_a_page_that_is_not_there():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []
