"""`migrate` of several processes at once, as when containers start together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_several_at_once_on_a_fresh_database_all_succeed(new_database):
    at = new_database("at_once")
    variables = {**os.environ, **at, "DATABASE_URL": f"postgresql:///{at['PGDATABASE']}", "CONTROLPLANE_ENV": "test"}
    command = [sys.executable, "manage.py", "migrate", "-v0"]

    running = [
        subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate(timeout=300)[1] for process in running]

    assert [process.returncode for process in running] == [0] * 4, told
    done = subprocess.run([*command, "--check"], cwd=ROOT, env=variables, stdin=subprocess.DEVNULL)
    assert done.returncode == 0
