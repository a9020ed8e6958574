from __future__ import annotations

from uuid import UUID

from policies.deciding import ModelAsked, judge_model, judge_storage
from policies.merging import merge
from tests.policies.rows import ids, row


def judged(rows, asked="openai/gpt-4o", canonical_id=None, region=None):
    canonical_id = canonical_id or asked
    return judge_model(merge(rows), ModelAsked(asked, canonical_id, canonical_id.partition("/")[0], region))


def test_without_a_policy_models_are_allowed_and_storage_is_not():
    assert (judged([]).allow, judged([]).reason) == (True, "no_restriction")
    assert judge_storage(merge([]), "s3://b/x", "read").reason == "storage_default_deny"


def test_a_permission_names_the_entry_of_the_nearest_list():
    rows = [
        row(1, 1, "model_access", {"allow": ["*"]}),
        row(2, 3, "model_access", {"allow": ["o1", "gpt-*"], "deny": ["x"]}),
    ]

    verdict = judged(rows)

    assert (verdict.reason, verdict.by, verdict.pattern, verdict.layer) == ("allowed", UUID(int=2), "gpt-*", 1)
    assert verdict.policies == (UUID(int=1), UUID(int=2))


def test_a_refusal_by_a_list_names_its_policies():
    rows = [row(1, 1, "model_access", {"allow": ["o1"]}), row(2, 1, "model_access", {"allow": []}, priority=3)]

    verdict = judged(rows)

    assert (verdict.reason, verdict.by, verdict.layer) == ("model_not_in_allowlist", UUID(int=2), 0)
    assert {*verdict.policies} == {*ids(1, 2)}


def test_an_alias_can_be_forbidden_by_name_but_allows_nothing_by_name():
    denied = [row(1, 1, "model_access", {"deny": ["smart"]})]
    allowed_by_name = [row(1, 1, "model_access", {"allow": ["smart"]})]

    assert judged(denied, "smart", "openai/gpt-4o").reason == "model_denied"
    assert judged(allowed_by_name, "smart", "openai/gpt-4o").reason == "model_not_in_allowlist"


def test_a_deny_with_a_slash_meets_a_bare_name_through_a_star():
    assert judged([row(1, 1, "model_access", {"deny": ["*/smart"]})], "smart", "openai/gpt-4o").reason == "model_denied"
    assert judged([row(1, 1, "model_access", {"deny": ["x/smart"]})], "smart", "openai/gpt-4o").allow


def test_regions_are_checked_once_the_region_is_known():
    rows = [row(1, 1, "routing", {"regions": ["eu-west-1"]})]

    assert judged(rows).allow
    assert judged(rows, region="EU-west-1").allow
    assert judged(rows, region="us-east-1").reason == "region_not_allowed"
    assert judged(rows, region="").reason == "region_not_allowed", "no name of a region is not: not known yet"


def test_deny_comes_first_then_lists_then_providers_then_regions():
    everything_wrong = {"deny": ["gpt-4o"], "allow": []}
    routing = row(2, 1, "routing", {"providers": [], "regions": []})

    assert judged([row(1, 1, "model_access", everything_wrong), routing], region="r").reason == "model_denied"
    assert judged([row(1, 1, "model_access", {"allow": []}), routing], region="r").reason == "model_not_in_allowlist"
    assert judged([routing], region="r").reason == "provider_not_allowed"


def test_storage_is_allowed_for_the_mode_named_alone():
    rows = [row(1, 1, "storage_access", {"allow": [{"uri": "s3://b/*", "modes": ["read"]}]})]

    assert judge_storage(merge(rows), "s3://b/x", "read").by == UUID(int=1)
    assert judge_storage(merge(rows), "s3://b/x", "write").reason == "storage_not_in_allowlist"
    assert judge_storage(merge(rows), "s3://b/../c", "read").reason == "uri_not_canonical"
