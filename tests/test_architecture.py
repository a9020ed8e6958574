from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.db.migrations.loader import MigrationLoader

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["controlplane", "auditing", "tenants", "catalog", "policies", "storage_meta"]
# From the ground up; an app depends on those before it. Django's own apps are below all of them.
FLOORS = ["cp_core", "cp_auditing", "cp_tenants", "cp_catalog", "cp_policies", "cp_storage_meta"]
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def named(path):
    return str(path.relative_to(ROOT))


def imported_modules(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_import_contracts_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_import_hides_inside_a_function(path):
    if path.name in {"apps.py", "__main__.py"}:  # ready() runs when models can load; __main__ names the settings first
        return
    tree = ast.parse(path.read_text())

    hidden = [
        f"line {node.lineno}: {', '.join(imported_modules(node))}"
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert hidden == []


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nobody_listens_to_model_signals(path):
    modules = [name for node in ast.walk(ast.parse(path.read_text())) for name in imported_modules(node)]

    assert "django.db.models.signals" not in modules


def test_only_the_roof_reads_the_settings_of_the_project():
    readers = {
        named(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == "django.conf"
        and path.parts[len(ROOT.parts)] != "controlplane"
    }

    assert readers == set()


def test_every_migration_depends_on_lower_floors_only():
    graph = MigrationLoader(None).graph

    upward = [
        f"{child.key} needs {parent.key}"
        for child in graph.node_map.values()
        if child.key[0] in FLOORS
        for parent in child.parents
        if parent.key[0] in FLOORS and FLOORS.index(parent.key[0]) > FLOORS.index(child.key[0])
    ]

    assert upward == []


def test_no_migration_of_ours_depends_on_an_app_that_a_sibling_may_lack():
    graph = MigrationLoader(None).graph

    foreign = {
        f"{child.key} needs {parent.key}"
        for child in graph.node_map.values()
        if child.key[0] in FLOORS
        for parent in child.parents
        if parent.key[0] not in {*FLOORS, "auth", "contenttypes"}
    }

    assert foreign == set()


def test_every_foreign_key_points_down_or_along():
    upward = [
        str(field)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in FLOORS
        for field in model._meta.get_fields()
        if field.is_relation and field.concrete and field.related_model is not None
        if field.related_model._meta.app_label in FLOORS
        if FLOORS.index(field.related_model._meta.app_label) > FLOORS.index(model._meta.app_label)
    ]

    assert upward == []


def test_no_foreign_key_follows_a_siblings_user_model():
    """Without swappable=False, a migration says AUTH_USER_MODEL where we mean our own User."""
    following = [
        str(field)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in FLOORS
        for field in model._meta.local_fields
        if field.is_relation and field.swappable_setting
        if not model._meta.auto_created
    ]

    assert following == []


def test_labels_are_prefixed_and_on_a_floor():
    ours = {config.label for config in apps.get_app_configs() if config.name.split(".")[0] in PACKAGES}

    assert ours == {*FLOORS, "cp_controlplane"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package):
    assert (ROOT / package / "py.typed").is_file()
