"""What must be true of a policy before it is written; the database refuses the rest, this explains.

Codes beyond those of policies.schemas: final_needs_nearest, overridable_needs_tight, unknown_field_in_flags,
validity_empty, branch_needs_app, branch_not_of_app, key_not_of_app, user_not_of_key, tenant_mismatch, unknown_model,
policy_type_frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db.models import Model

from catalog.errors import ModelDisabled, UnknownModel
from catalog.models import AIModel
from policies.merging import FIELDS
from policies.periods import FIRST, LAST
from policies.schemas import SCHEMAS, Closed, ScheduleConfig, problems
from tenants.models import APIKey, App, Branch, User

if TYPE_CHECKING:
    from policies.models import Policy

Fault = tuple[str, ValidationError]
"""Name of the field, and what is wrong with it."""


def check(policies: Sequence[Policy]) -> None:
    """Raise ValidationError, by field, for the first policy that must not be written. A few statements for all."""
    owners = _Owners.of(policies)
    for policy in policies:
        faults: dict[str, list[ValidationError]] = {}
        for name, fault in _faults(policy, owners):
            faults.setdefault(name, []).append(fault)
        if faults:
            raise ValidationError(faults)


def _faults(policy: Policy, owners: _Owners) -> Iterator[Fault]:
    if policy.policy_type in SCHEMAS:
        yield from _in_json("config", SCHEMAS[policy.policy_type], policy.config)
        yield from _in_flags(policy)
        yield from _in_models(policy)
    if policy.schedule is not None:
        yield from _in_json("schedule", ScheduleConfig, policy.schedule)
    yield from _in_validity(policy)
    if owners.types.get(policy.pk, policy.policy_type) != policy.policy_type:
        text = "The type of a policy is fixed once it is created. Create another policy."
        yield "policy_type", ValidationError(text, code="policy_type_frozen")
    yield from _in_scope(policy, owners)


def _in_json(name: str, schema: type[Closed], value: Any) -> Iterator[Fault]:
    for path, code, sentence in problems(schema, value):
        yield name, _at(path, f"{sentence}.", code)


def _at(path: str, text: str, code: str) -> ValidationError:
    """A fault inside a JSON value. The path is also its parameter `path`, so Django formats the text: % is doubled."""
    told = f"{path}: {text}" if path else text
    return ValidationError(told.replace("%", "%%"), code=code, params={"path": path})


def check_shapes(policy: Policy) -> None:
    """Raise ValidationError, by field, for what Django's own checks do not survive, and what the driver would refuse."""
    faults: dict[str, ValidationError] = {}
    for name in ("name", "description", "message"):
        text = getattr(policy, name)
        if text is None:
            faults[name] = ValidationError("Write a text, or leave it empty.", code="invalid")
        elif "\x00" in str(text) or str(text).encode("utf-8", "replace").decode() != str(text):
            faults[name] = ValidationError("This holds NUL or half characters. Remove them.", code="null_character")
    for name in ("overridable", "final"):
        flags = getattr(policy, name)
        if not (isinstance(flags, list | tuple) and all(isinstance(flag, str) for flag in flags)):
            faults[name] = ValidationError("Give a list of names of fields, as [].", code="invalid")
    for name in ("app", "branch", "user", "key"):
        if not _is_id(getattr(policy, f"{name}_id")):
            faults[name] = ValidationError(f"This is no id. Choose the {name}, or none.", code="invalid")
    if faults:
        raise ValidationError({name: [fault] for name, fault in faults.items()})


def _is_id(value: object) -> bool:
    if isinstance(value, str):
        try:
            value = UUID(value)
        except ValueError:
            return False
    return value is None or isinstance(value, UUID)


def _in_validity(policy: Policy) -> Iterator[Fault]:
    bounds = {name: at for name in ("valid_from", "valid_until") if (at := getattr(policy, name)) is not None}
    for name, at in bounds.items():
        if at.tzinfo is None:
            yield name, ValidationError("Write a time with its zone, as 2026-12-31T00:00:00Z.", code="no_instant")
            return
        if not FIRST <= at < LAST:
            text = "Write a time from the year 2 to 9998, or leave it empty: then there is no bound."
            yield name, ValidationError(text, code="time_out_of_range")
    if len(bounds) == 2 and bounds["valid_until"] <= bounds["valid_from"]:
        yield "valid_until", ValidationError("This ends before it begins. Choose a later end.", code="validity_empty")


def _in_flags(policy: Policy) -> Iterator[Fault]:
    fields = FIELDS[policy.policy_type]
    for flag, kind, code, why in (
        ("final", "preference", "final_needs_nearest", "is strict already, so it cannot be final"),
        ("overridable", "tight", "overridable_needs_tight", "is not strict, so there is nothing to open"),
    ):
        for field in getattr(policy, flag):
            if field not in fields:
                text = f"{policy.policy_type} has no field {field}. Use one of: {', '.join(fields)}."
                yield flag, ValidationError(text, code="unknown_field_in_flags")
            elif fields[field].kind != kind:
                yield flag, ValidationError(f"{field} {why}. Remove it.", code=code)


def _in_models(policy: Policy) -> Iterator[Fault]:
    """Targets and aliases of a routing policy name models that exist, by canonical id; disabled ones may come back."""
    if policy.policy_type != "routing" or next(problems(SCHEMAS["routing"], policy.config), None):
        return
    places = [(f"targets.{n}", model) for n, model in enumerate(policy.config.get("targets") or [])]
    places += [(f"aliases.{alias}", model) for alias, model in (policy.config.get("aliases") or {}).items()]
    for path, model in places:
        if not _exists(model, policy):
            text = f"there is no model {model}. Use the id of one in the catalog, as provider/name."
            yield "config", _at(path, text, "unknown_model")


def _exists(model: str, policy: Policy) -> bool:
    try:
        found: str = AIModel.objects.resolve(model, tenant=policy.tenant).canonical_id
    except UnknownModel:
        return False
    except ModelDisabled:
        return True
    return found.lower() == model.lower()


def _in_scope(policy: Policy, owners: _Owners) -> Iterator[Fault]:
    """What the composite foreign keys refuse, in words; and a user that is not the key's: that never applies."""
    for name in ("app", "branch", "user", "key"):
        id = getattr(policy, f"{name}_id")
        row = owners.rows[name].get(id)
        if id is not None and (row is None or row["tenant_id"] != policy.tenant_id):
            text = f"There is no such {name} here. Choose one of the same tenant."
            yield name, ValidationError(text, code="tenant_mismatch")
    if policy.branch_id and not policy.app_id:
        yield "branch", ValidationError("A branch needs its app. Choose the app too.", code="branch_needs_app")
    for name in ("branch", "key"):
        row = owners.rows[name].get(getattr(policy, f"{name}_id"))
        if row is not None and policy.app_id and row["app_id"] != policy.app_id:
            text = f"This {name} is not of this app. Choose one of the app."
            yield name, ValidationError(text, code=f"{name}_not_of_app")
    key = owners.rows["key"].get(policy.key_id)
    if key is not None and policy.user_id and key["user_id"] not in (None, policy.user_id):
        text = "This key belongs to another user, so the policy would never apply. Leave the user out."
        yield "user", ValidationError(text, code="user_not_of_key")


@dataclass(frozen=True)
class _Owners:
    """What is stored about the rows that some policies point at, and the types of those policies that exist."""

    rows: dict[str, dict[UUID | None, dict[str, Any]]]
    types: dict[UUID, str]

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> _Owners:
        stored = [policy for policy in policies if not policy._state.adding]
        manager = type(stored[0])._base_manager if stored else None
        return cls(
            rows={
                "app": _by_id(App, policies, "app_id", "tenant_id"),
                "branch": _by_id(Branch, policies, "branch_id", "tenant_id", "app_id"),
                "user": _by_id(User, policies, "user_id", "tenant_id"),
                "key": _by_id(APIKey, policies, "key_id", "tenant_id", "app_id", "user_id"),
            },
            types=dict(manager.filter(pk__in=[p.pk for p in stored]).values_list("pk", "policy_type"))
            if manager
            else {},
        )


def _by_id(
    model: type[Model], policies: Iterable[Policy], attribute: str, *columns: str
) -> dict[UUID | None, dict[str, Any]]:
    wanted = {getattr(policy, attribute) for policy in policies} - {None}
    if not wanted:
        return {}
    return {row["pk"]: row for row in model._base_manager.filter(pk__in=wanted).values("pk", *columns)}
