"""One corpus through both twins: auditing.redaction and the SQL functions of the triggers."""

from __future__ import annotations

import json
from functools import partial

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditing.redaction import REDACTED, clean, names_a_secret, redact, redact_text
from tenants import tokens

KEY = tokens.new_key("live", kid="0123456789ab", secret=b"\x01" * 32).token
REFRESH = "cpr_" + KEY[22:]
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
OPENAI = "sk-proj-abcdefghijklmnop1234"
GITHUB = "ghp_" + "a1B2" * 9
AWS, GOOGLE = "AKIAIOSFODNN7EXAMPLE", "AIza" + "a_-1B" * 7

# text → what is left of it
TEXTS = {
    KEY: "cpk_live_0123456789ab" + REDACTED,
    f"key={KEY}.": f"key=cpk_live_0123456789ab{REDACTED}.",
    f"old_{KEY}_backup": f"old_cpk_live_0123456789ab{REDACTED}_backup",
    f"{KEY}{KEY}": f"cpk_live_0123456789ab{REDACTED}" * 2,
    REFRESH: REDACTED,
    f"x{REFRESH}x": f"x{REDACTED}x",
    PEM: REDACTED,
    f"a {PEM} b {PEM} c": f"a {REDACTED} b {REDACTED} c",
    "-----BEGIN PRIVATE KEY-----\ncut off": REDACTED,
    "Authorization: Bearer abcdefgh12345678": f"Authorization: Bearer {REDACTED}",
    "bearer\tabcdefgh": f"bearer {REDACTED}",
    "BASIC dXNlcjpwYXNz": f"BASIC {REDACTED}",
    f"({OPENAI})": f"({REDACTED})",
    f"_{OPENAI}": f"_{REDACTED}",
    f"token {JWT}!": f"token {REDACTED}!",
    f"aws_{AWS}_x": f"aws_{REDACTED}_x",
    f"{GOOGLE} and {GITHUB}": f"{REDACTED} and {REDACTED}",
    "postgresql://acme:hunter2@db.example/acme": f"postgresql://acme:{REDACTED}@db.example/acme",
    "redis://:hunter2@cache": f"redis://:{REDACTED}@cache",
    "amqp://u:p@ss:w@rd@host/v": f"amqp://u:{REDACTED}@host/v",
    # left as they are
    "": "",
    "prompt_tokens": "prompt_tokens",
    "cpk_live_0123456789ab": "cpk_live_0123456789ab",
    "risk-assessment-of-large-models": "risk-assessment-of-large-models",
    "the bearer of this letter": "the bearer of this letter",
    "basic training": f"basic {REDACTED}",  # eight letters: what looks like a secret goes
    "http://host:8080/users/a@b.example": "http://host:8080/users/a@b.example",
    "https://example.org/path?x=1": "https://example.org/path?x=1",
    "mail ada@example.org": "mail ada@example.org",
    "sk-short": "sk-short",
    "ASIA is a continent": "ASIA is a continent",
    "日本語 · naïve · 😀": "日本語 · naïve · 😀",
}
SECRET_NAMES = [
    "password", "Password", "db_password", "passwd", "client_secret", "secret", "token", "access_token", "refresh-token",
    "private_key", "privateKey", "api_key", "apikey", "API_KEY", "credential", "credentials", "authorization", "Cookie",
    "password_hash", "token_hash", "x-api_key", "cost_token", "input_cost_per_token_secret",
]  # fmt: skip
PLAIN_NAMES = [
    "prompt_tokens", "api_key_id", "tokens", "secrets", "passwords", "tokenizer", "key", "keys", "", "name", "secret_id",
    "password_changed_at", "cookies", "token\n", "hash", "input_cost_per_token", "output_cost_per_reasoning_token",
]  # fmt: skip


def in_sql(function, *arguments):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}({', '.join(['%s'] * len(arguments))})", arguments)
        return cursor.fetchone()[0]


@pytest.mark.django_db
@pytest.mark.parametrize(("text", "left"), TEXTS.items())
def test_a_text_loses_its_secrets_in_both_languages_alike(text, left):
    assert redact_text(text) == left
    assert in_sql("cp_redact_text", text) == left


@pytest.mark.django_db
@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_of_a_secret_is_known_in_both_languages(name):
    assert names_a_secret(name)
    assert in_sql("cp_names_a_secret", name) is True


@pytest.mark.django_db
@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_a_plain_name_is_left_in_both_languages(name):
    assert not names_a_secret(name)
    assert in_sql("cp_names_a_secret", name) is False


VALUES = [
    None, True, 0, 1.5, "", KEY, [], {},
    {"password": "x"}, {"password": None}, {"password": 5}, {"password": {"deep": "x"}}, {"password": ["x"]},
    {"a": [{"b": {"client_secret": "x", "note": KEY}}], "c": [KEY, 1, None]},
    {"digest": "abc", "other": "abc"}, {"inner": {"digest": "abc"}},
    [[[["Bearer abcdefgh"]]]], {"prompt_tokens": 5, "api_key_id": "x", "token": "y"}, {"": "x"}, {"x y": KEY},
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_loses_its_secrets_at_any_depth_in_both_languages_alike(value):
    in_python = redact(value, ["digest"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_redact(%s::jsonb, ARRAY['digest'])", [json.dumps(value)])
        [text] = cursor.fetchone()

    assert (json.loads(text) if isinstance(text, str) else text) == in_python
    told = json.dumps(in_python)
    assert KEY[22:] not in told


def test_redaction_twice_is_redaction_once():
    for text in TEXTS:
        assert redact_text(redact_text(text)) == redact_text(text)


pieces = st.sampled_from(
    [
        *TEXTS,
        " ",
        "\n",
        "\t",
        ":",
        "@",
        "/",
        "://",
        "_",
        "-",
        ".",
        "Bearer ",
        "sk-",
        "eyJ",
        "AKIA",
        "-----BEGIN PRIVATE KEY-----",
        "a",
        "é",
    ]
)
awkward = st.lists(
    pieces | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6), max_size=6
)


@pytest.mark.django_db
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(awkward.map("".join))
def test_the_twins_agree_on_anything(text):
    assert in_sql("cp_redact_text", text) == redact_text(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | awkward.map("".join),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SECRET_NAMES, "a", "b", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.django_db
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_the_twins_agree_on_any_json(value):
    with connection.cursor() as cursor:
        cursor.execute("SELECT cp_redact(%s::jsonb)::text", [json.dumps(value)])
        assert json.loads(cursor.fetchone()[0]) == redact(value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\x00b", "a�b"),
        ("a\ud800b", "a�b"),
        ("\udcff", "�"),
        ("\ud83d\ude00", "😀"),
        ("plain", "plain"),
        ("naïve", "naïve"),
        (f"\x00{KEY}", f"�cpk_live_0123456789ab{REDACTED}"),
    ],
)
def test_text_is_made_fit_for_the_database(text, left):
    assert clean(text) == left
    assert clean(clean(text)) == left
    left.encode()


@given(st.text())
def test_any_text_can_be_made_fit(text):
    assert "\x00" not in clean(text)
    clean(text).encode()


def test_what_is_no_json_is_left():
    thing = partial(print)

    assert redact(thing) is thing
    assert redact((1, KEY)) == [1, redact_text(KEY)]


@pytest.mark.django_db
def test_a_watched_row_loses_whatever_the_twins_know():
    values = [
        *VALUES,
        *TEXTS,
        *({name: "x"} for name in SECRET_NAMES),
        *({"deep": [{name: "x"}]} for name in SECRET_NAMES),
    ]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE cp_thing (id int PRIMARY KEY, value jsonb)")
        cursor.execute("SELECT cp_audit_watch('cp_thing')")
        cursor.executemany(
            "INSERT INTO cp_thing VALUES (%s, %s::jsonb)", [(n, json.dumps(value)) for n, value in enumerate(values)]
        )
        cursor.execute(
            "SELECT resource_id, after -> 'value' FROM cp_auditing_auditlog WHERE resource_type = 'cp_thing'"
        )
        told = {int(n): json.loads(text) if isinstance(text, str) else text for n, text in cursor.fetchall()}

    assert [told[n] for n in range(len(values))] == [redact(value) for value in values]
