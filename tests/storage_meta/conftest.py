from __future__ import annotations

import pytest

from storage_meta.models import Bucket, StorageObject


@pytest.fixture(autouse=True)
def objects_lie_in_a_folder_of_the_test(settings, tmp_path):
    """Whatever a test stores, no other test and no developer finds it."""
    objects = {**settings.STORAGES["objects"]}
    objects["OPTIONS"] = {**objects.get("OPTIONS", {}), "location": str(tmp_path / "objects")}
    settings.STORAGES = {**settings.STORAGES, "objects": objects}


@pytest.fixture
def docs(acme):
    """Acme's bucket docs, versioned, as a handle that is trusted."""
    Bucket.objects.create(tenant=acme, name="docs", versioning=Bucket.Versioning.ENABLED)
    return StorageObject.objects.for_tenant(acme).bucket("docs")


@pytest.fixture
def plain(acme):
    """Acme's bucket plain, unversioned."""
    Bucket.objects.create(tenant=acme, name="plain")
    return StorageObject.objects.for_tenant(acme).bucket("plain")
