"""The peers, each in its best form: for every pair an engine of its own that holds the applicable policies alone, made before.

None has layers of lists that all must name a model, so a list becomes a rule that refuses what it does not name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import casbin
import cedarpy
import vakt
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from guardian.core import ObjectPermissionChecker
from guardian.models import GroupObjectPermission
from vakt.rules import And, Eq, Not, Or
from vakt.rules import Any as Anything
from vakt.rules.string import EndsWith, Equal, StartsWith

from benchmarks.policies_set import Pair, Rule
from catalog.models import AIModel

for talkative in ("casbin", "vakt"):
    logging.getLogger(talkative).setLevel(logging.WARNING)  # they would write a line for each answer

Ask = Callable[[str], bool]
"""Whether the pair whose engine this is may call a model."""

Engine = Callable[[Pair, list[Rule]], Ask]


# pycasbin: the rules are rows, and a function says whether one refuses.


@cache
def _parsed(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    kind, *patterns = text.split("|")
    return kind, tuple(p for p in patterns if "*" not in p), tuple(p for p in patterns if "*" in p)


def _refuses(model: str, text: str) -> bool:
    kind, whole, globs = _parsed(text)
    named = model in whole or any(model.startswith(p[:-1]) if p.endswith("*") else model.endswith(p[1:]) for p in globs)
    return named if kind == "deny" else not named


def _casbin(owners: bool) -> casbin.Enforcer:
    model = casbin.Model()
    model.add_def("r", "r", "app, user, model" if owners else "model")
    model.add_def("p", "p", "owner, text, eft")
    model.add_def("e", "e", "!some(where (p.eft == deny))")
    mine = '(p.owner == r.app || p.owner == r.user || p.owner == "org") && ' if owners else ""
    model.add_def("m", "m", f"{mine}refuses(r.model, p.text)")
    enforcer = casbin.Enforcer(model)
    enforcer.add_function("refuses", _refuses)
    return enforcer


def _casbin_rows(applicable: list[Rule]) -> list[list[str]]:
    rows = [[rule.owner, "|".join(["allow", *rule.allow]), "deny"] for rule in applicable if rule.allow is not None]
    return rows + [[rule.owner, "|".join(["deny", *rule.deny]), "deny"] for rule in applicable if rule.deny]


def casbin_sliced(_: Pair, applicable: list[Rule]) -> Ask:
    enforcer = _casbin(owners=False)
    enforcer.add_policies(_casbin_rows(applicable))
    return enforcer.enforce


def casbin_whole(everything: list[Rule]) -> Callable[[Pair, str], bool]:
    enforcer = _casbin(owners=True)
    enforcer.add_policies(_casbin_rows(everything))
    return lambda pair, model: enforcer.enforce(pair.app, pair.user, model)


# Cedar: its text is parsed once, and so is the context of each model.


def _cedar_text(rule: Rule, owner: str) -> str:
    def named(patterns: tuple[str, ...]) -> str:
        return " || ".join(f'context.model like "{pattern}"' for pattern in patterns) or "false"

    text = f"forbid({owner}) unless {{ {named(rule.allow)} }};" if rule.allow is not None else ""
    return text + (f"forbid({owner}) when {{ {named(rule.deny)} }};" if rule.deny else "")


_EVERYBODY = "principal, action, resource"


def _cedar_owner(owner: str) -> str:
    if owner == "org":
        return _EVERYBODY
    level = f'principal, action, resource == App::"{owner}"' if owner.startswith("app") else ""
    return level or f'principal == User::"{owner}", action, resource'


def _cedar(pair: Pair, policies: cedarpy.PolicySet) -> Ask:
    nobody = cedarpy.Entities.from_json_str("[]")
    of_pair = {"principal": f'User::"{pair.user}"', "action": 'Action::"call"', "resource": f'App::"{pair.app}"'}

    @cache
    def request(model: str) -> dict[str, str]:
        return {**of_pair, "context": f'{{"model": "{model}"}}'}

    return lambda model: cedarpy.is_authorized(request(model), policies, nobody).allowed


def cedar_sliced(pair: Pair, applicable: list[Rule]) -> Ask:
    text = f"permit({_EVERYBODY});" + "".join(_cedar_text(rule, _EVERYBODY) for rule in applicable)
    return _cedar(pair, cedarpy.PolicySet.from_str(text))


def cedar_whole(everything: list[Rule]) -> Callable[[Pair, str], bool]:
    text = f"permit({_EVERYBODY});" + "".join(_cedar_text(rule, _cedar_owner(rule.owner)) for rule in everything)
    policies = cedarpy.PolicySet.from_str(text)
    asks: dict[Pair, Ask] = {}

    def ask(pair: Pair, model: str) -> bool:
        if pair not in asks:
            asks[pair] = _cedar(pair, policies)
        return asks[pair](model)

    return ask


# vakt: its own rules for the beginning, the end and the whole of a text.


def _vakt_names(patterns: tuple[str, ...]) -> vakt.rules.base.Rule:
    rules = [
        StartsWith(p[:-1]) if p.endswith("*") else EndsWith(p[1:]) if p.startswith("*") else Equal(p) for p in patterns
    ]
    return rules[0] if len(rules) == 1 else Or(*rules)


def _vakt_add(storage: vakt.MemoryStorage, name: str, effect: str, named: Any, app: str = "", user: str = "") -> None:
    """A policy about the models that are named. app, user: whose calls it meets, "" = all."""
    storage.add(
        vakt.Policy(
            name,
            effect=effect,
            actions=[Eq(app) if app else Anything()],
            subjects=[Eq(user) if user else Anything()],
            resources=[named],
        )
    )


def vakt_sliced(pair: Pair, applicable: list[Rule]) -> Ask:
    """Two policies, what is allowed and what is denied: half as fast again as one for each rule."""
    storage = vakt.MemoryStorage()
    _vakt_add(storage, "a", vakt.ALLOW_ACCESS, And(*(_vakt_names(rule.allow) for rule in applicable if rule.allow)))
    _vakt_add(storage, "d", vakt.DENY_ACCESS, _vakt_names(tuple(p for rule in applicable for p in rule.deny)))
    guard = vakt.Guard(storage, vakt.RulesChecker())

    @cache
    def inquiry(model: str) -> vakt.Inquiry:
        return vakt.Inquiry(resource=model, action=pair.app, subject=pair.user)

    return lambda model: guard.is_allowed(inquiry(model))


def vakt_whole(everything: list[Rule]) -> Callable[[Pair, str], bool]:
    storage = vakt.MemoryStorage()
    _vakt_add(storage, "all", vakt.ALLOW_ACCESS, Anything())
    for rule in everything:
        app, user = (rule.owner if rule.owner.startswith(level) else "" for level in ("app", "user"))
        if rule.allow is not None:
            _vakt_add(storage, f"{rule.owner} allow", vakt.DENY_ACCESS, Not(_vakt_names(rule.allow)), app, user)
        if rule.deny:
            _vakt_add(storage, f"{rule.owner} deny", vakt.DENY_ACCESS, _vakt_names(rule.deny), app, user)
    guard = vakt.Guard(storage, vakt.RulesChecker())
    return lambda pair, model: guard.is_allowed(vakt.Inquiry(resource=model, action=pair.app, subject=pair.user))


# django-guardian knows permissions that were given, nothing else: it is handed the answers, and keeps them per group.


class Guardian:
    def __init__(self, answers: dict[Pair, list[str]]) -> None:
        """answers: the models that each pair may call."""
        self._models = {
            f"{model.provider.slug}/{model.name}": model for model in AIModel.objects.select_related("provider")
        }
        kind = ContentType.objects.get_for_model(AIModel)
        permission = Permission.objects.get(content_type=kind, codename="view_aimodel")
        groups = Group.objects.bulk_create(Group(name=f"{pair.app} {pair.user}") for pair in answers)
        self._groups = dict(zip(answers, groups, strict=True))
        GroupObjectPermission.objects.bulk_create(
            GroupObjectPermission(
                group=self._groups[pair], permission=permission, content_type=kind, object_pk=str(self._models[name].pk)
            )
            for pair, names in answers.items()
            for name in names
        )

    def sliced(self, pair: Pair, _: list[Rule]) -> Ask:
        checker = ObjectPermissionChecker(self._groups[pair])
        checker.prefetch_perms([*self._models.values()])
        models = self._models
        return lambda model: checker.has_perm("view_aimodel", models[model])


SLICED: dict[str, Engine] = {"casbin": casbin_sliced, "cedarpy": cedar_sliced, "vakt": vakt_sliced}
WHOLE = {"casbin": casbin_whole, "cedarpy": cedar_whole, "vakt": vakt_whole}
