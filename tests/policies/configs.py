"""Hypothesis strategies for valid configs, made from the schemas: every shape a policy may have."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from policies.schemas import SCHEMAS, ScheduleConfig, problems

MISSING = object()
WORDS = st.text("abcdefghij-_.0123456789", min_size=1, max_size=6).map(lambda text: "a" + text)
PARTS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
PATTERNS = st.one_of(
    PARTS, PARTS.map(lambda text: text + "*"), st.sampled_from(["*", "?", "@cf/x", "GPT-4o", "a:b+c[d]"])
)
MODELS = st.tuples(WORDS, PARTS).map("/".join)
TAILS = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=12)
URIS = TAILS.filter(lambda text: not any(map(str.isspace, text))).map("s3://".__add__)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b c", "é"]), inner, max_size=3),
    max_leaves=6,
)


def maybe(strategy):
    """A field that may be left out, or be null."""
    return st.one_of(st.just(MISSING), st.none(), strategy)


def often(strategy):
    """A field that may be left out, and must not be null."""
    return st.one_of(st.just(MISSING), strategy)


def objects(**fields):
    return st.fixed_dictionaries(fields).map(
        lambda given: {name: value for name, value in given.items() if value is not MISSING}
    )


def some(values, most=3, least=0):
    """A list without two of a kind."""
    return st.lists(values, min_size=least, max_size=most, unique_by=lambda value: json.dumps(value).lower())


def chosen(*words):
    return st.permutations(words).flatmap(lambda order: st.integers(1, len(words)).map(lambda n: list(order[:n])))


_LIMIT = {
    "per": often(st.sampled_from(["scope", "app", "branch", "user", "key"])),
    "models": maybe(some(PATTERNS, least=1)),
    "mode": often(st.sampled_from(["shadow", "soft", "hard"])),
}
_RATES = objects(
    metric=st.sampled_from(["requests", "input_tokens", "output_tokens", "total_tokens"]),
    limit=st.integers(0, 10**12), window=st.sampled_from(["1s", "10s", "1m", "1h", "1d"]), **_LIMIT,
) | objects(metric=st.just("concurrent"), limit=st.integers(0, 9), window=st.just("none"), **_LIMIT)  # fmt: skip
_MONEY = {
    "limit": st.sampled_from(["0", "50.00", "0.000001", "999999999999.999999"]),
    "currency": often(st.just("USD")),
    "alert_at": maybe(some(st.sampled_from([1, 1.0, 0.5, 0.8, 5e-324, 1e-07]).filter(bool), most=2)),
}
_BUDGETS = (
    objects(window=st.sampled_from(["hour", "day", "total"]), **_MONEY, **_LIMIT)
    | objects(window=st.just("week"), anchor=often(st.integers(1, 7)), **_MONEY, **_LIMIT)
    | objects(window=st.just("month"), anchor=often(st.integers(1, 28)), **_MONEY, **_LIMIT)
)
_GUARDS = objects(
    stages=chosen("input", "output", "tool_call"),
    action=maybe(st.sampled_from(["off", "log", "mask", "block"])),
    threshold=maybe(st.integers(0, 1) | st.floats(0, 1)),
    config=maybe(st.dictionaries(st.sampled_from(["x", "y z", "ü"]), JSON, max_size=3)),
)
_TOKENS = maybe(st.integers(0, 2_000_000_000))
_RULES = maybe(some(objects(uri=URIS, modes=chosen("list", "read", "write", "delete"))))
_DAYS = maybe(st.integers(0, 36_500))
_SLUGS = maybe(some(WORDS))

CONFIGS = {
    "model_access": objects(allow=maybe(some(PATTERNS)), deny=maybe(some(PATTERNS))),
    "token_caps": objects(
        max_input_tokens=_TOKENS, max_output_tokens=_TOKENS, max_total_tokens=_TOKENS, default_max_output_tokens=_TOKENS,
        on_exceed=maybe(st.sampled_from(["clamp", "reject"])),
    ),
    "rate_limit": objects(limits=maybe(st.lists(_RATES, max_size=4))),
    "budget": objects(limits=maybe(st.lists(_BUDGETS, max_size=4))),
    "guardrail": objects(
        fail_mode=maybe(st.sampled_from(["open", "closed"])),
        guardrails=maybe(st.dictionaries(WORDS.map(lambda text: text.replace(".", "_")), _GUARDS, max_size=3)),
    ),
    "routing": objects(
        strategy=maybe(st.sampled_from(["priority", "fallback", "weighted", "least_cost", "least_latency"])),
        targets=maybe(some(MODELS)), aliases=maybe(st.dictionaries(WORDS, MODELS, max_size=3)),
        timeout_ms=maybe(st.integers(1, 600_000)), max_retries=maybe(st.integers(0, 10)), providers=_SLUGS, regions=_SLUGS,
    ),
    "retention": objects(
        max_days=_DAYS, min_days=_DAYS, log_bodies=maybe(st.booleans()), redact_pii=maybe(st.booleans()),
        zero_retention=maybe(st.booleans()),
    ),
    "storage_access": objects(allow=_RULES, deny=_RULES),
}  # fmt: skip
"""A strategy per type; each of them speaks every field, absent, null and empty included."""

CONFIGS = {
    policy_type: strategy.filter(lambda value, schema=SCHEMAS[policy_type]: next(problems(schema, value), None) is None)
    for policy_type, strategy in CONFIGS.items()
}
SCHEDULES = objects(
    tz=st.sampled_from(["UTC", "Europe/Berlin"]), days=chosen("mon", "tue", "sun"),
    start=st.sampled_from(["00:00", "22:30"]), end=st.sampled_from(["06:00", "23:59"]),
).filter(lambda value: next(problems(ScheduleConfig, value), None) is None)  # fmt: skip
