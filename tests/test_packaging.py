from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from django.template.loader import get_template

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"controlplane", "auditing", "tenants", "catalog", "policies", "storage_meta"}


@pytest.fixture(scope="module")
def packed(wheel):
    """Names of the files in the wheel."""
    return set(zipfile.ZipFile(wheel.file).namelist())


def files_below(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }


def test_the_wheel_has_the_six_packages_and_nothing_beside_them(packed):
    names = {name.split("/")[0] for name in packed}

    assert {name for name in names if not name.endswith(".dist-info")} == PACKAGES
    assert len(names) == len(PACKAGES) + 1


def test_every_file_of_the_packages_and_templates_travels(packed):
    expected = {f"{package}/{name}" for package in PACKAGES for name in files_below(ROOT / package)}
    expected |= {f"controlplane/templates/{name}" for name in files_below(ROOT / "templates")}

    assert {name for name in packed if ".dist-info/" not in name} == expected


def test_templates_are_found_in_the_checkout_and_in_the_wheel(wheel, production):
    code = "from django.template.loader import get_template as g; print(g('503.html').origin.name)"

    installed = wheel.run("controlplane", "shell", "--no-imports", "-c", code, **production())

    assert get_template("503.html").origin.name == str(ROOT / "templates" / "503.html")
    assert installed.stdout.strip().endswith("site-packages/controlplane/templates/503.html"), installed.stderr


def test_the_installed_wheel_checks_itself(wheel, wheel_database, production):
    done = wheel.run("controlplane", "check", **production(wheel_database))

    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def test_the_installed_wheel_is_production_and_starts_no_server(wheel):
    done = wheel.run("controlplane", "migrate")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "set DATABASE_URL" in done.stderr
    assert not (wheel.folder / ".devdb").exists()


def test_every_migration_of_the_installed_wheel_has_sql(wheel, wheel_database, production):
    code = """
from django.core.management import call_command
from django.db.migrations.loader import MigrationLoader
keys = sorted(key for key in MigrationLoader(None).graph.nodes if key[0].startswith("cp_"))
for label, name in keys:
    call_command("sqlmigrate", label, name, stdout=open("/dev/null", "w"))
    call_command("sqlmigrate", label, name, backwards=True, stdout=open("/dev/null", "w"))
print(len(keys))
"""

    done = wheel.run("controlplane", "shell", "--no-imports", "-c", code, **production(wheel_database))

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_the_installed_wheel_migrates_and_then_has_nothing_left_to_do(wheel, wheel_database, production):
    done = wheel.run("controlplane", "migrate", "--check", **production(wheel_database))

    assert done.returncode == 0, done.stdout + done.stderr


def test_static_files_are_collected_with_hashes(wheel, production):
    done = wheel.run("controlplane", "collectstatic", "--noinput", "-v0", **production())

    assert done.returncode == 0, done.stderr
    assert (wheel.folder / "staticfiles" / "staticfiles.json").is_file()
