from __future__ import annotations

from datetime import UTC, date, datetime
from uuid import UUID

import pytest

from auditing import retention
from auditing.erasing import erase
from auditing.exporting import export
from auditing.models import AuditLog
from auditing.verifying import verify
from controlplane.core import partitions
from controlplane.core.ids import now
from tests.auditing.tampering import execute, seal_all
from tests.auditing.test_exporting import check
from tests.factories import AuditLogFactory

pytestmark = pytest.mark.django_db(transaction=True)

ACME, GLOBEX = UUID(int=0xACE), UUID(int=0x60B)
LONG_AGO = datetime(2022, 5, 3, tzinfo=UTC)


@pytest.fixture
def old():
    """A month of the audit log whose time is over, sealed."""
    log = partitions.PartitionedLog("cp_auditing_auditlog")
    partitions.ensure(log, now(), months=[date(2022, 5, 1)])
    AuditLogFactory.create_batch(
        3, tenant_id=ACME, created_at=LONG_AGO, actor_id="ada", actor_label="Ada", ip="10.0.0.1"
    )
    AuditLogFactory(tenant_id=GLOBEX, created_at=LONG_AGO)
    AuditLogFactory(tenant_id=ACME, actor_id="ada", actor_label="Ada", ip="10.0.0.1")
    seal_all()
    yield
    execute("DROP TABLE IF EXISTS cp_auditing_auditlog_202205")


def test_what_was_erased_by_law_is_verified_still(old, tmp_path):
    assert erase("ada", reason="She asked.", by="tests").rows == 4
    seal_all()

    assert verify().findings == []
    assert execute("SELECT * FROM cp_audit_verify('auditlog')") == []
    export(tenant=ACME, start=LONG_AGO, end=now(), out=tmp_path / "out")
    assert check(tmp_path / "out")[0] == 0
    assert "10.0.0.1" not in (tmp_path / "out" / "auditlog.jsonl").read_text()


def test_what_was_retired_by_rule_is_verified_still(old, tmp_path):
    retention.apply(now(), log="auditlog", reason="Its time is over.")
    assert not AuditLog.objects.filter(created_at__lt=datetime(2023, 1, 1, tzinfo=UTC)).exists()
    seal_all()

    report = verify()

    assert report.findings == []
    assert {report.states["auditlog", tenant, date(2022, 5, 1)] for tenant in (ACME, GLOBEX)} == {"retired"}
    assert execute("SELECT * FROM cp_audit_verify('auditlog')") == []
    export(tenant=ACME, start=LONG_AGO, end=now(), out=tmp_path / "out")
    assert check(tmp_path / "out")[0] == 0
