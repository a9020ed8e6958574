from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.patterns import canonical_uri, covers_uri, names_model


@pytest.mark.parametrize(
    ("pattern", "model", "named"),
    [
        ("gpt-4o", "openai/gpt-4o", True),
        ("gpt-4o", "openai/gpt-4o-mini", False),
        ("gpt-4o", "openai/my-gpt-4o", False),
        ("GPT-4O*", "openai/gpt-4o-mini", True),
        ("gpt-4?", "openai/gpt-4o", True),
        ("gpt-4?", "openai/gpt-4", False),
        ("gpt-4.", "openai/gpt-4o", False),
        ("claude-[so]*", "anthropic/claude-sonnet-4", False),
        ("claude-[so]*", "anthropic/claude-[so]nnet", True),
        ("openai/gpt-4o", "openai/gpt-4o", True),
        ("openai/*", "openai/gpt-4o", True),
        ("*", "bedrock/us-east-1/anthropic.claude-v2", True),
        ("anthropic.*", "bedrock/us-east-1/anthropic.claude-v2", False),
        ("bedrock/*", "bedrock/us-east-1/anthropic.claude-v2", True),
        ("*claude*", "bedrock/us-east-1/anthropic.claude-v2", True),
        ("us-east-1/*", "bedrock/us-east-1/anthropic.claude-v2", False),
        ("*/anthropic.claude-v2", "bedrock/us-east-1/anthropic.claude-v2", True),
        ("a**b", "x/ab", True),
        ("a*b*c", "x/abbc", True),
        ("a*a", "x/a", False),
    ],
)
def test_a_pattern_names_a_model(pattern, model, named):
    assert names_model(pattern, model) is named


def test_case_is_ignored_in_ascii_alone():
    assert not names_model("kimi", "moonshot/\u212aimi")  # the Kelvin sign lowers to k
    assert not names_model("s", "x/\u017f")


def test_many_stars_come_to_an_end():
    # A backtracking match would not end in a lifetime.
    assert not names_model("*a" * 130, "x/" + "a" * 129)
    assert not covers_uri("s3://" + "*a" * 500 + "b", "s3://" + "a" * 1000)


def brute_force(pattern: str, text: str) -> bool:
    """Matching by its definition, one character after the other."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(brute_force(pattern[1:], text[k:]) for k in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and brute_force(pattern[1:], text[1:])


@given(st.text("ab*?", min_size=1, max_size=7), st.text("ab/", min_size=1, max_size=7))
def test_matching_agrees_with_its_definition(pattern, name):
    assert names_model(pattern, f"p/{name}") is brute_force(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "uri", "covered"),
    [
        ("s3://b/*", "s3://b/x/y", True),
        ("s3://b/*", "s3://b", False),
        ("s3://b/x", "s3://b/X", False),
        ("s3://b/?", "s3://b/x", False),
        ("s3://b/team*", "s3://b/team-rocket/x", True),
        ("s3://b/\u00e9", "s3://b/e\u0301", False),
    ],
)
def test_a_storage_pattern_is_compared_by_code_point(pattern, uri, covered):
    assert covers_uri(pattern, uri) is covered


@pytest.mark.parametrize(
    ("uri", "canonical"),
    [
        ("s3://b/x", True),
        ("s3://b/x/", True),
        ("s3://b", True),
        ("S3://b/x", False),
        ("s3:/b/x", False),
        ("b/x", False),
        ("s3://b//x", False),
        ("s3:///x", False),
        ("s3://", False),
        ("s3://b/./x", False),
        ("s3://b/../x", False),
        ("s3://b/..", False),
        ("s3://b/x//", False),
        ("s3://b/%2e%2e/x", False),
        ("s3://b/a\\b", False),
        ("s3://b/a\nb", False),
        ("s3://b/a\x7fb", False),
        ("s3://b/...", True),
    ],
)
def test_only_one_spelling_of_an_address_is_canonical(uri, canonical):
    assert canonical_uri(uri) is canonical
