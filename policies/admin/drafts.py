"""A policy as it is being written: its columns as a Django form, its JSON as inputs made from the schema of its type."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.forms.models import construct_instance
from django.utils.datastructures import MultiValueDict

from policies.admin.asking import AskedField, KeyField, Moment
from policies.forms.fields import fields_of, schedule_fields
from policies.forms.nodes import Node
from policies.forms.parts import ABSENT, Json, Reading, Sent, first
from policies.forms.records import Table, more_rows
from policies.merging import FIELDS
from policies.models import Policy
from policies.models.policy import SCOPE
from policies.schemas import SCHEMAS, problems
from tenants.models import APIKey, App, Branch, User

MOST_INPUTS = 700
"""Above it a config is edited as JSON: a browser's answer may have 1,000 inputs."""
COLUMNS = (
    "name", "enabled", "app", "branch", "user", "key", "priority", "valid_from", "valid_until", "message", "description",
)  # fmt: skip
_FLAGS = {
    "tight": ("overridable", "Nearer policies may loosen it"),
    "preference": ("final", "Locked for nearer policies"),
}


@dataclass(frozen=True)
class Flag:
    """The box beside a field that opens or locks it."""

    name: str
    value: str
    label: str
    checked: bool

    @property
    def id(self) -> str:
        return f"id_{self.name}_{self.value}"


@dataclass(frozen=True)
class Setting:
    """A field of the config: its input, and its flag if it may have one."""

    node: Node
    flag: Flag | None


class Instant(Moment):
    """To the millisecond also where it shows what is stored; Django would show whole seconds."""

    supports_microseconds = True


def _within(model: Any, kind: type[AskedField] = AskedField, **options: Any) -> AskedField:
    return kind(model._default_manager.none(), required=False, **options)


class PolicyForm(forms.ModelForm):  # type: ignore[type-arg]
    """One policy, whose tenant and type are known. sent: what a browser answered, None for what is stored.

    `is_valid` judges it as `save()` would. Everything that is wrong stands at the input it was typed into; `instance` is
    then the policy as it would be, and the one it was made from has not changed.
    """

    app = _within(App, help_text="Short name or id.")
    branch = _within(Branch, help_text="Code or id; needs its app.")
    user = _within(User, help_text="E-mail or id.")
    key = _within(APIKey, KeyField, label="API key", help_text="Prefix, name or id.")
    valid_from = forms.DateTimeField(
        required=False, label="From (UTC)", widget=Instant, help_text="Empty: no beginning."
    )
    valid_until = forms.DateTimeField(required=False, label="Until (UTC)", widget=Instant, help_text="Empty: no end.")

    class Meta:
        model = Policy
        fields = COLUMNS
        widgets = {
            "message": forms.TextInput(attrs={"class": "vLargeTextField"}),
            "description": forms.Textarea(attrs={"rows": 2, "class": "vLargeTextField"}),
        }

    def __init__(self, policy: Policy, sent: Sent | None = None, initial: dict[str, Any] | None = None) -> None:
        self.stored = policy
        self.parts = fields_of(policy.policy_type)
        self.sent = _written(policy) if sent is None else sent
        self.reading = Reading()
        data = None if sent is None else MultiValueDict(sent)
        super().__init__(data, instance=copy.copy(policy), initial=initial)
        for name in ("app", "branch", "user", "key"):
            field: Any = self.fields[name]
            field.within(tenant=policy.tenant)
            field.offered = sent is None or not first(sent, name)

    @property
    def as_json(self) -> bool:
        return first(self.sent, "as") == "json"

    @property
    def version(self) -> int:
        """Which version of the policy the form was made from; 0 for a new one."""
        text = first(self.sent, "version")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0

    @property
    def stale(self) -> bool:
        return not self.stored._state.adding and self.version != self.stored.version

    # ------------------------------------------------------------ reading

    def clean_valid_from(self) -> datetime | None:
        return self._instant("valid_from")

    def clean_valid_until(self) -> datetime | None:
        return self._instant("valid_until")

    def _instant(self, name: str) -> datetime | None:
        """What was typed; untouched, the stored instant, of which the input shows no microseconds."""
        stored: datetime | None = getattr(self.stored, name)
        untouched = first(self.sent, name) == (Instant().format_value(stored) or "")
        return stored if untouched else self.cleaned_data[name]

    def _post_clean(self) -> None:
        self.instance = construct_instance(self, self.instance, COLUMNS)
        self.read()
        for judge in (lambda: self.instance.clean_fields(exclude=[*SCOPE, *self.errors]), self.instance.clean):
            try:
                judge()
            except ValidationError as refused:
                for name, errors in refused.error_dict.items():
                    self._place(name, errors)

    def read(self) -> None:
        """Put what was sent for the JSON columns and the flags into `instance`."""
        self.reading = Reading(places={"": "config"})
        config = (Json() if self.as_json else self.parts).read(self.sent, "config", "", self.reading)
        self.instance.config = {} if config is ABSENT else config
        schedule = Reading(places={"": "schedule"})
        parts = schedule_fields()
        value = parts.read(self.sent, "schedule", "", schedule)
        self.instance.schedule = None if parts.blank(self.sent, "schedule") else value
        self.schedule_reading = schedule
        for flag in ("overridable", "final"):
            stored, chosen = getattr(self.stored, flag), list(dict.fromkeys(self.sent.get(flag, ())))
            setattr(self.instance, flag, stored if sorted(stored) == sorted(chosen) else chosen)

    def _place(self, name: str, errors: Sequence[ValidationError]) -> None:
        """Each fault to its input: of a column, or of the JSON by its path."""
        for error in errors:
            if name in self.fields:
                if name not in self.errors:
                    self.add_error(name, error)
            elif name in ("config", "schedule"):
                path = (error.params or {}).get("path", "")
                reading = self.reading if name == "config" else self.schedule_reading
                whole = " ".join(error.messages)
                if name == "config" and self.as_json:
                    reading.fault("config", whole)
                else:
                    reading.fault_at(path, whole.removeprefix(f"{path}: "))
            elif name == NON_FIELD_ERRORS:
                self.add_error(None, error)
            else:
                self.reading.fault("config", " ".join(error.messages))

    @property
    def faults(self) -> dict[str, list[str]]:
        """What is wrong with inputs that are no form fields."""
        if not self.is_bound:
            return {}
        self.errors  # noqa: B018  judges, once
        return {**self.reading.faults, **self.schedule_reading.faults}

    def is_valid(self) -> bool:
        return super().is_valid() and not self.faults

    # ------------------------------------------------------------ showing

    def settings(self, judged: bool = True) -> list[Setting]:
        """The inputs of the config. judged: with what is wrong."""
        faults = self.faults if judged else {}
        named = self.parts.fields.items()
        return [
            Setting(part.node(self.sent, f"config.{name}", faults), self._flag(name))
            for name, part in ([] if self.as_json else named)
        ]

    def kept(self) -> list[tuple[str, str]]:
        """(name, text) of what no input shows and the browser has to send back."""
        names = ("id", "version", "as", "config.was", "schedule.was")
        return [(name, first(self.sent, name)) for name in names if name in self.sent]

    def flags(self) -> list[tuple[str, Flag]]:
        """(field, flag) of every field that may have one, for the form that shows the config as JSON."""
        return [(name, flag) for name in self.parts.fields if (flag := self._flag(name))]

    def _flag(self, name: str) -> Flag | None:
        kind = FIELDS[self.stored.policy_type][name].kind
        if kind not in _FLAGS:
            return None
        flag, label = _FLAGS[kind]
        return Flag(flag, name, label, name in self.sent.get(flag, ()))

    def config_node(self, judged: bool = True) -> Node:
        return Json(label="Config as JSON").node(self.sent, "config", self.faults if judged else {})

    def config_faults(self, judged: bool = True) -> Sequence[str]:
        return self.faults.get("config", ()) if judged else ()

    def schedule_nodes(self, judged: bool = True) -> list[Node]:
        return schedule_fields().nodes(self.sent, "schedule", self.faults if judged else {})

    def schedule_faults(self, judged: bool = True) -> Sequence[str]:
        return self.faults.get("schedule", ()) if judged else ()

    def as_sent(self) -> Sent:
        """What a browser would send back of this form, untouched: for a draft that nobody has typed."""
        columns: Sent = {}
        for name in COLUMNS:
            bound = self[name]
            shown = bound.field.widget.format_value(bound.value()) if name != "enabled" else None
            if name == "enabled":
                columns |= {name: ["on"]} if self.instance.enabled else {}
            else:
                columns[name] = ["" if shown is None else str(shown)]
        return {**self.sent, **columns}

    # ------------------------------------------------------------ other ways to write the same

    def with_rows(self, name: str) -> Sent:
        """What was sent, with further blank rows in a table."""
        known = {f"config.{each}" for each, part in self.parts.fields.items() if isinstance(part, Table)}
        return more_rows(self.sent, name, 3) if name in known else self.sent

    def turned(self, how: str) -> Sent:
        """What was sent, with the config as JSON or as fields; unchanged where it does not fit into fields."""
        self.read()
        rest = {name: texts for name, texts in self.sent.items() if name != "config" and not name.startswith("config.")}
        if how == "json":
            return {**rest, "as": ["json"], "config": [_text(self.instance.config)]}
        if self.reading.faults or not _fits(self.instance):
            return self.sent
        return {**rest, **_fields(self.instance), "as": ["fields"]}


def _written(policy: Policy) -> Sent:
    """What a browser would send for a stored policy, but for its columns."""
    sent = {"version": [str(0 if policy._state.adding else policy.version)], "final": [*policy.final]}
    # A new policy has its id from the first page on: sent twice, it is made once.
    sent |= {"id": [str(policy.pk)]} if policy._state.adding else {}
    sent |= {"overridable": [*policy.overridable], "as": ["fields"]}
    if policy.schedule is not None:
        sent |= schedule_fields().write("schedule", policy.schedule)
    return sent | (_fields(policy) if _fits(policy) else {"as": ["json"], "config": [_text(policy.config)]})


def _fields(policy: Policy) -> Sent:
    parts = fields_of(policy.policy_type)
    sent = parts.write("config", policy.config)
    for name, part in parts.fields.items():
        if isinstance(part, Table):
            sent = more_rows(sent, f"config.{name}", 1)
    return sent


def _fits(policy: Policy) -> bool:
    """Whether the inputs can hold a config: it fits its schema, and is not too long."""
    if next(problems(SCHEMAS[policy.policy_type], policy.config), None):
        return False
    return sum(map(len, fields_of(policy.policy_type).write("config", policy.config).values())) <= MOST_INPUTS


def _text(config: Any) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False)
