"""What code and documentation both must know, read from the code: a new thing without a word about it fails here."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.core.management import find_commands, load_command_class
from django.core.management.base import DjangoHelpFormatter

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
COMMON_OPTIONS = {"-h", *DjangoHelpFormatter.show_last}
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
                if reads or (owner == "os.environ" and node.func.attr == "get") or node.func.attr == "getenv":
                    found |= set(constants(node.args[0]))
            elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
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
    """Pairs of a command's name and its app's."""
    return sorted(
        (name, config.name)
        for config in apps.get_app_configs()
        if config.name.split(".")[0] in PACKAGES
        for name in find_commands(str(Path(config.path, "management")))
    )


def check_ids():
    return sorted({found for path in SOURCES for found in CHECK_ID.findall(path.read_text())})


def modules_with_errors():
    """Modules with a class that descends, by name, from ControlPlaneError: imported, so that no test's imports matter."""
    classes = [
        (path, node.name, {ast.unparse(base).split(".")[-1] for base in node.bases})
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    errors, more = set(), {ControlPlaneError.__name__}
    while more != errors:
        errors, more = more, more | {name for _, name, bases in classes if bases & more}
    return {".".join(path.relative_to(ROOT).with_suffix("").parts) for path, name, _ in classes if name in errors}


def error_classes():
    """Every error class of ours, by the module and line it stands on."""
    for module in modules_with_errors():
        import_module(module)
    found, waiting = set(), [ControlPlaneError]
    while waiting:
        error = waiting.pop()
        waiting += error.__subclasses__()
        found.add(error)
    ours = [error for error in found if error.__module__.split(".")[0] in PACKAGES]
    return sorted(ours, key=lambda error: (error.__module__, inspect.getsourcelines(error)[1]))


def page_of_errors():
    text = """# Errors

Every error has a stable `code`, which callers may branch on, and a message for people, which may change. All are
`controlplane.core.errors.ControlPlaneError`. The number is the HTTP status that a web caller should be answered with.

This page is made from the classes: `pytest tests/test_docs.py --update-docs`.
"""
    for error in error_classes():
        own = {
            code: said
            for code, said in error.messages.items()
            if error.__base__.__dict__.get("messages", {}).get(code) != said
        }
        own.setdefault(error.code, "")
        meaning = " ".join(inspect.getdoc(error).split())
        text += f"\n## {error.__name__}\n\n`{error.__module__}`, {error.http_status}. {meaning}\n"
        text += "\n| code | message |\n|---|---|\n" + "".join(f"| `{code}` | {said} |\n" for code, said in own.items())
    return text


def page_of_commands():
    text = """# Commands

`manage.py <command>` in a checkout, `controlplane <command>` from the wheel. Exit codes: 0 done, 1 findings or refused,
2 could not run. Django's own commands (`migrate`, `check`, `shell` …) work as its documentation says.

This page is made from the commands: `pytest tests/test_docs.py --update-docs`.
"""
    for name, app in our_commands():
        parser = load_command_class(app, name).create_parser("manage.py", name)
        text += f"\n## `{name}`\n\n{' '.join((parser.description or '').split())}\n"
        lines = [f"- {words}: {' '.join((action.help or '').split())}\n" for words, action in arguments(parser)]
        text += "\n" + "".join(lines) if lines else ""
    return text


def arguments(parser):
    """What a command takes beyond what every command does: (how it is written, the action)."""
    actions = [action for action in parser._actions if not COMMON_OPTIONS & set(action.option_strings)]
    for subparsers in [action for action in actions if isinstance(action, argparse._SubParsersAction)]:
        helps = {choice.dest: choice for choice in subparsers._choices_actions}
        yield from ((f"`{name}`", helps.get(name, sub)) for name, sub in subparsers.choices.items() if name in helps)
        actions.remove(subparsers)
    for action in actions:
        shown = ", ".join(f"`{option}`" for option in action.option_strings)
        yield shown or f"`{action.metavar or action.dest}`", action


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


@pytest.mark.parametrize(("page", "made"), [("errors.md", page_of_errors), ("commands.md", page_of_commands)])
def test_the_pages_that_are_made_from_the_code_are_up_to_date(page, made, request):
    file = ROOT / "docs" / page
    if request.config.getoption("--update-docs"):
        file.write_text(made())

    assert file.read_text() == made(), "run: pytest tests/test_docs.py --update-docs"


def test_every_command_and_argument_says_what_it_is_for():
    silent = [line for line in page_of_commands().splitlines() if line.startswith("- ") and line.endswith(": ")]

    assert silent == []


@pytest.mark.parametrize("check_id", check_ids())
def test_a_check_is_documented(check_id):
    assert documented(check_id)


def test_no_page_links_to_a_page_that_is_not_there():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []
