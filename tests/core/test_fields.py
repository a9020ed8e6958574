from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import override_settings

from tenants.models import Tenant

pytestmark = pytest.mark.django_db
DSN = "postgresql://acme:hunter2@db.example/acme"
OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))


def keys(*given):
    return override_settings(CONTROLPLANE={"ENCRYPTION_KEYS": given})


def stored(tenant):
    with connection.cursor() as cursor:
        cursor.execute("SELECT db_dsn FROM cp_tenants_tenant WHERE id = %s", [tenant.pk])
        return cursor.fetchone()[0]


def test_the_column_holds_no_part_of_the_text(acme):
    with keys(NEW):
        Tenant.objects.filter(pk=acme.pk).update(db_dsn=DSN)

        assert "hunter2" not in stored(acme)
        assert "acme" not in stored(acme)
        assert Tenant.objects.get(pk=acme.pk).db_dsn == DSN
        assert list(Tenant.objects.filter(pk=acme.pk).values_list("db_dsn", flat=True)) == [DSN]


def test_the_same_text_is_stored_differently_each_time(acme, globex):
    with keys(NEW):
        Tenant.objects.update(db_dsn=DSN)
        acme.db_dsn = globex.db_dsn = DSN
        acme.save()
        globex.save()

        assert stored(acme) != stored(globex)


def test_an_empty_text_stays_empty(acme):
    assert stored(acme) == ""
    assert Tenant.objects.get(pk=acme.pk).db_dsn == ""


def test_an_older_key_still_reads_and_the_newest_writes(acme):
    with keys(OLD):
        Tenant.objects.filter(pk=acme.pk).update(db_dsn=DSN)
    with keys(NEW, OLD):
        acme.refresh_from_db()
        assert acme.db_dsn == DSN
        acme.save()
    with keys(NEW):
        acme.refresh_from_db()
        assert acme.db_dsn == DSN


def test_a_value_whose_key_is_gone_is_an_error_that_tells_the_field_and_no_text(acme):
    with keys(OLD):
        Tenant.objects.filter(pk=acme.pk).update(db_dsn=DSN)

    with keys(OTHER), pytest.raises(ImproperlyConfigured, match=r"Tenant\.db_dsn") as caught:
        acme.refresh_from_db()

    assert "hunter2" not in str(caught.value)
    assert stored(acme) not in str(caught.value)


def test_without_keys_no_secret_is_stored(acme):
    with keys(), pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS"):
        Tenant.objects.filter(pk=acme.pk).update(db_dsn=DSN)


def test_the_time_of_change_is_set_by_the_database(acme):
    before = Tenant.objects.get(pk=acme.pk).updated_at

    Tenant.objects.filter(pk=acme.pk).update(name="New", updated_at="2001-01-01T00:00Z")

    assert Tenant.objects.get(pk=acme.pk).updated_at > before


def test_a_change_of_nothing_leaves_the_time(acme):
    before = Tenant.objects.get(pk=acme.pk).updated_at

    Tenant.objects.filter(pk=acme.pk).update(name=acme.name)

    assert Tenant.objects.get(pk=acme.pk).updated_at == before
