from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from auditing.models import AuditLog
from storage_meta.models import StorageEvent, StorageHook
from tests.conftest import ROOT
from tests.factories import BucketFactory, StorageEventFactory, StorageHookFactory
from tests.races import together

URL = "https://203.0.114.7/storage"  # an address, so that nothing is looked up


def run(*arguments):
    """What is on stdout."""
    out = StringIO()
    call_command("storage_hook", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def refused(*arguments):
    with pytest.raises(CommandError) as error:
        run(*arguments)
    return error.value.returncode, str(error.value)


def secrets_of(hook):
    return StorageHook.objects.values_list("secrets", flat=True).get(pk=hook.pk).split()


def test_a_hook_is_made_and_its_secret_shown_once(acme):
    docs = BucketFactory(tenant=acme, name="docs")

    made = json.loads(
        run(
            "add", "indexer", URL, "--tenant", acme.slug, "--bucket", "docs", "--prefix", "in/", "--suffix", ".pdf",
            "--event", "s3:ObjectCreated:*", "--event", "s3:ObjectRemoved:*", "--json",
        )
    )  # fmt: skip

    hook = StorageHook.objects.get(tenant=acme)
    assert (hook.name, hook.url, hook.bucket, hook.prefix, hook.suffix) == ("indexer", URL, docs, "in/", ".pdf")
    assert hook.event_types == ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
    assert secrets_of(hook) == [made["secret"]]
    assert made["secret"] not in run("list", "--tenant", acme.slug) + run("list", "--tenant", acme.slug, "--json")
    assert AuditLog.objects.for_object(hook).get().actor_id == "storage_hook"


def test_on_stdout_is_the_secret_alone(acme):
    secret = run("add", "indexer", URL, "--tenant", acme.slug).strip()

    assert secrets_of(StorageHook.objects.get(tenant=acme)) == [secret]


def test_a_rotation_shows_the_new_secret(acme):
    first = run("add", "indexer", URL, "--tenant", acme.slug).strip()

    second = json.loads(run("rotate", "indexer", "--tenant", acme.slug, "--json"))["secret"]

    assert secrets_of(StorageHook.objects.get(tenant=acme)) == [second, first]


def test_a_hook_is_disabled_with_a_reason_and_enabled_again(acme):
    hook = StorageHookFactory(tenant=acme, name="indexer")

    run("disable", "indexer", "--tenant", acme.slug, "--reason", "it is being moved")
    hook.refresh_from_db()
    assert (hook.enabled, hook.disabled_reason) == (False, "it is being moved")

    run("enable", "indexer", "--tenant", acme.slug, "--reason", "moved")
    hook.refresh_from_db()
    assert (hook.enabled, hook.disabled_reason) == (True, "")
    assert set(AuditLog.objects.for_object(hook).values_list("reason", flat=True)) >= {"it is being moved", "moved"}


def test_a_hook_is_removed_with_its_events(acme):
    hook = StorageHookFactory(tenant=acme, name="indexer")
    StorageEventFactory(hook=hook)

    assert "Would remove" in run("remove", "indexer", "--tenant", acme.slug, "--reason", "over", "--dry-run")
    assert StorageHook.objects.filter(tenant=acme).exists()
    run("remove", "indexer", "--tenant", acme.slug, "--reason", "over")

    assert not StorageHook.objects.filter(tenant=acme).exists()
    assert not StorageEvent.objects.filter(tenant=acme).exists()


@pytest.mark.parametrize("action", ["rotate", "enable", "disable", "remove"])
@pytest.mark.parametrize("name", ["theirs", "", "nobody", "a\x00b", "\udcff"])
def test_another_tenants_hook_and_none_are_alike(acme, globex, action, name):
    hook = StorageHookFactory(tenant=globex, name="theirs")
    reason = ["--reason", "why"]

    code, told = refused(action, name, "--tenant", acme.slug, *reason)

    assert (code, f"has no hook {name!r}" in told) in [(2, True), (1, False)]
    assert (code == 2) or name == "\udcff"
    hook.refresh_from_db()
    assert hook.enabled


@pytest.mark.parametrize(
    "arguments",
    [
        ("indexer", "http://203.0.114.7/"),
        ("indexer", "https://127.0.0.1/"),
        ("indexer", "https://0x7f.1/"),
        ("indexer", "https://user:pass@203.0.114.7/"),
        ("indexer", "https://203.0.114.7:22/"),
        ("indexer", "\udcff"),
        ("indexer", ""),
        ("", URL),
        ("a\x00b", URL),
        ("\udcff", URL),
        ("x" * 201, URL),
        ("indexer", URL, "--event", "s3:Nothing"),
        ("indexer", URL, "--event", "\x00"),
        ("indexer", URL, "--prefix", "\udcff"),
        ("taken", URL),
    ],
)
def test_what_no_hook_can_be_is_refused(acme, arguments):
    StorageHookFactory(tenant=acme, name="taken")

    code, told = refused("add", *arguments, "--tenant", acme.slug)

    assert code == 1
    assert "whsec_" not in told
    assert StorageHook.objects.filter(tenant=acme).count() == 1


def test_another_tenants_bucket_is_not_there(acme, globex):
    BucketFactory(tenant=globex, name="theirs")

    assert refused("add", "indexer", URL, "--tenant", acme.slug, "--bucket", "theirs")[0] == 2
    assert refused("add", "indexer", URL, "--tenant", "nobody")[0] == 2


@pytest.mark.django_db(transaction=True)
def test_twice_at_once_one_is_made_and_no_rotation_is_lost(acme):
    def add():
        try:
            return run("add", "indexer", URL, "--tenant", acme.slug).strip()
        except CommandError:
            return None

    [first] = [secret for secret in together(add, add) if secret]
    shown = together(*[lambda: run("rotate", "indexer", "--tenant", acme.slug).strip()] * 2)

    kept = secrets_of(StorageHook.objects.get(tenant=acme))
    assert set(kept) == set(shown)
    assert first not in kept


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_secret_that_nobody_could_be_told_is_not_kept(acme):
    hook = StorageHookFactory(tenant=acme, name="indexer", secrets="whsec_old")
    manage = [sys.executable, ROOT / "manage.py", "storage_hook", "rotate", "indexer", "--tenant", acme.slug]
    at = connection.get_connection_params()
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgresql:///{at['dbname']}",
        "PGHOST": at["host"],
        "PGPORT": str(at.get("port") or 5432),
        "PGUSER": at["user"],
        "PGPASSWORD": at.get("password") or "",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            manage,
            cwd=ROOT,
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )

    assert done.returncode != 0
    assert b"whsec_" not in done.stderr
    assert secrets_of(hook) == ["whsec_old"]
