from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType

from controlplane.routers import ControlPlaneRouter

router = ControlPlaneRouter()


@pytest.fixture
def tenant_model():
    return apps.get_model("cp_tenants", "Tenant")


def test_our_models_go_to_the_named_alias_and_others_are_left_alone(settings, tenant_model):
    settings.CONTROLPLANE = {"DATABASE": "controlplane"}

    assert router.db_for_read(tenant_model) == router.db_for_write(tenant_model) == "controlplane"
    assert router.db_for_read(ContentType) is None
    assert router.db_for_write(ContentType) is None


def test_a_relation_within_one_database_is_allowed_and_across_two_refused(settings, tenant_model):
    theirs = ContentType()
    theirs._state.db = "default"

    settings.CONTROLPLANE = {"DATABASE": "default"}
    assert router.allow_relation(tenant_model(), theirs) is True
    settings.CONTROLPLANE = {"DATABASE": "controlplane"}
    assert router.allow_relation(tenant_model(), theirs) is False
    assert router.allow_relation(tenant_model(), tenant_model()) is True
    assert router.allow_relation(theirs, theirs) is None


@pytest.mark.parametrize(
    ("conf", "db", "label", "allowed"),
    [
        ({"MIGRATE": True}, "default", "cp_tenants", True),
        ({"MIGRATE": True}, "default", "auth", None),
        ({"MIGRATE": True}, "other", "cp_tenants", False),
        ({}, "default", "cp_tenants", False),
        ({}, "default", "portal", None),
        ({"DATABASE": "controlplane"}, "controlplane", "cp_tenants", False),
        ({"DATABASE": "controlplane"}, "controlplane", "portal", False),
        ({"DATABASE": "controlplane"}, "default", "portal", None),
        ({"DATABASE": "controlplane", "MIGRATE": True}, "controlplane", "cp_tenants", True),
    ],
)
def test_who_migrates_what_where(settings, conf, db, label, allowed):
    settings.CONTROLPLANE = conf

    assert router.allow_migrate(db, label) is allowed
