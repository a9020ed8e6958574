"""What the inputs of a policy are called, and what a person has to know to fill them in."""

from __future__ import annotations

from collections.abc import Mapping

TYPES: Mapping[str, tuple[str, str]] = {
    "model_access": ("Model access", "Which models may be called."),
    "token_caps": ("Token caps", "How many tokens one call may take."),
    "rate_limit": ("Rate limit", "How many requests or tokens in a stretch of time, or calls at once."),
    "budget": ("Budget", "How many dollars in a period."),
    "guardrail": ("Guardrails", "Which checks look at what goes in and out."),
    "routing": ("Routing", "Which model answers, by which name, from which provider and region."),
    "retention": ("Retention", "How long requests are kept, and what is kept of them."),
    "storage_access": ("Storage access", "Which stored objects may be listed, read, written and deleted."),
}
"""Types of policies: name, and the question each of them answers."""

_LIMIT = {
    "limit": ("Limit", ""),
    "window": ("Per", ""),
    "per": ("Whose counter", ""),
    "models": ("Only models", ""),
    "mode": ("Mode", ""),
}

FIELDS: Mapping[str, tuple[str, str]] = {
    "model_access.allow": (
        "Allowed models",
        "One pattern per line, as openai/gpt-4o* or gpt-4o. * is any run of characters, ? one.",
    ),
    "model_access.deny": ("Forbidden models", "One pattern per line. What is forbidden here, no other policy allows."),
    "token_caps.max_input_tokens": ("Input tokens, at most", "A call with more is refused."),
    "token_caps.max_output_tokens": ("Output tokens, at most", ""),
    "token_caps.max_total_tokens": ("Input and output tokens, at most", ""),
    "token_caps.default_max_output_tokens": ("Output tokens, if the caller names no number", ""),
    "token_caps.on_exceed": (
        "A call that asks for more",
        "Clamp lowers what it asked for; reject refuses it. Too much input is always refused.",
    ),
    "rate_limit.limits": (
        "Limits",
        "All of them hold. Soft warns and lets the call pass, shadow only counts. Concurrent calls have the window none.",
    ),
    "budget.limits": (
        "Limits",
        "US dollars. All of them hold. Soft warns and lets the call pass, shadow only counts. Alert at: shares of the limit, "
        "as 0.5, 0.8. A week begins on day 1 (Monday) to 7, a month on day 1 to 28.",
    ),
    **{f"{kind}.limits.{name}": words for kind in ("rate_limit", "budget") for name, words in _LIMIT.items()},
    "rate_limit.limits.metric": ("Counts", ""),
    "budget.limits.anchor": ("Begins on", ""),
    "budget.limits.alert_at": ("Alert at", ""),
    "guardrail.fail_mode": ("If a guardrail cannot answer", "Closed refuses the call, open lets it pass."),
    "guardrail.guardrails": ("Guardrails", "Each by its name, as pii. The strictest action of all policies holds."),
    "guardrail.guardrails.key": ("Name", ""),
    "guardrail.guardrails.stages": ("Looks at", ""),
    "guardrail.guardrails.action": ("Action", ""),
    "guardrail.guardrails.threshold": ("Threshold, 0 to 1", ""),
    "guardrail.guardrails.config": ("Settings of its own, as JSON", ""),
    "routing.strategy": ("How a target is chosen", ""),
    "routing.targets": ("Targets", "Ids of models, one per line, the first choice on top, as openai/gpt-4o."),
    "routing.aliases": ("Aliases", "Names that callers use, and the model each stands for."),
    "routing.aliases.key": ("Alias", ""),
    "routing.aliases.value": ("Model", ""),
    "routing.timeout_ms": ("Time for an answer, ms", ""),
    "routing.max_retries": ("Retries, at most", ""),
    "routing.providers": ("Allowed providers", "Short names, one per line, as openai."),
    "routing.regions": ("Allowed regions", "One per line, as eu-west-1."),
    "retention.max_days": ("Kept at most, days", ""),
    "retention.min_days": ("Kept at least, days", "A legal hold: it beats every shorter period."),
    "retention.log_bodies": ("Keep what was asked and answered", ""),
    "retention.redact_pii": ("Remove personal data first", ""),
    "retention.zero_retention": ("Keep nothing", "Sets the days to 0 and keeps no bodies."),
    "storage_access.allow": (
        "Allowed objects",
        "Addresses as s3://bucket/folder/*; * is any run of characters, / included.",
    ),
    "storage_access.deny": ("Forbidden objects", "What is forbidden here, no other policy allows."),
    "storage_access.allow.uri": ("Address", ""),
    "storage_access.allow.modes": ("May", ""),
    "storage_access.deny.uri": ("Address", ""),
    "storage_access.deny.modes": ("May not", ""),
    "schedule.tz": ("Time zone", ""),
    "schedule.days": ("Days", ""),
    "schedule.start": ("From", ""),
    "schedule.end": ("To", ""),
}
"""Label and help by path: type, field, field of an entry; `key` and `value` are the columns of a map."""

ROWS: Mapping[str, str] = {
    "rate_limit.limits": "Limit",
    "budget.limits": "Limit",
    "guardrail.guardrails": "Guardrail",
    "routing.aliases": "Alias",
    "storage_access.allow": "Rule",
    "storage_access.deny": "Rule",
}

EMPTY: Mapping[str, str] = {
    "model_access.allow": "Empty list: no model is allowed",
    "model_access.deny": "Empty list: forbids nothing",
    "rate_limit.limits": "Empty list: sets no limit",
    "budget.limits": "Empty list: sets no limit",
    "guardrail.guardrails": "Empty: names no guardrail",
    "routing.targets": "Empty list: no target",
    "routing.aliases": "Empty: names no alias",
    "routing.providers": "Empty list: no provider is allowed",
    "routing.regions": "Empty list: no region is allowed",
    "storage_access.allow": "Empty list: no object is allowed",
    "storage_access.deny": "Empty list: forbids nothing",
}
"""What an empty list means: it is a value, other than to say nothing."""

EXAMPLES: Mapping[str, str] = {
    "model_access.allow": "openai/gpt-4o*\nanthropic/*",
    "model_access.deny": "*-preview",
    "rate_limit.limits.limit": "600",
    "rate_limit.limits.models": "all",
    "budget.limits.limit": "50.00",
    "budget.limits.models": "all",
    "budget.limits.anchor": "1",
    "budget.limits.alert_at": "0.8",
    "guardrail.guardrails.key": "pii",
    "guardrail.guardrails.threshold": "0.5",
    "routing.targets": "openai/gpt-4o\nanthropic/claude-sonnet-4",
    "routing.aliases.key": "smart",
    "routing.aliases.value": "openai/gpt-4o",
    "routing.timeout_ms": "30000",
    "routing.providers": "openai",
    "routing.regions": "eu-west-1",
    "storage_access.allow.uri": "s3://bucket/folder/*",
    "storage_access.deny.uri": "s3://bucket/secret/*",
    "schedule.tz": "Europe/Berlin",
    "schedule.start": "09:00",
    "schedule.end": "17:00",
}

_NAMED: Mapping[str, str] = {
    "scope": "one for all",
    "app": "each app",
    "branch": "each branch",
    "user": "each user",
    "key": "each key",
    "none": "at once",
    "total": "ever",
    "mon": "Mon", "tue": "Tue", "wed": "Wed", "thu": "Thu", "fri": "Fri", "sat": "Sat", "sun": "Sun",
}  # fmt: skip


def option(value: str) -> str:
    """How one of the words of a schema is shown to choose."""
    return _NAMED.get(value, value.replace("_", " "))
