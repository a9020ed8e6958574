"""Rules that look at one policy at a time, beside the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from policies.lint.findings import Finding
from policies.lint.ground import Ground, lower
from policies.operators import Row
from policies.periods import Window
from policies.resolution import StoredPolicy
from policies.schemas import SCHEMAS, problems

_LONG = timedelta(days=22)
"""In so many days a weekly schedule holds at least once, even if a change of the clock skips it the first time."""


def stored_invalid(ground: Ground) -> Iterator[Finding]:
    for one in ground.live:
        if not one.valid:
            policy = ground.policies[one.row.id]
            fault = next(problems(SCHEMAS[policy.policy_type], policy.config), None)
            what = "its schedule names a time zone that this machine lacks"
            if fault is not None:
                what = f"{fault[0]}: {fault[2]}" if fault[0] else fault[2]
            yield Finding.of(
                "stored_invalid",
                [one.row.id],
                f"{ground.label(one.row.id)} cannot be read ({what}), so every check of {policy.policy_type} is refused "
                "where it applies. Repair or disable it.",
            )


def schedule_never_active(ground: Ground) -> Iterator[Finding]:
    for one in ground.live:
        if one.valid and one.window.schedule is not None and not _ever(one.window, ground.at):
            yield Finding.of(
                "schedule_never_active",
                [one.row.id],
                f"{ground.label(one.row.id)} never applies: its schedule holds at no time between its first and its "
                "last instant. Change the schedule, or move valid_from and valid_until.",
            )


def _ever(window: Window, at: datetime) -> bool:
    """Whether a window with a schedule holds at some instant of its whole validity, past or to come."""
    begin = window.valid_from or at - _LONG
    if window.schedule is None or window.valid_until is None or window.valid_until - begin > _LONG:
        return True
    return any(not window.why_not(instant) for instant in (begin, *window.schedule.edges(begin, window.valid_until)))


def empty_config(ground: Ground) -> Iterator[Finding]:
    for one in ground.live:
        if all(value is None for value in one.row.config.values()):
            yield Finding.of(
                "empty_config",
                [one.row.id],
                f"{ground.label(one.row.id)} says nothing, so it changes nothing. Fill it in, or delete it.",
            )


def disabled(ground: Ground) -> Iterator[Finding]:
    for policy in ground.policies.values():
        if not policy.enabled:
            yield Finding.of(
                "disabled",
                [policy.pk],
                f"{ground.label(policy.pk)} is switched off. Delete it if nobody will switch it on again.",
            )


def override_without_effect(ground: Ground) -> Iterator[Finding]:
    for one in ground.live:
        row, label = one.row, ground.label(one.row.id)
        for flag, names in (("overridable", row.overridable), ("final", row.final)):
            for name in sorted(names):
                if row.config.get(name) is None:
                    yield Finding.of(
                        "override_without_effect",
                        [row.id],
                        f"{label} names {name} in {flag} but does not set it. Set {name}, or take it out of {flag}.",
                    )
        if one.valid and _opens_own_counters_only(row):
            yield Finding.of(
                "override_without_effect",
                [row.id],
                f"{label} opens limits that count for its own scope only, and no nearer policy has a limit on the same "
                "counter. Take limits out of overridable, or count per app, branch, user or key.",
            )


def _opens_own_counters_only(row: Row) -> bool:
    limits = row.config.get("limits")
    return bool(limits) and "limits" in row.overridable and all(e.get("per", "scope") == "scope" for e in limits or [])


def storage_prefix_boundary(ground: Ground) -> Iterator[Finding]:
    for one in ground.sound("storage_access"):
        for name in ("allow", "deny"):
            for entry in one.row.config.get(name) or []:
                uri = entry["uri"].rstrip("*")
                if entry["uri"] != uri and uri and uri[-1].isalnum():
                    yield Finding.of(
                        "storage_prefix_boundary",
                        [one.row.id],
                        f"{ground.label(one.row.id)}: {entry['uri']} in {name} also covers {uri}2/…, whose name only "
                        f"begins alike. Write {uri}/* for what is inside it.",
                    )


def counter_shared(ground: Ground) -> Iterator[Finding]:
    """A key belongs to one app, so a counter per key is an app's own; a branch likewise."""
    for one in [*ground.sound("budget"), *ground.sound("rate_limit")]:
        policy = ground.policies[one.row.id]
        within = {name for name in ("app", "branch", "user", "key") if getattr(policy, f"{name}_id") is not None}
        private = {"app": {"app"}, "branch": {"app", "branch"}, "user": {"user"}, "key": {"app", "key"}}
        for per in sorted({entry.get("per", "scope") for entry in one.row.config.get("limits") or []} - {"scope"}):
            if within - private[per]:
                yield Finding.of(
                    "counter_shared",
                    [one.row.id],
                    f"{ground.label(one.row.id)} counts per {per}, and a {per} has one counter everywhere: what other "
                    f"limits of this kind count outside {policy.scope_label()} counts here too. To count apart, write a "
                    f"limit for each {per} together with this scope.",
                )


def glob_overreach(ground: Ground) -> Iterator[Finding]:
    """`gpt-4*` is written for gpt-4 and gpt-4-turbo, and names gpt-4o too: the run of letters goes on."""
    for one in ground.sound("model_access"):
        for name, pattern in _patterns(one.row):
            beginning, star, rest = pattern.partition("*")
            if not star or rest or "?" in beginning or not beginning[-1:].isalnum():
                continue
            named = [model if "/" in pattern else model.partition("/")[2] for model in _named(ground, pattern)]
            beyond = [model for model in named if model[len(beginning) : len(beginning) + 1].isalnum()]
            if beyond and len(beyond) < len(named):
                yield Finding.of(
                    "glob_overreach",
                    [one.row.id],
                    f"{ground.label(one.row.id)}: {pattern} in {name} also names {_few(beyond)}, of another name than "
                    f"{beginning}. Write {beginning} and {beginning}-* if these are not meant.",
                )


def dead_allow(ground: Ground) -> Iterator[Finding]:
    """Entries that name no model at all; those that others make pointless are found where policies are merged."""
    for one, pattern in _nameless(ground):
        if lower(pattern) not in ground.aliases:
            yield Finding.of(
                "dead_allow",
                [one.row.id],
                f"{ground.label(one.row.id)}: {pattern} in allow names no model of the catalogue. Correct or remove it.",
            )


def allow_names_alias(ground: Ground) -> Iterator[Finding]:
    for one, pattern in _nameless(ground):
        if lower(pattern) in ground.aliases:
            yield Finding.of(
                "allow_names_alias",
                [one.row.id],
                f"{ground.label(one.row.id)}: {pattern} in allow is an alias, and allow is asked about the model behind "
                "it. Write the model.",
            )


def alias_target_gone(ground: Ground) -> Iterator[Finding]:
    for one in ground.sound("routing"):
        aliases = one.row.config.get("aliases") or {}
        places = [(f"the alias {alias}", model) for alias, model in aliases.items()]
        places += [("targets", model) for model in one.row.config.get("targets") or []]
        for place, model in places:
            if lower(model) not in ground.catalogue.ids:
                yield Finding.of(
                    "alias_target_gone",
                    [one.row.id],
                    f"{ground.label(one.row.id)}: {place} names {model}, which is no model of the catalogue any more. "
                    "Name another one.",
                )


def alias_shadows_model(ground: Ground) -> Iterator[Finding]:
    for one in ground.sound("routing"):
        for alias, target in (one.row.config.get("aliases") or {}).items():
            hidden = ground.catalogue.keys.get(alias)
            if hidden is not None and lower(hidden) != lower(target):
                yield Finding.of(
                    "alias_shadows_model",
                    [one.row.id],
                    f"{ground.label(one.row.id)}: the alias {alias} is also the name of the model {hidden}, which is no "
                    f"longer reached by it: calls go to {target}. Choose another alias if that is not meant.",
                )


def _patterns(row: Row) -> Iterator[tuple[str, str]]:
    for name in ("allow", "deny"):
        for pattern in row.config.get(name) or []:
            yield name, pattern


def _nameless(ground: Ground) -> Iterator[tuple[StoredPolicy, str]]:
    """Entries of allow lists that name no model; none while the catalogue is empty, as everything would be one."""
    for one in ground.sound("model_access") if ground.catalogue.models else ():
        for pattern in one.row.config.get("allow") or []:
            if not ground.catalogue.named(pattern):
                yield one, pattern


def _named(ground: Ground, pattern: str) -> list[str]:
    return [*ground.catalogue.list(ground.catalogue.named(pattern))]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return f"{', '.join(names[:2])}{more}"
