from __future__ import annotations

import pytest
from django.core import checks
from django.db import connection

from tests.factories import BucketFactory

MEMORY = {"BACKEND": "django.core.files.storage.InMemoryStorage"}


def found(**options):
    return [error for error in checks.run_checks(**options) if error.id == "cp_storage_meta.E001"]


def test_the_projects_own_storage_is_in_order():
    assert found(include_deployment_checks=True) == []


def test_an_alias_that_is_not_configured_is_told_whatever_else_there_is(settings):
    settings.STORAGES = {"default": MEMORY}

    [error] = found()

    assert "'objects'" in error.msg
    assert "STORAGES['objects']" in error.hint


def test_the_alias_is_the_one_of_the_setting(settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STORAGE_ALIAS": "attic"}

    [error] = found()

    assert "'attic'" in error.msg


@pytest.mark.parametrize("location", [None, ""])
def test_files_without_a_folder_of_their_own_are_told_at_deployment(settings, location):
    files = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": location}}
    settings.STORAGES = {**settings.STORAGES, "objects": files}

    [error] = found(include_deployment_checks=True)

    assert "no folder" in error.msg
    assert "STATE_DIR" in error.hint


def test_a_storage_that_cannot_be_made_is_told_at_deployment(settings):
    settings.STORAGES = {**settings.STORAGES, "objects": {"BACKEND": "nowhere.Storage"}}

    [error] = found(include_deployment_checks=True)

    assert "cannot be made" in error.msg


@pytest.mark.django_db
def test_an_alias_that_a_bucket_names_is_told_with_the_database(settings):
    settings.STORAGES = {**settings.STORAGES, "shed": MEMORY}
    for alias in ("attic", "attic", "shed", ""):
        BucketFactory(storage=alias)

    [error] = found(databases=[connection.alias])

    assert "'attic', which buckets name" in error.msg
    assert found() == []
