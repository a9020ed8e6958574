"""What every engine is asked: 1 organization's, 50 apps' and 5,000 users' policies; may this user of this app call this model?"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fnmatch import fnmatchcase

from catalog.models import AIModel, Provider
from policies.models import Policy
from tenants.models import App, Tenant, User

APPS, USERS, PAIRS, CHECKED = 50, 5_000, 300, 60

MODELS = (
    "openai/gpt-4o", "openai/gpt-4o-mini", "openai/o1-preview", "anthropic/claude-opus-4", "anthropic/claude-sonnet-4",
    "mistral/large", "cohere/command-r",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One policy. owner: `org`, `app:<n>` or `user:<n>`. allow: a list that has to name the model, None = no word about it.

    Patterns are `prefix*`, `*suffix` or a whole id, so that every engine has a form of its own for them.
    """

    owner: str
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A user of an app."""

    app: str
    user: str


def rules() -> list[Rule]:
    chance = random.Random(5)  # noqa: S311 - the same set every time
    families = ("openai/*", "anthropic/*", "mistral/large", "openai/gpt-4o*")
    found = [Rule("org", allow=("openai/*", "anthropic/*", "mistral/*"), deny=("*-preview",))]
    found += [Rule(f"app:{n}", allow=tuple(chance.sample(families, 3))) for n in range(APPS)]
    for n in range(USERS):
        if n % 2:
            found.append(Rule(f"user:{n}", allow=tuple(chance.sample((*families, *MODELS[:2]), 3))))
        else:
            found.append(Rule(f"user:{n}", deny=tuple(chance.sample(MODELS, 2))))
    return found


def pairs() -> list[Pair]:
    chance = random.Random(7)  # noqa: S311
    users = chance.sample(range(USERS), PAIRS)
    return [Pair(f"app:{chance.randrange(APPS)}", f"user:{user}") for user in users]


def sliced(by_owner: dict[str, Rule], pair: Pair) -> list[Rule]:
    """The policies that apply to a pair."""
    return [by_owner["org"], by_owner[pair.app], by_owner[pair.user]]


def reference(applicable: list[Rule], model: str) -> bool:
    """The answer by the rules themselves: denied by nobody, named by every list."""
    if any(fnmatchcase(model, pattern) for rule in applicable for pattern in rule.deny):
        return False
    lists = [rule.allow for rule in applicable if rule.allow is not None]
    return all(any(fnmatchcase(model, pattern) for pattern in allow) for allow in lists)


class Stored:
    """The set in our tables. app, user: rows by the names of the rules."""

    def __init__(self, listed: list[Rule]) -> None:
        self.tenant = Tenant.objects.create(slug="bench-policies", name="Bench")
        apps = App.objects.bulk_create(App(tenant=self.tenant, slug=f"app-{n}", name=f"App {n}") for n in range(APPS))
        users = User.objects.bulk_create(
            User(tenant=self.tenant, email=f"user-{n}@bench.example", password="!", role="viewer")  # noqa: S106
            for n in range(USERS)
        )
        self.app = {f"app:{n}": row for n, row in enumerate(apps)}
        self.user = {f"user:{n}": row for n, row in enumerate(users)}
        Policy.objects.bulk_create(self._row(rule) for rule in listed)
        for model in MODELS:
            slug, _, name = model.partition("/")
            provider, _ = Provider.objects.get_or_create(slug=slug, defaults={"name": slug})
            AIModel.objects.create(provider=provider, key=name, name=name)

    def _row(self, rule: Rule) -> Policy:
        config = {"allow": rule.allow and list(rule.allow), "deny": list(rule.deny)}
        app, user = self.app.get(rule.owner), self.user.get(rule.owner)
        return Policy(tenant=self.tenant, app=app, user=user, policy_type="model_access", config=config)
