from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command

from controlplane.core.ids import now
from storage_meta import cleaning
from storage_meta.models import Bucket, StorageAudit, StorageObject, StorageVersion
from tests.factories import BucketFactory, StorageObjectFactory
from tests.races import together

pytestmark = pytest.mark.usefixtures("past_months_are_removed")

FEBRUARY = datetime(2021, 2, 3, tzinfo=UTC)
GARBAGE = ["", " ", "\x00", "\udcff", "'; DROP TABLE x; --", "%s", "caf\u00e9", "x" * 5000]


@pytest.fixture
def run(capsys):
    """Run a command with --json; returns the object that it wrote."""

    def call(*arguments):
        call_command(*map(str, arguments), "--json")
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def said(capsys):
    """Run a command; returns its closing sentence."""

    def call(*arguments):
        call_command(*map(str, arguments))
        return capsys.readouterr().out.strip()

    return call


def refused(*arguments):
    with pytest.raises((CommandError, SystemExit)) as error:
        call_command(*map(str, arguments))
    return error.value


@pytest.fixture
def old(docs):
    """An object of docs whose time is over, and a row of the log in a month of its own."""
    head = StorageObjectFactory(
        bucket=Bucket.objects.get(name="docs"), object_key="old", last_modified=now() - timedelta(days=40)
    )
    Bucket.objects.filter(name="docs").update(expire_days=30)
    docs.log_audit("s3:PutObject", object_key="old", created_at=FEBRUARY)
    return head


# --- storage_retention


def test_what_is_beyond_its_time_goes_and_is_counted(old, run):
    nothing = {"expired": 0, "noncurrent": 0, "markers": 0, "executions": 0, "events": 0, "audits": 0}

    assert run("storage_retention", "--dry-run") == {
        "dry_run": True,
        **nothing,
        "expired": 1,
        "audits": 1,
        "months": [],
    }
    assert StorageObject.objects.live().count() == 1
    assert run("storage_retention") == {"dry_run": False, **nothing, "expired": 1, "audits": 1, "months": ["2021-02"]}
    assert StorageObject.objects.live().count() == 0
    assert run("storage_retention") == {"dry_run": False, **nothing, "months": []}


def test_people_are_told_in_a_sentence(old, said):
    assert said("storage_retention", "--dry-run") == "Would go: 1 objects expired, 1 rows of the access log."
    assert said("storage_retention") == (
        "Went: 1 objects expired, 1 rows of the access log. Months of the access log that were dropped: 2021-02."
    )
    assert said("storage_retention") == "Went: nothing."


def test_either_part_can_be_run_alone(old, run):
    assert (run("storage_retention", "--only", "lifecycle", "--dry-run")["audits"]) == 0
    assert (run("storage_retention", "--only", "log", "--dry-run")["expired"]) == 0
    assert run("storage_retention", "--only", "log", "--days", 36_500)["audits"] == 0


def test_one_tenant_or_one_bucket_alone(acme, globex, old, run):
    theirs = BucketFactory(tenant=globex, name="docs", expire_days=1)
    StorageObjectFactory(bucket=theirs, last_modified=now() - timedelta(days=9))
    BucketFactory(tenant=acme, name="other")

    assert run("storage_retention", "--tenant", "acme", "--bucket", "other")["expired"] == 0
    assert run("storage_retention", "--tenant", "acme", "--bucket", "docs")["expired"] == 1
    assert run("storage_retention", "--tenant", "globex")["expired"] == 1


def test_a_bucket_is_named_with_its_tenant_and_is_there(acme, docs):
    error = refused("storage_retention", "--bucket", "docs")
    assert error.returncode == 1
    assert "--tenant" in str(error)
    assert refused("storage_retention", "--tenant", "acme", "--bucket", "none").returncode == 2
    assert refused("storage_retention", "--tenant", "none").returncode == 2


@pytest.mark.parametrize("days", ["-1", "x", "", "1.5", "36501", "\u0663", "9" * 40])
def test_days_are_a_whole_number(db, days):
    assert "no number of days" in str(refused("storage_retention", f"--days={days}"))


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_in_names_is_refused_in_a_sentence(acme, text):
    for arguments in (("--tenant", text), ("--tenant", "acme", "--bucket", text)):
        error = refused("storage_retention", *arguments)
        assert error.returncode in (1, 2)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_it_once(old):
    outcomes = together(*[lambda: call_command("storage_retention", "--json")] * 2)

    assert outcomes == [None, None]
    assert StorageAudit.objects.filter(action="s3:LifecycleExpiration").count() == 1
    assert not StorageAudit.objects.filter(created_at=FEBRUARY).exists()


@pytest.mark.django_db(transaction=True)
def test_an_interrupted_run_is_gone_on_with(old, run, monkeypatch):
    monkeypatch.setattr(cleaning, "clean", lambda *args, **more: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        call_command("storage_retention")
    monkeypatch.undo()

    row = run("storage_retention")

    assert (row["expired"], row["audits"]) == (0, 1)


# --- storage_hold


@pytest.fixture
def hold(docs):
    docs.put_object("a", b"one")
    return ("storage_hold", "a", "--tenant", "acme", "--bucket", "docs")


def test_a_version_is_held_and_released(docs, hold, run, said):
    row = run(*hold, "--reason", "a lawsuit")

    version = StorageVersion.objects.get()
    assert row == {"key": "a", "version_id": version.version_id, "legal_hold": True, "retain_until": None}
    assert version.legal_hold is True
    told = StorageAudit.objects.get(action="s3:PutObjectLegalHold")
    assert (told.actor_type, told.actor_id, told.metadata["reason"]) == ("command", "storage_hold", "a lawsuit")
    assert said(*hold, "--release") == f"Version {version.version_id} of a is free to go."
    assert said(*hold) == f"Version {version.version_id} of a is held."


def test_an_older_version_is_named_by_its_id(docs, hold, run):
    first = StorageVersion.objects.get()
    docs.put_object("a", b"two")

    run(*hold, "--version-id", first.version_id)

    assert list(StorageVersion.objects.order_by("seq").values_list("legal_hold", flat=True)) == [True, False]


def test_a_version_is_kept_to_a_time_and_an_earlier_one_needs_a_bypass_and_a_reason(hold, run, said):
    assert run(*hold, "--until", "2040-01-31T00:00Z")["retain_until"] == "2040-01-31T00:00:00Z"
    for more in ((), ("--bypass",), ("--reason", "x")):
        assert refused(*hold, "--until", "2039-01-31T00:00Z", *more).returncode == 1

    assert "kept until 2039-01-31 00:00Z" in said(
        *hold, "--until", "2039-01-31T00:00Z", "--bypass", "--reason", "the wrong year"
    )
    assert run(*hold, "--until", "never", "--bypass", "--reason", "over")["retain_until"] is None


def test_what_is_not_there_cannot_be_held(hold, globex):
    command, key, *rest = hold
    assert refused(command, "none", *rest).returncode == 2
    assert refused(*hold, "--version-id", "0" * 32).returncode == 2
    assert refused(command, key, "--tenant", "globex", "--bucket", "docs").returncode == 2
    assert refused(command, key, "--tenant", "acme", "--bucket", "none").returncode == 2


def test_another_tenants_version_is_not_known(hold, globex):
    theirs = StorageObjectFactory(bucket=BucketFactory(tenant=globex))

    assert refused(*hold, "--version-id", theirs.current_version_id.hex).returncode == 2


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_refused_in_a_sentence(hold, text):
    command, key, *rest = hold
    for arguments in (
        (command, text, *rest),
        (*hold, "--version-id", text),
        (*hold, f"--until={text}"),
        (command, key, "--tenant", "acme", "--bucket", text),
    ):
        error = refused(*arguments)
        assert getattr(error, "returncode", 2) in (1, 2)


def test_release_and_until_exclude_each_other(hold):
    assert "not allowed with" in str(refused(*hold, "--release", "--until", "never"))


@pytest.mark.django_db(transaction=True)
def test_two_holds_at_once_are_one(hold):
    assert together(*[lambda: call_command(*hold)] * 2) == [None, None]
    assert StorageVersion.objects.get().legal_hold is True
