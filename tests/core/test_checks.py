from __future__ import annotations

import sys
from types import ModuleType

import pytest
from django.core.checks import run_checks

from controlplane.core.checks import Server, check_database, check_installation, faults_of, read_server


def ids(found):
    return {message.id for message in found}


def test_this_project_is_installed_as_it_should_be(db):
    assert (
        ids(run_checks(databases=["default"])) & {"cp_core.E001", "cp_core.E002", "cp_core.E003", "cp_core.E006"}
        == set()
    )


def test_a_package_of_the_project_that_hides_ours_is_named(tmp_path, monkeypatch):
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "__init__.py").write_text("")
    fake = ModuleType("catalog")
    fake.__spec__ = __import__("importlib.machinery", fromlist=["x"]).ModuleSpec(
        "catalog", None, origin=str(tmp_path / "catalog" / "__init__.py")
    )
    monkeypatch.setitem(sys.modules, "catalog", fake)

    [error] = [message for message in check_installation(None) if message.id == "cp_core.E001"]

    assert str(tmp_path) in error.msg


def test_an_app_under_another_label_is_named(monkeypatch):
    from django.apps import apps

    monkeypatch.setattr(apps.get_app_config("cp_catalog"), "label", "catalog")

    assert "cp_core.E002" in ids(check_installation(None))


def test_an_alias_that_is_not_there_is_named(settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "DATABASE": "elsewhere"}

    [error] = [message for message in check_installation(None) if message.id == "cp_core.E003"]

    assert "elsewhere" in error.msg


def test_a_key_that_nothing_reads_is_named(settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "API_KEY_PEPER": {}}

    [error] = [message for message in check_installation(None) if message.id == "cp_core.E006"]

    assert "API_KEY_PEPER" in error.msg
    assert "API_KEY_PEPPERS" in error.hint


def server(**facts):
    sound = {"version": 180_006, "encoding": "UTF8", "endless": False, "above": False, "creates": True, "enters": True}
    return Server(**{**sound, "roles": frozenset({"cp_tenant", "cp_reader"}), **facts})


def test_the_database_of_the_tests_is_read_as_it_is(db):
    found = read_server("default")

    assert found.version >= 150_000
    assert found.encoding == "UTF8"
    assert {"cp_tenant", "cp_reader"} <= found.roles
    assert ids(faults_of(found)) - {"cp_core.W007", "cp_core.W008"} == set()


@pytest.mark.parametrize("facts", [{"version": 140_011}, {"encoding": "LATIN1"}])
def test_an_old_server_and_another_encoding_are_refused(facts):
    assert ids(faults_of(server(**facts))) == {"cp_core.E005"}


def test_missing_roles_are_an_error_only_for_a_login_that_may_not_make_them():
    [error] = faults_of(server(creates=False, roles=frozenset({"cp_tenant"})))

    assert error.id == "cp_core.E004"
    assert "CREATE ROLE cp_reader NOLOGIN" in error.hint
    assert list(faults_of(server(roles=frozenset()))) == []


def test_a_login_that_may_not_enter_the_role_of_a_tenant_is_told_what_to_ask_for():
    [error] = faults_of(server(creates=False, enters=False))

    assert error.id == "cp_core.E004"
    assert "GRANT cp_tenant" in error.hint


def test_statements_without_a_limit_and_a_login_above_row_security_are_warned_of():
    assert ids(faults_of(server(endless=True, above=True))) == {"cp_core.W007", "cp_core.W008"}


def test_nothing_is_asked_of_a_database_that_was_not_named(db, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert list(check_database(None, databases=[])) == []


@pytest.mark.parametrize(("poll", "lease"), [(1, 6), (5, 5), (6, 5), (0, 5), (1, 3), (1, 0)])
def test_a_lease_that_would_let_a_stopped_key_live_is_refused(settings, poll, lease):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "CACHE_POLL": poll, "CACHE_LEASE": lease}

    assert "cp_core.E201" in ids(check_installation(None))


@pytest.mark.parametrize(("poll", "lease"), [(1, 5), (4, 5), (0.5, 3.5)])
def test_a_lease_that_keeps_the_bound_is_taken(settings, poll, lease):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "CACHE_POLL": poll, "CACHE_LEASE": lease}

    assert "cp_core.E201" not in ids(check_installation(None))


@pytest.mark.parametrize("key", ["CACHE_API_KEY_SIZE", "CACHE_MODEL_TTL", "CACHE_NEGATIVE_SIZE", "CACHE_MAX_LOADS"])
def test_a_cache_without_room_is_refused(settings, key):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, key: 0}

    [error] = [message for message in check_installation(None) if message.id == "cp_core.E202"]

    assert error.msg.startswith(f"{key} is 0")
