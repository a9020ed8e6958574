"""What the demo's organisations allow, limit and keep, at every level a policy can have. Declarations only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Edit:
    """A later version of a policy: who made it (user name), why, and the config it has from then on."""

    by: str
    reason: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A policy. app: slug, branch: code, user: user name, key: name; "" = any.

    until: its end, after the seeding; None = none. overridable: names of config that a nearer policy may replace; final:
    those that none may. edits: what became of its config, oldest first.
    """

    tenant: str
    name: str
    config: dict[str, Any]
    type: str = "model_access"
    app: str = ""
    branch: str = ""
    user: str = ""
    key: str = ""
    message: str = ""
    description: str = ""
    overridable: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    priority: int = 0
    enabled: bool = True
    until: timedelta | None = None
    schedule: dict[str, Any] | None = None
    edits: tuple[Edit, ...] = ()


_MARLOW = "marlow-daughters"
_NORDLYS = "nordlys-klinikk"
_TAMARIND = "tamarind-travel"


_MODELS = (
    Plan(
        _MARLOW, "House providers", {"allow": ["anthropic/*", "openai/*"]},
        message="We have contracts with Anthropic and OpenAI. Ask Harriet if you need another provider.",
    ),
    Plan(
        _MARLOW, "Manuscripts stay with Anthropic", {"allow": ["anthropic/*"]}, app="manuscripts",
        message="Our authors' contracts name Anthropic as the only processor of manuscripts.",
    ),
    Plan(
        _MARLOW, "Blurbs are written cheaply", {"deny": ["*opus*", "openai/gpt-5.6"]}, app="back-catalogue",
        description="Thousands of blurbs a night: a dear model by mistake would show on the bill only.",
    ),
    Plan(
        _MARLOW, "No long thinking at the counter", {"deny": ["*opus*"]}, app="readers-desk",
        branch="BLOOMSBURY", message="A customer waits: use quick.",
    ),
    Plan(_MARLOW, "Tobias tries GPT only", {"deny": ["anthropic/*"]}, user="tobias", enabled=False),
    Plan(
        _NORDLYS, "Providers in Europe", {"allow": ["mistral/*"]},
        message="Patient data stays with providers in Europe.",
        description="Decided by the data protection officer; no app may widen it.",
    ),
    Plan(
        _NORDLYS, "Coding needs no large model", {"deny": ["mistral/mistral-large-*"]}, app="coding",
    ),
    Plan(
        _NORDLYS, "Farah, until her training", {"deny": ["mistral/mistral-large-*"]}, app="night-line",
        user="farah", until=timedelta(days=30), message="Your training for this model is on its way.",
    ),
    Plan(
        _TAMARIND, "Closed unless an app opens it", {"allow": []}, overridable=("allow",),
        message="This app has no models yet. Ask Arjun to open some.",
    ),
    Plan(_TAMARIND, "Nothing that will go away", {"deny": ["openai/gpt-5.4-nano", "*preview*"]}),
    Plan(
        _TAMARIND, "Models of the planner", {"allow": ["gemini/gemini-3.8-flash", "openai/gpt-5.6"]},
        app="trip-planner",
    ),
    Plan(
        _TAMARIND, "Models of the concierge", {"allow": ["openai/*", "anthropic/claude-sonnet-*"]},
        app="concierge",
    ),
    Plan(_TAMARIND, "Models of Fare Watch", {"allow": ["gemini/*"]}, app="fare-watch", priority=10),
    Plan(
        _TAMARIND, "Colombo at night", {"deny": ["openai/*"]}, app="trip-planner", branch="COLOMBO",
        schedule={"tz": "Asia/Colombo", "days": ["mon", "tue", "wed", "thu", "fri"], "start": "22:00", "end": "06:00"},
        message="At night the desk uses quick alone.",
    ),
    Plan(
        _TAMARIND, "Kabir's workbench", {"deny": ["*opus*"]}, app="concierge", key="Kabir, workbench",
        until=timedelta(days=3),
    ),
)  # fmt: skip

_MONEY = (
    Plan(
        _MARLOW, "The house's month", {"limits": [{"window": "month", "limit": "150.00", "alert_at": [0.5, 0.8]}]},
        type="budget", message="The house has spent its month. Priscilla can raise it.",
    ),
    Plan(
        _MARLOW, "Autumn manuscripts", {"limits": [{"window": "total", "limit": "250.00", "alert_at": [0.8]}]},
        type="budget", app="manuscripts", message="The money for the autumn list is spent.",
        description="What the board set aside for reading the autumn list.",
        edits=(
            Edit(
                "priscilla", "the board halved what is set aside for the autumn list",
                {"limits": [{"window": "total", "limit": "125.00", "alert_at": [0.8]}]},
            ),
            Edit(
                "harriet", "two authors withdrew; warn us earlier",
                {"limits": [{"window": "total", "limit": "110.00", "alert_at": [0.5, 0.8]}]},
            ),
        ),
    ),
    Plan(
        _MARLOW, "A day at the counters", {"limits": [{"window": "day", "limit": "2.50", "alert_at": [0.8]}]},
        type="budget", app="readers-desk", message="The counters have used up today's money. It begins anew at midnight.",
    ),
    Plan(
        _MARLOW, "Inês, a month", {"limits": [{"window": "month", "limit": "15.00", "per": "user"}]},
        type="budget", app="manuscripts", user="ines",
    ),
    Plan(
        _NORDLYS, "The clinic's month", {"limits": [{"window": "month", "limit": "120.00", "alert_at": [0.8]}]},
        type="budget", message="The clinic's month is spent. Call Odd before you call the vendor.",
    ),
    Plan(
        _NORDLYS, "Night Line, a week", {"limits": [{"window": "week", "limit": "2.00", "mode": "soft"}]},
        type="budget", app="night-line",
        description="Soft: at night nobody is there to raise it, and callers cannot wait.",
    ),
    Plan(
        _NORDLYS, "Coding, would this do?", {"limits": [{"window": "day", "limit": "0.60", "mode": "shadow"}]},
        type="budget", app="coding", description="Shadow: counted for a month before it may refuse anything.",
    ),
    Plan(
        _TAMARIND, "The company's month", {"limits": [{"window": "month", "limit": "300.00", "alert_at": [0.5, 0.9]}]},
        type="budget", message="The month is spent. Ask Vikram.",
    ),
    Plan(
        _TAMARIND, "Each app, a day", {"limits": [{"window": "day", "limit": "9.00", "per": "app"}]},
        type="budget", overridable=("limits",), message="This app has spent its day.",
    ),
    Plan(
        _TAMARIND, "Festival season", {"limits": [{"window": "day", "limit": "25.00", "per": "app"}]},
        type="budget", app="trip-planner", until=timedelta(days=12),
        description="Everybody books at once. Ends by itself, and the usual day is back.",
    ),
    Plan(
        _TAMARIND, "Kabir, a month", {"limits": [{"window": "month", "limit": "6.00", "per": "user"}]},
        type="budget", app="concierge", user="kabir", message="Your month is spent. Meera can raise it.",
    ),
    Plan(
        _TAMARIND, "Fare Watch pilot", {"limits": [{"window": "total", "limit": "5.00", "alert_at": [1]}]},
        type="budget", app="fare-watch", message="The pilot is over. Vikram decides how it goes on.",
        edits=(
            Edit(
                "arjun", "the pilot goes better than we thought",
                {"limits": [{"window": "total", "limit": "20.00", "alert_at": [1]}]},
            ),
            Edit(
                "vikram", "the airline's contract is being renewed: nothing more until it is signed",
                {"limits": [{"window": "total", "limit": "0.50", "alert_at": [1]}]},
            ),
        ),
    ),
)  # fmt: skip

_RATES = (
    Plan(
        _MARLOW, "The pace of the counters", {
            "limits": [
                {"metric": "requests", "window": "1m", "limit": 30, "per": "key"},
                {"metric": "concurrent", "window": "none", "limit": 8},
            ],
        },
        type="rate_limit", app="readers-desk", message="The desk is busy. Try again in a moment.",
    ),
    Plan(
        _MARLOW, "Blurbs, tokens of a day", {"limits": [{"metric": "total_tokens", "window": "1d", "limit": 600_000}]},
        type="rate_limit", app="back-catalogue",
        edits=(
            Edit(
                "tobias", "the spring list came in on top",
                {"limits": [{"metric": "total_tokens", "window": "1d", "limit": 900_000}]},
            ),
        ),
    ),
    Plan(
        _NORDLYS, "Letters, tokens of a day", {
            "limits": [{"metric": "total_tokens", "window": "1d", "limit": 3_000_000}],
        },
        type="rate_limit", app="discharge-letters",
    ),
    Plan(
        _NORDLYS, "Four codings at a time", {"limits": [{"metric": "concurrent", "window": "none", "limit": 4}]},
        type="rate_limit", app="coding", description="The batch waits; the wards do not.",
    ),
    Plan(
        _TAMARIND, "The company's minute", {"limits": [{"metric": "requests", "window": "1m", "limit": 300}]},
        type="rate_limit",
    ),
    Plan(
        _TAMARIND, "Concierges at once", {
            "limits": [
                {"metric": "concurrent", "window": "none", "limit": 4},
                {"metric": "input_tokens", "window": "1d", "limit": 4_000_000, "models": ["openai/*"]},
            ],
        },
        type="rate_limit", app="concierge",
    ),
)  # fmt: skip

_CAPS = (
    Plan(
        _MARLOW, "Answers fit a page", {
            "max_output_tokens": 8_000, "default_max_output_tokens": 1_000, "on_exceed": "clamp",
        },
        type="token_caps", overridable=("max_output_tokens",),
    ),
    Plan(
        _MARLOW, "A reader's report is long", {"max_output_tokens": 32_000, "default_max_output_tokens": 4_000},
        type="token_caps", app="manuscripts",
    ),
    Plan(
        _NORDLYS, "No whole journals", {"max_input_tokens": 60_000, "on_exceed": "reject"},
        type="token_caps", message="Send the part of the journal that the letter is about.",
    ),
    Plan(
        _NORDLYS, "Short answers at night", {"max_output_tokens": 2_000, "default_max_output_tokens": 300},
        type="token_caps", app="night-line",
        schedule={
            "tz": "Europe/Oslo", "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
            "start": "22:00", "end": "06:00",
        },
    ),
    Plan(
        _TAMARIND, "A fare is one line", {"max_output_tokens": 1_000, "default_max_output_tokens": 200, "on_exceed": "clamp"},
        type="token_caps", app="fare-watch",
    ),
)  # fmt: skip

_ROUTES = (
    Plan(
        _MARLOW, "What smart means", {
            "aliases": {"smart": "anthropic/claude-opus-5-5"}, "timeout_ms": 120_000, "max_retries": 2,
        },
        type="routing",
    ),
    Plan(
        _MARLOW, "Smart enough for the counter", {
            "aliases": {"smart": "anthropic/claude-sonnet-5-5"}, "timeout_ms": 30_000,
        },
        type="routing", app="readers-desk", description="A customer waits for half a minute, no longer.",
        edits=(
            Edit(
                "harriet", "the counters timed out on Saturday afternoon",
                {"aliases": {"smart": "anthropic/claude-sonnet-5-5"}, "timeout_ms": 45_000},
            ),
        ),
    ),
    Plan(
        _NORDLYS, "One vendor, in this order", {
            "strategy": "fallback", "targets": ["mistral/mistral-large-4", "mistral/mistral-medium-3-5"],
            "providers": ["mistral"], "timeout_ms": 60_000,
        },
        type="routing", final=("strategy",), description="How we fall back is part of the contract; no app decides it.",
    ),
    Plan(
        _NORDLYS, "Letters stay in Europe", {"regions": ["eu-north-1", "eu-west-3"]},
        type="routing", app="discharge-letters", message="Letters are written in Stockholm or Paris only.",
    ),
    Plan(
        _NORDLYS, "Coding by price", {"strategy": "least_cost", "targets": ["mistral/mistral-medium-3-5"]},
        type="routing", app="coding",
    ),
    Plan(
        _TAMARIND, "What smart means", {"aliases": {"smart": "openai/gpt-5.6"}, "timeout_ms": 60_000, "max_retries": 3},
        type="routing",
    ),
)  # fmt: skip

_DATA = (
    Plan(
        _MARLOW, "Nobody's work as ours", {
            "guardrails": {"quoted-text": {"stages": ["output"], "action": "log", "threshold": 0.8}},
        },
        type="guardrail",
    ),
    Plan(_MARLOW, "What the house keeps", {"log_bodies": True, "redact_pii": True}, type="retention"),
    Plan(
        _MARLOW, "Legal hold, autumn list", {"min_days": 730}, type="retention", app="manuscripts",
        description="Our lawyers ask for two years: two authors dispute who wrote a chapter.",
    ),
    Plan(
        _MARLOW, "Manuscripts are read, never written", {
            "allow": [{"uri": "s3://marlow-manuscripts/*", "modes": ["list", "read"]}],
        },
        type="storage_access", app="manuscripts",
    ),
    Plan(
        _NORDLYS, "Patients have no names", {
            "fail_mode": "closed",
            "guardrails": {"patient-names": {"stages": ["input", "output"], "action": "mask", "threshold": 0.4}},
        },
        type="guardrail",
    ),
    Plan(
        _NORDLYS, "Nothing is kept", {"zero_retention": True}, type="retention",
        edits=(
            Edit("marit", "the authority wants names out of metadata too", {"zero_retention": True, "redact_pii": True}),
        ),
    ),
    Plan(
        _TAMARIND, "No cards in chats", {
            "fail_mode": "open", "guardrails": {"card-numbers": {"stages": ["input"], "action": "block"}},
        },
        type="guardrail", message="Never send a card number to us in a chat.",
    ),
    Plan(
        _TAMARIND, "The concierge does not pay", {
            "guardrails": {"payments": {"stages": ["tool_call"], "action": "block"}},
        },
        type="guardrail", app="concierge",
    ),
    Plan(_TAMARIND, "A season", {"max_days": 90}, type="retention"),
    Plan(
        _TAMARIND, "Colombo's own folders", {
            "allow": [{"uri": "s3://tamarind-trips/colombo*", "modes": ["list", "read", "write"]}],
        },
        type="storage_access", app="trip-planner", branch="COLOMBO",
    ),
)  # fmt: skip

POLICIES = (*_MODELS, *_MONEY, *_RATES, *_CAPS, *_ROUTES, *_DATA)
