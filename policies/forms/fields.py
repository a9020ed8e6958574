"""The inputs of each policy type, made from its schema: a field that is added there has its input here.

A shape that no input is known for gets one for JSON, so a form can always say what the schema allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from policies.forms.parts import ABSENT, Checks, Choice, Constant, Json, Lines, Number, Part, Text
from policies.forms.records import Record, Table
from policies.forms.words import EMPTY, EXAMPLES, FIELDS, ROWS, option
from policies.schemas import SCHEMAS, Closed, ScheduleConfig

Spec = Mapping[str, Any]
"""A JSON Schema, as pydantic writes it."""


@cache
def fields_of(policy_type: str) -> Record:
    """The inputs of a config of this type."""
    return _record_of(SCHEMAS[policy_type], policy_type)


@cache
def schedule_fields() -> Record:
    return _record_of(ScheduleConfig, "schedule")


def _record_of(schema: type[Closed], path: str) -> Record:
    spec = schema.model_json_schema()
    return Record(fields=dict(_Walk(spec.get("$defs", {})).fields(spec, path)))


class _Walk:
    """From a JSON Schema to parts. path: type and fields as in `policies.forms.words`."""

    def __init__(self, definitions: Mapping[str, Spec]) -> None:
        self.definitions = definitions

    def fields(self, spec: Spec, path: str) -> Iterator[tuple[str, Part]]:
        """The parts of an object: what is needed first, then the rest as it stands."""
        required = spec.get("required", ())
        for name, of in sorted(spec["properties"].items(), key=lambda item: item[0] not in required):
            yield name, self.part(of, f"{path}.{name}", name in required)

    def part(self, given: Spec, path: str, required: bool = False) -> Part:
        spec = self._plain(given)
        default = given.get("default")
        about: dict[str, Any] = {
            "label": FIELDS[path][0] if path in FIELDS else path.rpartition(".")[2].replace("_", " ").capitalize(),
            "help": FIELDS[path][1] if path in FIELDS else "",
            "default": ABSENT if default is None else default,
            "required": required,
            "placeholder": EXAMPLES.get(path, ""),
        }
        if "const" in spec:
            return Constant(**about)
        if "enum" in spec:
            return Choice(**about, choices=_options(spec["enum"]))
        match spec.get("type"):
            case "boolean":
                return Choice(**about, choices=[("true", "yes"), ("false", "no")], words=False)
            case "integer" | "number":
                return Number(**about)
            case "string":
                return Text(**about)
            case "array":
                return self._list(spec, path, about)
            case "object" if "properties" not in spec:
                return self._map(spec, path, about)
            case _:
                return Json(**about)

    def _list(self, spec: Spec, path: str, about: dict[str, Any]) -> Part:
        items = self._plain(spec["items"])
        nested = path.count(".") > 1
        empty = "" if spec.get("minItems") or nested else EMPTY.get(path, "Empty list")
        if "enum" in items:
            return Checks(**about, choices=_options(items["enum"]))
        if items.get("type") in ("string", "number", "integer"):
            return Lines(**about, inline=nested, numbers=items["type"] != "string", empty=empty)
        if "properties" in items and not nested:
            of = Record(fields=dict(self.fields(items, path)))
            return Table(**about, of=of, one=ROWS.get(path, "Entry"), empty=empty)
        return Json(**about)

    def _map(self, spec: Spec, path: str, about: dict[str, Any]) -> Part:
        patterns = spec.get("patternProperties") or {}
        values = next(iter(patterns.values()), spec.get("additionalProperties"))
        if not isinstance(values, Mapping) or len(patterns) > 1 or path.count(".") > 1:
            return Json(**about)
        plain = self._plain(values)
        of: Part
        if "properties" in plain:
            of = Record(fields=dict(self.fields(plain, path)))
        else:
            of = self.part(plain, f"{path}.value", required=True)
        key = self.part({"type": "string"}, f"{path}.key", required=True)
        return Table(**about, of=of, key=key, one=ROWS.get(path, "Entry"), empty=EMPTY.get(path, "Empty"))

    def _plain(self, spec: Spec) -> Spec:
        """Without null, and with what a reference points at."""
        others = [each for each in spec.get("anyOf", ()) if each.get("type") != "null"]
        if len(others) == 1:
            return self._plain(others[0])
        if "$ref" in spec:
            return self._plain(self.definitions[spec["$ref"].rpartition("/")[2]])
        return spec


def _options(values: list[str]) -> list[tuple[str, str]]:
    return [(value, option(value)) for value in values]
