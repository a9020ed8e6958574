"""Keys of another gateway: digests that open a key of ours, and the file they come in."""

from __future__ import annotations

import hashlib
import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from auditing.models import AuditLog
from tenants import keyimport, tokens
from tenants.checks import check_foreign_patterns
from tenants.errors import InvalidKey, KeyOperationError
from tenants.models import APIKey, APIKeySecret
from tests.factories import AppFactory, TenantFactory, UserFactory, issue
from tests.races import together

pytestmark = pytest.mark.django_db

TOKEN = "sk-Ab1_Cd2-Ef3_Gh4-Ij5_Kl6"
SHA256 = hashlib.sha256(TOKEN.encode()).hexdigest()
PATTERN = r"sk-[0-9A-Za-z_-]{20,60}"
foreign = override_settings(CONTROLPLANE={"API_KEY_FOREIGN_PATTERNS": (PATTERN,)})
PEPPERS = {1: "11" * 32, 2: "22" * 32}


def code_of(call, *args, **kwargs):
    with pytest.raises(KeyOperationError) as caught:
        call(*args, **kwargs)
    return caught.value.code


def refusal_of(token):
    with pytest.raises(InvalidKey) as caught:
        APIKey.objects.verify(token)
    return caught.value.code


# ---------------------------------------------------------------- a digest that opens a key


def test_an_imported_digest_opens_the_key_for_the_token_that_its_caller_holds(acme_app):
    key = issue(acme_app).key

    secret = key.import_secret(sha256=SHA256, hint="sk-…Kl6", origin="litellm")

    with foreign:
        assert APIKey.objects.verify(TOKEN).key_id == key.pk
    assert (secret.prefix, secret.origin) == ("sk-…Kl6", "litellm")


def test_a_foreign_token_is_not_looked_up_unless_a_pattern_names_it(acme_app, django_assert_num_queries):
    issue(acme_app).key.import_secret(sha256=bytes.fromhex(SHA256))

    with django_assert_num_queries(0):
        assert refusal_of(TOKEN) == "malformed"
        with foreign:
            for near in (TOKEN + "\n", " " + TOKEN, TOKEN[:10], "sk-" + "a" * 300, "sk-é" + "a" * 30):
                assert refusal_of(near) == "malformed"


@override_settings(CONTROLPLANE={"API_KEY_FOREIGN_PATTERNS": (".*",)})
def test_no_pattern_makes_a_damaged_token_of_ours_a_foreign_one(acme_app):
    token = issue(acme_app).token
    damaged = token[:-1] + ("0" if token[-1] != "0" else "1")
    issue(acme_app).key.import_secret(sha256=tokens.sha256(damaged))

    assert refusal_of(damaged) == "malformed"


def test_an_imported_digest_is_peppered_as_one_of_ours(acme_app):
    key = issue(acme_app).key
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": PEPPERS, "API_KEY_FOREIGN_PATTERNS": (PATTERN,)}):
        secret = key.import_secret(sha256=SHA256)

        assert APIKey.objects.verify(TOKEN).key_id == key.pk
    assert secret.hash_version == 2
    assert bytes(secret.digest).hex() != SHA256


@pytest.mark.parametrize("given", ["", "zz", SHA256[:-2], SHA256 + "00", b"short", 7])
def test_what_is_no_sha256_is_refused(acme_app, given):
    assert code_of(issue(acme_app).key.import_secret, sha256=given) == "bad_digest"
    assert APIKeySecret.objects.count() == 1


def test_a_digest_opens_one_key_only_whatever_pepper_it_has(acme_app):
    first, second = issue(acme_app).key, issue(acme_app).key
    first.import_secret(sha256=SHA256)

    assert code_of(second.import_secret, sha256=SHA256) == "duplicate_secret"
    with override_settings(CONTROLPLANE={"API_KEY_PEPPERS": PEPPERS}):
        assert code_of(second.import_secret, sha256=SHA256) == "duplicate_secret"


@pytest.mark.django_db(transaction=True)
def test_of_two_imports_of_a_digest_at_once_one_wins(acme_app):
    keys = [issue(acme_app).key for _ in range(4)]

    done = together(*(lambda key=key: key.import_secret(sha256=SHA256) for key in keys))

    assert sum(isinstance(one, APIKeySecret) for one in done) == 1
    assert {one.code for one in done if not isinstance(one, APIKeySecret)} == {"duplicate_secret"}


def test_a_revoked_key_takes_no_secret_and_no_key_takes_more_than_its_number(acme_app):
    key, full = issue(acme_app).key, issue(acme_app).key
    key.revoke("gone")
    for n in range(4):
        full.import_secret(sha256=hashlib.sha256(bytes([n])).digest())

    assert code_of(key.import_secret, sha256=SHA256) == "revoked"
    assert code_of(full.import_secret, sha256=SHA256) == "too_many_live_secrets"


def test_a_hint_shows_no_token_and_is_short(acme_app):
    key = issue(acme_app).key

    assert code_of(key.import_secret, sha256=SHA256, hint="x" * 33) == "too_large"
    assert code_of(key.import_secret, sha256=SHA256, hint="cpk_live_0123456789ab_01234567") == "contains_token"


@pytest.mark.parametrize("pattern", ["(", "cpk_.*", "cpr_.*", "[a-z_0-9A-Z]+", "[a-z]{3}_[0-9A-Za-z]{49}"])
def test_a_pattern_that_is_none_or_matches_ours_is_told(pattern):
    with override_settings(CONTROLPLANE={"API_KEY_FOREIGN_PATTERNS": (pattern,)}):
        assert [error.id for error in check_foreign_patterns(None)] == ["cp_tenants.E002"]
    with foreign:
        assert list(check_foreign_patterns(None)) == []


# ---------------------------------------------------------------- a file of them


@pytest.fixture
def home(acme_app):
    UserFactory(tenant=acme_app.tenant, email="dev@acme.example")
    return acme_app.tenant


@pytest.fixture
def write(tmp_path):
    def write(text, name="keys.jsonl"):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else "\n".join(json.dumps(row) for row in text))
        return path

    return write


def row(**fields):
    return {"tenant": "acme", "app": "chat", "name": "Checkout", "sha256": SHA256} | fields


def run(*arguments):
    out, err = StringIO(), StringIO()
    call_command("keys_import", *map(str, arguments), stdout=out, stderr=err)
    return out.getvalue().strip()


def test_a_file_is_shown_first_and_imported_when_told(home, write):
    path = write([row(user="DEV@acme.example", scopes=["chat"], tags=["moved"], allowed_models=[], hint="sk-…Kl6",
                      expires_at="2099-01-01T00:00Z", metadata={"team": 7})])  # fmt: skip

    assert run(path, "--origin", "litellm") == "1 keys would be imported. Make them with --apply."
    assert APIKey.objects.count() == 0
    assert run(path, "--origin", "litellm", "--apply") == "Imported 1 keys."

    key = APIKey.objects.get()
    assert (key.name, key.user.email, key.scopes, key.tags) == ("Checkout", "dev@acme.example", ["chat"], ["moved"])
    assert (key.allowed_models, key.expires_at.year, key.metadata) == (None, 2099, {"team": 7})
    assert [secret.prefix for secret in key.secrets.all()] == ["sk-…Kl6"]
    with foreign:
        assert APIKey.objects.verify(TOKEN, scope="chat").key_id == key.pk
    audited = AuditLog.objects.get(resource_type="cp_tenants_apikey", action="create")
    assert (audited.actor_type, audited.reason) == ("command", "imported from litellm")


def test_the_same_file_again_makes_nothing(home, write):
    path = write([row()])
    run(path, "--origin", "litellm", "--apply")

    assert run(path, "--origin", "litellm", "--apply") == "0 keys would be imported. 1 are known already."
    assert APIKey.objects.count() == 1


def test_csv_is_read_with_lists_separated_by_blanks(home, write):
    path = write(
        f'tenant,app,name,sha256,scopes,metadata,expires_at\nacme,chat,Öl,{SHA256.upper()},chat embed,"{{""a"": 1}}",\n',
        "keys.csv",
    )

    assert run(path, "--origin", "portkey", "--apply") == "Imported 1 keys."
    key = APIKey.objects.get()
    assert (key.name, key.scopes, key.metadata, key.expires_at) == ("Öl", ["chat", "embed"], {"a": 1}, None)


FAULTS = [
    ({"tenant": "nobody"}, "no tenant 'nobody'"),
    ({"app": "lab"}, "no app 'lab'"),
    ({"app": 7}, "app: it is needed, as text."),
    ({"user": "nobody"}, "no user 'nobody'"),
    ({"branch": "X"}, "no branch 'X'"),
    ({"name": " "}, "name: it is needed"),
    ({"sha256": "xyz"}, "This is no SHA-256"),
    ({"colour": "red"}, "colour: there is no such field"),
    ({"scopes": "chat"}, "scopes: it is no list"),
    ({"scopes": ["Not good"]}, "A scope has lower-case"),
    ({"expires_at": "soon"}, "expires_at: 'soon' is no time"),
    ({"expires_at": "2099-01-01"}, "This time has no time zone"),
    ({"expires_at": "2001-01-01T00:00Z"}, "This end lies in the past"),
    ({"environment": "prod"}, "An environment is live or test."),
    ({"metadata": []}, "metadata: it is no JSON object."),
    ({"metadata": {"a": "\0"}}, "NUL"),
    ({"hint": 5}, "hint: it is no text."),
    *(({field: "\0"}, "NUL") for field in ("tenant", "app", "name", "user", "branch", "hint", "environment")),
    ({"name": "\ud800"}, "half a character"),
    ({"tenant": "\ud800"}, "half a character"),
    ({"tags": ["\0"]}, "NUL"),
    ({"tags": ["x" * 65]}, "a tag has 65"),
    ({"allowed_models": ["x" * 266]}, "a model has 266"),
    ({"expires_at": "9999-12-31T23:59:59-12:00"}, "the years 2 to 9998"),
    ({"not_before": "0001-01-01T00:00+14:00"}, "the years 2 to 9998"),
    ({"name": "cpk_live_0123456789ab_01234567"}, "holds a token"),
]


@pytest.mark.parametrize(("fields", "told"), FAULTS, ids=[f"{next(iter(f))}-{n}" for n, (f, _) in enumerate(FAULTS)])
def test_a_row_with_a_fault_is_named_by_its_line_and_nothing_is_imported(home, write, fields, told):
    path = write([row(sha256=hashlib.sha256(b"good").hexdigest()), row(**fields)])
    err = StringIO()

    with pytest.raises(CommandError) as refused:
        call_command("keys_import", str(path), "--origin", "litellm", "--apply", stdout=StringIO(), stderr=err)

    assert refused.value.returncode == 1
    assert err.getvalue().startswith("line 2: ")
    assert told in err.getvalue()
    assert "cpk_live_0123456789ab_" not in err.getvalue()
    assert APIKey.objects.count() == 0


def test_another_tenants_user_and_app_are_not_found(home, write):
    globex = TenantFactory(slug="globex")
    AppFactory(tenant=globex, slug="lab")
    UserFactory(tenant=globex, email="outsider@globex.example")

    plan = keyimport.plan(write([row(app="lab"), row(user="outsider@globex.example")]), "litellm")

    assert [fault.line for fault in plan.faults] == [1, 2]


def test_a_digest_that_is_twice_in_the_file_is_a_fault(home, write):
    plan = keyimport.plan(write([row(), row(name="Again")]), "litellm")

    assert [(fault.line, fault.fault) for fault in plan.faults] == [(2, "sha256: the same as in line 1.")]
    assert code_of(plan.apply) == "bad_import"


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}\n7', "\udcff", "[" * 100_000])
def test_what_cannot_be_read_is_refused_in_a_sentence(home, tmp_path, text):
    path = tmp_path / "keys.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))

    assert code_of(keyimport.plan, path, "litellm") == "bad_import" if text != '{"a": 1}' else True
    assert code_of(keyimport.plan, tmp_path / "missing.csv", "litellm") == "bad_import"
    assert code_of(keyimport.plan, path, "x" * 33) == "too_large"


def test_a_digest_that_came_between_plan_and_apply_undoes_all(home, write):
    other = hashlib.sha256(b"other").hexdigest()
    plan = keyimport.plan(write([row(sha256=other), row(name="Second")]), "litellm")
    issue(home.apps.get()).key.import_secret(sha256=SHA256)

    assert code_of(plan.apply) == "bad_import"
    assert APIKey.objects.count() == 1


def test_a_script_reads_the_plan_as_json(home, write):
    path = write([row(), row(app="lab", sha256="00" * 32)])
    out = StringIO()

    with pytest.raises(CommandError):
        call_command("keys_import", str(path), "--origin", "litellm", "--json", stdout=out, stderr=StringIO())

    told = json.loads(out.getvalue())
    assert (told["new"], told["known"], told["made"], told["faults"][0]["line"]) == (1, 0, 0, 2)
