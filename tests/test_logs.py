from __future__ import annotations

import json
import logging
import sys

import pytest

from controlplane.logs import JsonFormatter, TextFormatter, redact

SECRET = "s3cr3tS3cr3tS3cr3tS3cr3tS3cr3tS3cr3t"


def record(message, *arguments, **extra):
    made = logging.LogRecord("cp.test", logging.WARNING, __file__, 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


@pytest.mark.parametrize(
    "line",
    [
        f"key cpk_live_abcdefABCDEF_{SECRET} refused",
        f"refresh cpr_{SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"{{'Authorization': 'Basic {SECRET}'}}",
        f"postgresql://user:{SECRET}@host/db",
        f"postgresql://user:a:b{SECRET}@host/db?x=1",
        f"password={SECRET}",
        f'{{"db_password": "{SECRET}", "x": 1}}',
        f"secret_hash='{SECRET}'",
        f"api_key = {SECRET}",
        f"Cookie: sessionid={SECRET}",
        f"Set-Cookie: csrftoken=x; sessionid={SECRET}",
        f"using sk-{SECRET}",
    ],
)
def test_a_line_loses_its_secret(line):
    assert SECRET not in redact(line)


def test_what_is_public_stays():
    line = "cpk_live_abcdefABCDEF used 12 prompt_tokens at https://host:8000/path?x=1 by alice@acme.example"

    assert redact(line) == line
    assert redact(f"cpk_test_abcdefABCDEF_{SECRET}") == "cpk_test_abcdefABCDEF"


def test_a_json_line_is_one_object_with_the_fields_of_the_record():
    line = JsonFormatter().format(record("slow %s", "call\nhere", path="/admin/", status=200))

    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("ts").endswith("+00:00")
    assert fields == {
        "level": "WARNING",
        "logger": "cp.test",
        "msg": "slow call\nhere",
        "path": "/admin/",
        "status": "200",
    }


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_traceback_is_redacted_too(formatter):
    made = record("failed")
    try:
        raise ValueError(f"postgresql://u:{SECRET}@h/db")
    except ValueError:
        made.exc_info = sys.exc_info()

    line = formatter.format(made)

    assert "ValueError" in line
    assert SECRET not in line
