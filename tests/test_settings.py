from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from controlplane.env import Env, database, database_name_for_tests, load, local_secret, parse

ROOT = Path(__file__).resolve().parent.parent

ODD_VALUES = [
    "$abc",
    "a$b",
    "a#b",
    "a b",
    "%41",
    'a"b',
    '"quoted"',
    "$$",
    "a\\nb",
    "ünïcode\u2028",
    "${HOME}",
    "x,y",
    "=",
]

PRODUCTION = {
    "CONTROLPLANE_ENV": "production",
    "DATABASE_URL": "postgresql://u:p@h/db",
    "SECRET_KEY": "k9" * 32 + "abcdefgh",
}


@pytest.fixture
def run(tmp_path):
    """Run Python in an environment that holds these variables and an empty .env; returns the finished process."""

    def start(*arguments, stdin=subprocess.DEVNULL, **variables):
        (tmp_path / ".env").touch()
        environment = {"PATH": os.environ["PATH"], "CONTROLPLANE_ENV_FILE": str(tmp_path / ".env")} | variables
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=ROOT,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return start


@pytest.fixture
def settings_of(run):
    """The value of an expression over the settings module, loaded in a process of its own."""

    def load_settings(expression, **variables):
        code = f"import json, controlplane.settings as s; print(json.dumps({expression}, default=str))"
        done = run("-c", code, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return load_settings


# The reader


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_value_of_the_process_comes_through_unchanged(value):
    assert Env({"X": value}).str("X") == value
    assert Env({"X": value}).secret("X") == value


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_single_quoted_value_of_the_file_comes_through_unchanged(value):
    assert parse(f"X='{value}'\n", ".env") == {"X": value}


@pytest.mark.parametrize("value", ODD_VALUES)
def test_a_shell_reads_the_file_as_we_do(value, tmp_path):
    file = tmp_path / ".env"
    file.write_text(f"X='{value}'\n")

    shell = subprocess.run(["sh", "-c", f'. {file}; printf %s "$X"'], capture_output=True, check=True)

    assert shell.stdout.decode() == load(file).str("X")


def test_the_settings_get_a_secret_key_that_begins_with_a_dollar(settings_of):
    key = "$ecret#" + "a%41 b" * 12

    assert settings_of("s.SECRET_KEY", CONTROLPLANE_ENV="test", DATABASE_URL="postgresql://h/d", SECRET_KEY=key) == key


def test_other_lines_of_the_file():
    text = "\ufeff# comment\n\nexport A='1'\nB=\"say \\\"x\\\" for \\$5\"\nC=plain text  \r\n  D=\nE='a\x85b'"

    assert parse(text, ".env") == {"A": "1", "B": 'say "x" for $5', "C": "plain text", "D": "", "E": "a\x85b"}


@pytest.mark.parametrize("line", ["just words", "A B='1'", "A='open", "1A='x'", "A=\"open'"])
def test_a_line_that_cannot_be_read_is_named_by_its_number_and_not_shown(line):
    with pytest.raises(ImproperlyConfigured, match=r"\.env, line 2: ") as refused:
        parse(f"OK='1'\n{line}", ".env")

    assert "open" not in str(refused.value)
    assert "words" not in str(refused.value)


def test_the_process_wins_over_the_file_and_the_file_over_the_default():
    env = Env({"A": "process"}, {"A": "file", "B": "file", "C": ""})

    assert [env.str(name, default="default") for name in "ABC"] == ["process", "file", "default"]


def test_a_variable_without_value_and_default_is_named():
    with pytest.raises(ImproperlyConfigured, match="Set A in the environment"):
        Env({}).str("A")


@pytest.mark.parametrize(("method", "text"), [("int", "12x"), ("int", "-1"), ("int", "1e3"), ("bool", "treu")])
def test_a_bad_value_is_refused_with_its_name_and_text(method, text):
    with pytest.raises(ImproperlyConfigured, match=rf"^PORT is '{text}', but must be "):
        getattr(Env({"PORT": text}), method)("PORT")


def test_a_choice_names_the_choices():
    with pytest.raises(ImproperlyConfigured, match="LOG_FORMAT is 'xml', but must be one of json, text"):
        Env({"LOG_FORMAT": "xml"}).choice("LOG_FORMAT", ["json", "text"], default="json")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("ON", True), ("0", False), ("False", False)])
def test_words_for_yes_and_no(text, value):
    assert Env({"X": text}).bool("X") is value


def test_a_list_loses_blanks_and_empty_words():
    assert Env({"X": "a.org, b.org,,"}).list("X") == ["a.org", "b.org"]


def test_a_secret_may_come_from_a_file(tmp_path):
    (tmp_path / "key").write_text("from the file\n")

    assert Env({"KEY_FILE": str(tmp_path / "key")}).secret("KEY") == "from the file"


def test_a_secret_in_two_places_is_refused_without_showing_it(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="KEY and KEY_FILE are both set") as refused:
        Env({"KEY": "hunter2", "KEY_FILE": "/nowhere"}).secret("KEY")

    assert "hunter2" not in str(refused.value)


def test_a_secret_file_that_is_missing_is_named():
    with pytest.raises(ImproperlyConfigured, match="KEY_FILE: /nowhere/key cannot be read"):
        Env({"KEY_FILE": "/nowhere/key"}).secret("KEY")


def test_keys_with_a_prefix_are_read_as_their_default_says():
    env = Env({"CP_N": "3", "CP_ON": "0", "CP_NETS": "a, b", "CP_PEPPERS": "2:ff,1:aa", "CP_PATH": "x.y", "OTHER": "z"})
    defaults = {"N": 1, "ON": True, "NETS": (), "PEPPERS": {}, "PATH": None, "UNSET": 1}

    read = env.keys("CP_", defaults)

    assert read == {"N": 3, "ON": False, "NETS": ("a", "b"), "PEPPERS": {2: "ff", 1: "aa"}, "PATH": "x.y"}


def test_a_bad_key_is_named_and_not_shown():
    with pytest.raises(ImproperlyConfigured, match=r"^CP_PEPPERS must be ") as refused:
        Env({"CP_PEPPERS": "hunter2:ff"}).keys("CP_", {"PEPPERS": {}})

    assert "hunter2" not in str(refused.value)


def test_a_local_secret_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "secret-key"

    first, second = (local_secret(path, lambda text=text: text) for text in ("first", "second"))

    assert (first, second) == ("first", "first")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret-key"]


def test_a_local_secret_that_cannot_be_made_names_the_way_out(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ImproperlyConfigured, match="set DEVDB_DIR to a directory of your own"):
        local_secret(tmp_path / "file" / "secret-key", lambda: "x")


# The database URL


def test_several_hosts_and_parameters_are_read_as_libpq_reads_them():
    parts = database("DATABASE_URL", "postgresql://u:p%40ss@h1:5432,h2:5433/db?target_session_attrs=read-write")

    assert parts == {
        "NAME": "db",
        "USER": "u",
        "PASSWORD": "p@ss",
        "HOST": "h1,h2",
        "PORT": "5432,5433",
        "OPTIONS": {"target_session_attrs": "read-write"},
    }


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@h/db",
        "host=h password=hunter2",
        "hunter2",
        "postgresql://u:hunter2@h:port/db",
        "postgresql://u:hunter2@h:99999/db",
        "postgresql://u:hunter2%zz@h/db",
        "postgresql://u:hun/hunter2@h/db",
        "postgresql://u:x@hunter2/y@h/db",
        "postgresql://u:hunter2@h",
        "postgresql://",
        "postgresql://u:hunter2@[::1/db",
        "postgresql://u:hunter2@h/db?no_such_parameter=1",
    ],
)
def test_a_broken_url_is_one_sentence_without_the_password(url):
    with pytest.raises(ImproperlyConfigured) as refused:
        database("DATABASE_URL", url)

    message = str(refused.value)
    assert message.startswith("DATABASE_URL ")
    assert "hunter2" not in message
    assert "\n" not in message


def test_test_databases_of_two_checkouts_have_two_names_within_the_limit():
    here, there = (database_name_for_tests("n" * 63, Path(path)) for path in ("/a b", "/c"))

    assert here != there
    assert len(here) == len(there) == 63
    assert database_name_for_tests("controlplane", Path("/a b")).startswith("test_controlplane_")


# The settings module


def test_production_names_all_that_is_missing_in_one_sentence(run):
    done = run("-m", "controlplane", "check", DEBUG="1")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in ("DATABASE_URL", "SECRET_KEY", "DEBUG to 0"))


def test_without_a_word_the_module_means_production_and_makes_no_secret(run, tmp_path):
    done = run("-c", "import controlplane.settings", DEVDB_DIR=str(tmp_path / "devdb"), DATABASE_URL="postgresql://h/d")

    assert "Production does not start yet: set SECRET_KEY" in done.stderr
    assert not (tmp_path / "devdb").exists()


def test_manage_py_means_development_unless_the_file_says_otherwise(run, tmp_path):
    code = (
        "manage.py",
        "shell",
        "--no-imports",
        "-c",
        "from django.conf import settings as s; print(s.CONTROLPLANE_ENV)",
    )
    local = {"DATABASE_URL": "postgresql://h/d", "DEVDB_DIR": str(tmp_path)}

    development = run(*code, **local)
    (tmp_path / ".env").write_text("CONTROLPLANE_ENV='test'\n")
    test = run(*code, **local)

    assert (development.stdout, test.stdout) == ("development\n", "test\n"), development.stderr


def test_development_keeps_its_secrets_in_the_local_directory(settings_of, tmp_path):
    local = {"CONTROLPLANE_ENV": "development", "DATABASE_URL": "postgresql://h/d", "DEVDB_DIR": str(tmp_path)}

    first, second = (settings_of("[s.SECRET_KEY, s.CONTROLPLANE['ENCRYPTION_KEYS']]", **local) for _ in range(2))

    assert first == second
    assert len(first[0]) > 80


def test_serving_has_the_pool_and_short_statements_and_commands_have_neither(settings_of):
    serving, command = (settings_of("s.DATABASES['default']", **PRODUCTION, DB_POOL=pool) for pool in "10")

    assert serving["OPTIONS"]["pool"] == {"min_size": 5, "max_size": 25, "timeout": 5, "max_lifetime": 300}
    assert (serving["CONN_MAX_AGE"], serving["CONN_HEALTH_CHECKS"]) == (0, True)
    assert "-c statement_timeout=15000 -c lock_timeout=5000" in serving["OPTIONS"]["options"]
    assert "pool" not in command["OPTIONS"]
    assert command["CONN_MAX_AGE"] == 300
    assert "-c statement_timeout=900000" in command["OPTIONS"]["options"]


def test_parameters_of_the_url_win_over_ours(settings_of):
    url = "postgresql://h/d?connect_timeout=7&options=-c%20statement_timeout%3D1"

    options = settings_of("s.DATABASES['default']['OPTIONS']", **PRODUCTION | {"DATABASE_URL": url})

    assert options["connect_timeout"] == "7"
    assert options["options"].endswith("-c statement_timeout=1")


def test_behind_pgbouncer_nothing_is_sent_that_it_refuses(settings_of):
    entry = settings_of("s.DATABASES['default']", **PRODUCTION, DB_PGBOUNCER="1")

    assert "options" not in entry["OPTIONS"]
    assert entry["OPTIONS"]["prepare_threshold"] is None
    assert entry["DISABLE_SERVER_SIDE_CURSORS"] is True


def test_a_pool_that_is_smaller_than_its_minimum_is_refused(run):
    done = run("-m", "controlplane", "check", **PRODUCTION, DB_POOL_MAX="2")

    assert (done.returncode, done.stderr) == (2, "DB_POOL_MAX must be at least 1 and not less than DB_POOL_MIN.\n")


def test_a_key_of_the_apps_comes_from_the_environment(settings_of):
    read = settings_of(
        "s.CONTROLPLANE", **PRODUCTION, CP_API_KEY_MAX_SECRETS="3", CP_AUDIT_TRUSTED_PROXIES="10.0.0.0/8"
    )

    assert (read["API_KEY_MAX_SECRETS"], read["AUDIT_TRUSTED_PROXIES"]) == (3, ["10.0.0.0/8"])


def test_sizes_and_times_of_caches_are_read_with_and_without_the_prefix(settings_of):
    read = settings_of(
        "s.CONTROLPLANE", **PRODUCTION, CACHE_MODEL_TTL="7", CACHE_API_KEY_TTL="8", CP_CACHE_API_KEY_TTL="9"
    )

    assert (read["CACHE_MODEL_TTL"], read["CACHE_API_KEY_TTL"]) == (7, 9)
    assert (read["CACHE_MODEL_SIZE"], read["CACHE_API_KEY_SIZE"]) == (500, 1000)


def test_what_waits_for_the_database_lies_beside_it_in_development_and_where_production_says(settings_of):
    dev = {"CONTROLPLANE_ENV": "development", "DATABASE_URL": "postgresql://h/d"}

    assert settings_of("s.CONTROLPLANE['STATE_DIR']", **dev).endswith("/.devdb/state")
    assert settings_of("s.CONTROLPLANE['STATE_DIR']", **PRODUCTION) == ""
    assert settings_of("s.CONTROLPLANE['STATE_DIR']", **PRODUCTION, STATE_DIR="/var/lib/cp") == "/var/lib/cp"


def test_check_deploy_is_clean_with_https_and_full_hsts(run, new_database, production):
    full = {"ALLOWED_HOSTS": "cp.example.org", "HSTS_SECONDS": "31536000", "HSTS_SUBDOMAINS": "1", "HSTS_PRELOAD": "1"}
    full |= {"STATE_DIR": "/var/lib/controlplane", "CP_AUDIT_ANCHORS": "/mnt/elsewhere/anchors"}
    full |= {"CP_AUDIT_SIGNING_KEY": base64.b64encode(bytes(range(32))).decode()}

    # Django 6 asks the database for its version when a model has a generated column.
    at = production(new_database("deploy"))
    done = run("-m", "controlplane", "check", "--deploy", "--fail-level", "WARNING", **at, **full)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues" in done.stdout


# Commands


def test_a_command_without_its_database_is_one_sentence_and_exit_2(run):
    gone = {**PRODUCTION, "DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/db"}

    done = run("-m", "controlplane", "migrate", **gone)
    traced = run("-m", "controlplane", "migrate", "--traceback", **gone)

    assert done.returncode == 2
    assert done.stderr.startswith("The database does not answer: ")
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr + traced.stderr
    assert "Traceback" in traced.stderr


def test_a_broken_url_stops_a_command_with_one_sentence(run):
    done = run("-m", "controlplane", "migrate", **{**PRODUCTION, "DATABASE_URL": "mysql://u:hunter2@h/db"})

    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_URL begins with mysql://, but must be postgresql://")
    assert "hunter2" not in done.stderr


def test_several_hosts_that_do_not_answer_are_one_sentence(run):
    done = run(
        "-m", "controlplane", "migrate", **{**PRODUCTION, "DATABASE_URL": "postgresql://127.0.0.1:1,127.0.0.1:2/db"}
    )

    assert done.stderr.count("\n") == 1
    assert "port 2 failed: Connection refused. Check that it runs" in done.stderr
