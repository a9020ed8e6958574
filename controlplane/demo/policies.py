"""Which models the demo's organisations allow, at every level a policy can have. Declarations only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """A policy of type model_access. app: slug, branch: code, user: user name, key: name; "" = any.

    until: its end, after the seeding; None = none. overridable: names of config that a nearer policy may replace.
    """

    tenant: str
    name: str
    config: dict[str, list[str]]
    app: str = ""
    branch: str = ""
    user: str = ""
    key: str = ""
    message: str = ""
    description: str = ""
    overridable: tuple[str, ...] = ()
    priority: int = 0
    enabled: bool = True
    until: timedelta | None = None
    schedule: dict[str, Any] | None = field(default=None)


POLICIES = (
    ModelAccess(
        "marlow-daughters", "House providers", {"allow": ["anthropic/*", "openai/*"]},
        message="We have contracts with Anthropic and OpenAI. Ask Harriet if you need another provider.",
    ),
    ModelAccess(
        "marlow-daughters", "Manuscripts stay with Anthropic", {"allow": ["anthropic/*"]}, app="manuscripts",
        message="Our authors' contracts name Anthropic as the only processor of manuscripts.",
    ),
    ModelAccess(
        "marlow-daughters", "Blurbs are written cheaply", {"deny": ["*opus*", "openai/gpt-5.6"]}, app="back-catalogue",
        description="Thousands of blurbs a night: a dear model by mistake would show on the bill only.",
    ),
    ModelAccess(
        "marlow-daughters", "No long thinking at the counter", {"deny": ["*opus*"]}, app="readers-desk",
        branch="BLOOMSBURY", message="A customer waits: use quick.",
    ),
    ModelAccess("marlow-daughters", "Tobias tries GPT only", {"deny": ["anthropic/*"]}, user="tobias", enabled=False),
    ModelAccess(
        "nordlys-klinikk", "Providers in Europe", {"allow": ["mistral/*"]},
        message="Patient data stays with providers in Europe.",
        description="Decided by the data protection officer; no app may widen it.",
    ),
    ModelAccess(
        "nordlys-klinikk", "Coding needs no large model", {"deny": ["mistral/mistral-large-*"]}, app="coding",
    ),
    ModelAccess(
        "nordlys-klinikk", "Farah, until her training", {"deny": ["mistral/mistral-large-*"]}, app="night-line",
        user="farah", until=timedelta(days=30), message="Your training for this model is on its way.",
    ),
    ModelAccess(
        "tamarind-travel", "Closed unless an app opens it", {"allow": []}, overridable=("allow",),
        message="This app has no models yet. Ask Arjun to open some.",
    ),
    ModelAccess("tamarind-travel", "Nothing that will go away", {"deny": ["openai/gpt-5.4-nano", "*preview*"]}),
    ModelAccess(
        "tamarind-travel", "Models of the planner", {"allow": ["gemini/gemini-3.8-flash", "openai/gpt-5.6"]},
        app="trip-planner",
    ),
    ModelAccess(
        "tamarind-travel", "Models of the concierge", {"allow": ["openai/*", "anthropic/claude-sonnet-*"]},
        app="concierge",
    ),
    ModelAccess("tamarind-travel", "Models of Fare Watch", {"allow": ["gemini/*"]}, app="fare-watch", priority=10),
    ModelAccess(
        "tamarind-travel", "Colombo at night", {"deny": ["openai/*"]}, app="trip-planner", branch="COLOMBO",
        schedule={"tz": "Asia/Colombo", "days": ["mon", "tue", "wed", "thu", "fri"], "start": "22:00", "end": "06:00"},
        message="At night the desk uses quick alone.",
    ),
    ModelAccess(
        "tamarind-travel", "Kabir's workbench", {"deny": ["*opus*"]}, app="concierge", key="Kabir, workbench",
        until=timedelta(days=3),
    ),
)  # fmt: skip
