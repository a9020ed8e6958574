from __future__ import annotations

import math

import pytest

from policies.merging import FIELDS
from policies.schemas import SCHEMAS, ScheduleConfig, problems, stored_config_is_valid

REQUESTS = {"metric": "requests", "window": "1m", "limit": 10}
MONTHLY = {"window": "month", "limit": "50.00"}
PII = {"stages": ["input"]}


def nested(depth: int) -> dict:
    found: dict = {}
    for _ in range(depth - 1):
        found = {"x": found}
    return found


def codes(policy_type: str, config: object) -> list[tuple[str, str]]:
    return [(path, code) for path, code, _ in problems(SCHEMAS[policy_type], config)]


def test_every_field_of_every_schema_has_an_operator_and_the_other_way_round():
    assert {name: set(schema.model_fields) for name, schema in SCHEMAS.items()} == {
        name: set(fields) for name, fields in FIELDS.items()
    }


@pytest.mark.parametrize("policy_type", SCHEMAS)
def test_every_top_level_field_may_be_absent_or_null(policy_type):
    assert codes(policy_type, {}) == []
    assert codes(policy_type, dict.fromkeys(SCHEMAS[policy_type].model_fields)) == []


@pytest.mark.parametrize("policy_type", SCHEMAS)
def test_an_unknown_field_is_an_error(policy_type):
    assert codes(policy_type, {"alow": []}) == [("alow", "extra_forbidden")]


@pytest.mark.parametrize(
    ("policy_type", "config"),
    [
        (
            "model_access",
            {"allow": ["*", "GPT-4o", "@cf/meta/llama-3", "claude-[so]*", "bedrock/us-east-1/*"], "deny": []},
        ),
        ("token_caps", {"max_input_tokens": 0, "max_total_tokens": 2_000_000_000, "on_exceed": "clamp"}),
        ("rate_limit", {"limits": [REQUESTS, {"metric": "concurrent", "window": "none", "limit": 0, "per": "key"}]}),
        ("rate_limit", {"limits": [REQUESTS | {"models": ["*"], "mode": "shadow"}]}),
        ("budget", {"limits": [MONTHLY | {"anchor": 28, "alert_at": [0.5, 1], "currency": "USD"}]}),
        (
            "budget",
            {"limits": [{"window": "week", "limit": "0", "anchor": 7}, {"window": "total", "limit": "0.000001"}]},
        ),
        (
            "guardrail",
            {"fail_mode": "open", "guardrails": {"pii": PII | {"threshold": 0, "action": "off", "config": {}}}},
        ),
        ("routing", {"strategy": "weighted", "targets": ["openai/gpt-4o"], "aliases": {"smart": "a/b/c"}}),
        ("routing", {"timeout_ms": 600_000, "max_retries": 0, "providers": [], "regions": ["eu-west-1"]}),
        ("retention", {"max_days": 36_500, "min_days": 0, "log_bodies": False, "zero_retention": True}),
        ("storage_access", {"allow": [{"uri": "s3://b/*", "modes": ["list", "read", "write", "delete"]}]}),
    ],
)
def test_a_valid_config_is_taken(policy_type, config):
    assert codes(policy_type, config) == []


@pytest.mark.parametrize(
    ("policy_type", "config", "path", "code"),
    [
        ("model_access", [], "", "model_type"),
        ("model_access", {"allow": "*"}, "allow", "list_type"),
        ("model_access", {"allow": ["a//b"]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": ["/a"]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": ["a/"]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": [""]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": ["-a"]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": ["gpt-4o\n"]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": ["gpt 4"]}, "allow.0", "string_pattern_mismatch"),
        ("model_access", {"allow": ["a" * 266]}, "allow.0", "string_too_long"),
        ("model_access", {"deny": ["GPT-4o", "gpt-4o"]}, "deny", "duplicate_item"),
        ("model_access", {"deny": [f"m{n}" for n in range(257)]}, "deny", "too_long"),
        ("token_caps", {"max_input_tokens": True}, "max_input_tokens", "int_type"),
        ("token_caps", {"max_input_tokens": "5"}, "max_input_tokens", "int_type"),
        ("token_caps", {"max_input_tokens": 5.0}, "max_input_tokens", "int_type"),
        ("token_caps", {"max_input_tokens": -1}, "max_input_tokens", "greater_than_equal"),
        ("token_caps", {"max_output_tokens": 2_000_000_001}, "max_output_tokens", "less_than_equal"),
        ("token_caps", {"on_exceed": "drop"}, "on_exceed", "literal_error"),
        ("rate_limit", {"limits": [REQUESTS | {"window": "none"}]}, "limits.0", "window_not_of_metric"),
        ("rate_limit", {"limits": [REQUESTS | {"metric": "concurrent"}]}, "limits.0", "window_not_of_metric"),
        ("rate_limit", {"limits": [{"metric": "requests", "limit": 1}]}, "limits.0.window", "missing"),
        ("rate_limit", {"limits": [REQUESTS | {"limit": 10**12 + 1}]}, "limits.0.limit", "less_than_equal"),
        ("rate_limit", {"limits": [REQUESTS | {"models": []}]}, "limits.0.models", "too_short"),
        ("rate_limit", {"limits": [REQUESTS | {"per": "org"}]}, "limits.0.per", "literal_error"),
        ("rate_limit", {"limits": [REQUESTS] * 33}, "limits", "too_long"),
        ("budget", {"limits": [MONTHLY | {"limit": 50}]}, "limits.0.limit", "string_type"),
        ("budget", {"limits": [MONTHLY | {"limit": "050"}]}, "limits.0.limit", "string_pattern_mismatch"),
        ("budget", {"limits": [MONTHLY | {"limit": "1e3"}]}, "limits.0.limit", "string_pattern_mismatch"),
        ("budget", {"limits": [MONTHLY | {"limit": "-1"}]}, "limits.0.limit", "string_pattern_mismatch"),
        ("budget", {"limits": [MONTHLY | {"limit": "0.0000001"}]}, "limits.0.limit", "string_pattern_mismatch"),
        ("budget", {"limits": [MONTHLY | {"limit": "\u0661"}]}, "limits.0.limit", "string_pattern_mismatch"),
        ("budget", {"limits": [MONTHLY | {"currency": "EUR"}]}, "limits.0.currency", "literal_error"),
        ("budget", {"limits": [MONTHLY | {"anchor": 29}]}, "limits.0.anchor", "less_than_equal"),
        ("budget", {"limits": [MONTHLY | {"window": "week", "anchor": 8}]}, "limits.0", "anchor_out_of_range"),
        ("budget", {"limits": [MONTHLY | {"window": "day", "anchor": 1}]}, "limits.0", "anchor_not_of_window"),
        ("budget", {"limits": [MONTHLY | {"alert_at": [0]}]}, "limits.0.alert_at.0", "greater_than"),
        ("budget", {"limits": [MONTHLY | {"alert_at": [1.5]}]}, "limits.0.alert_at.0", "less_than_equal"),
        (
            "budget",
            {"limits": [MONTHLY | {"alert_at": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}]},
            "limits.0.alert_at",
            "too_long",
        ),
        ("guardrail", {"guardrails": {"pii": {}}}, "guardrails.pii.stages", "missing"),
        ("guardrail", {"guardrails": {"pii": {"stages": []}}}, "guardrails.pii.stages", "too_short"),
        ("guardrail", {"guardrails": {"PII": PII}}, "guardrails.PII.[key]", "string_pattern_mismatch"),
        ("guardrail", {"guardrails": {"pii": PII | {"threshold": 1.1}}}, "guardrails.pii.threshold", "less_than_equal"),
        ("guardrail", {"guardrails": {"pii": PII | {"threshold": True}}}, "guardrails.pii.threshold", "float_type"),
        ("guardrail", {"guardrails": {"pii": PII | {"config": []}}}, "guardrails.pii.config", "dict_type"),
        ("guardrail", {"guardrails": {f"g{n}": PII for n in range(33)}}, "guardrails", "too_long"),
        ("routing", {"targets": ["gpt-4o"]}, "targets.0", "string_pattern_mismatch"),
        ("routing", {"targets": ["openai/gpt-*"]}, "targets.0", "string_pattern_mismatch"),
        ("routing", {"aliases": {"Smart": "openai/gpt-4o"}}, "aliases.Smart.[key]", "string_pattern_mismatch"),
        ("routing", {"timeout_ms": 0}, "timeout_ms", "greater_than_equal"),
        ("routing", {"max_retries": 11}, "max_retries", "less_than_equal"),
        ("routing", {"providers": ["Open AI"]}, "providers.0", "string_pattern_mismatch"),
        ("retention", {"log_bodies": 0}, "log_bodies", "bool_type"),
        ("retention", {"max_days": 36_501}, "max_days", "less_than_equal"),
        ("storage_access", {"allow": [{"uri": "b/x", "modes": ["read"]}]}, "allow.0.uri", "string_pattern_mismatch"),
        ("storage_access", {"allow": [{"uri": "s3://b", "modes": []}]}, "allow.0.modes", "too_short"),
        ("storage_access", {"deny": [{"uri": "s3://b", "modes": ["read", "read"]}]}, "deny.0.modes", "duplicate_item"),
    ],
)
def test_an_invalid_config_is_refused_with_its_path_and_code(policy_type, config, path, code):
    assert (path, code) in codes(policy_type, config)


def test_the_same_rule_with_its_modes_in_another_order_is_a_duplicate():
    allow = [{"uri": "s3://b", "modes": ["read", "list"]}, {"uri": "s3://b", "modes": ["list", "read"]}]

    assert codes("storage_access", {"allow": allow}) == [("allow", "duplicate_item")]


@pytest.mark.parametrize(
    ("free", "code"),
    [
        ({"x": math.nan}, "not_json"),
        ({"x": object()}, "not_json"),
        ({"x": "\ud800"}, "not_json"),
        ({"x": "a\x00"}, "null_character"),
        ({"x": "x" * 65_536}, "config_too_large"),
        (nested(62), "too_deep"),
        (nested(400), "too_deep"),
    ],
)
def test_what_the_database_cannot_store_is_refused_before(free, code):
    assert codes("guardrail", {"guardrails": {"pii": PII | {"config": free}}}) == [("", code)]


def test_a_config_as_deep_as_may_be_is_taken():
    assert codes("guardrail", {"guardrails": {"pii": PII | {"config": nested(61)}}}) == []


@pytest.mark.parametrize("text", ['{"x": 1' + "0" * 5000 + "}", '{"x": ' * 30_000 + "1" + "}" * 30_000])
def test_a_stored_config_that_python_cannot_read_does_not_fit(text):
    assert not stored_config_is_valid("model_access", text)


def test_a_backslash_before_u0000_is_plain_text():
    assert codes("guardrail", {"guardrails": {"pii": PII | {"config": {"x": "\\u0000"}}}}) == []


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"tz": "Europe/Atlantis"}, "tz", "unknown_time_zone"),
        ({"tz": "../etc/passwd"}, "tz", "unknown_time_zone"),
        ({"days": []}, "days", "too_short"),
        ({"days": ["monday"]}, "days.0", "literal_error"),
        ({"days": ["mon", "mon"]}, "days", "duplicate_item"),
        ({"start": "24:00"}, "start", "string_pattern_mismatch"),
        ({"end": "9:00"}, "end", "string_pattern_mismatch"),
        ({"until": "10:00"}, "until", "extra_forbidden"),
    ],
)
def test_a_schedule_is_judged_like_a_config(change, path, code):
    schedule = {"tz": "Europe/Berlin", "days": ["mon"], "start": "09:00", "end": "17:00"}

    assert list(problems(ScheduleConfig, schedule)) == []
    assert [(path, code) for path, code, _ in problems(ScheduleConfig, schedule | change)] == [(path, code)]


def test_a_stored_config_is_judged_by_its_text():
    assert stored_config_is_valid("token_caps", '{"max_input_tokens": 5}')
    assert not stored_config_is_valid("token_caps", '{"max_input_tokens": "5"}')
