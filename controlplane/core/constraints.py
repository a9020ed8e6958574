from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import DEFAULT_DB_ALIAS, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models.constraints import BaseConstraint


class TenantForeignKey(BaseConstraint):
    """A composite foreign key: the row that `fields` point at has the same tenant, or the database refuses the row.

    fields: names on this model, tenant first, as ("tenant", "app"). to: label of the model pointed at. to_fields: as
    many names there, with a unique constraint over them. Rows with a NULL among their fields are not checked (MATCH
    SIMPLE). The foreign key fields themselves carry `db_constraint=False`: this constraint is the stronger one.
    deferred: it is checked when the transaction ends, for two rows that point at each other.
    """

    default_violation_error_message = "This row belongs to another tenant. Choose one of the same tenant."
    violation_error_code = "wrong_tenant"

    def __init__(
        self,
        *,
        fields: Sequence[str],
        to: str,
        name: str,
        to_fields: Sequence[str] = ("tenant", "id"),
        deferred: bool = False,
        violation_error_code: str | None = None,
        violation_error_message: str | None = None,
    ) -> None:
        if len(fields) != len(to_fields):
            raise ValueError(f"{name}: fields and to_fields differ in number.")
        self.fields, self.to, self.to_fields, self.deferred = tuple(fields), to, tuple(to_fields), deferred
        super().__init__(
            name=name, violation_error_code=violation_error_code, violation_error_message=violation_error_message
        )

    def constraint_sql(  # type: ignore[override]  # Django always gives both
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> str:
        target = model._meta.apps.get_model(self.to)
        quote = schema_editor.quote_name
        return "CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} ({}) DEFERRABLE INITIALLY {}".format(
            quote(self.name),
            ", ".join(quote(column) for column in _columns(model, self.fields)),
            quote(target._meta.db_table),
            ", ".join(quote(column) for column in _columns(target, self.to_fields)),
            "DEFERRED" if self.deferred else "IMMEDIATE",
        )

    def create_sql(  # type: ignore[override]
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> str:
        return f"ALTER TABLE {schema_editor.quote_name(model._meta.db_table)} ADD " + self.constraint_sql(
            model, schema_editor
        )

    def remove_sql(  # type: ignore[override]
        self, model: type[models.Model], schema_editor: BaseDatabaseSchemaEditor
    ) -> str:
        quote = schema_editor.quote_name
        return f"ALTER TABLE {quote(model._meta.db_table)} DROP CONSTRAINT {quote(self.name)}"

    def validate(
        self,
        model: type[models.Model],
        instance: models.Model,
        exclude: Iterable[str] | None = None,
        using: str = DEFAULT_DB_ALIAS,
    ) -> None:
        if any(field in (exclude or ()) for field in self.fields):
            return
        values = [getattr(instance, attname) for attname in _attnames(model, self.fields)]
        if any(value is None for value in values):
            return
        target = model._meta.apps.get_model(self.to)
        wanted = dict(zip(_attnames(target, self.to_fields), values, strict=True))
        if not target._base_manager.using(using).filter(**wanted).exists():
            raise ValidationError(
                {self.fields[-1]: ValidationError(self.get_violation_error_message(), code=self.violation_error_code)}
            )

    def deconstruct(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        path, args, kwargs = super().deconstruct()
        kwargs |= {"fields": self.fields, "to": self.to, "to_fields": self.to_fields}
        if self.deferred:
            kwargs["deferred"] = True
        return path, tuple(args), kwargs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TenantForeignKey) and self.deconstruct() == other.deconstruct()

    def __hash__(self) -> int:
        return hash((self.name, self.fields, self.to, self.to_fields))


def _columns(model: type[models.Model], names: Sequence[str]) -> list[str]:
    return [str(_field(model, name).column) for name in names]


def _attnames(model: type[models.Model], names: Sequence[str]) -> list[str]:
    return [_field(model, name).attname for name in names]


def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    field = model._meta.get_field(name)
    if not isinstance(field, models.Field):
        raise FieldDoesNotExist(f"{model._meta.label} has no column for {name}.")
    return field


class _IsJSONObject(models.Func):
    function = "cp_is_object"
    output_field = models.BooleanField()


def object_within(field: str, max_bytes: int) -> models.Q:
    """Condition: the jsonb column holds an object of at most `max_bytes` as text."""
    return models.Q(_IsJSONObject(models.F(field), models.Value(max_bytes)))


def json_object(field: str, name: str, max_bytes: int = 64 * 1024) -> models.CheckConstraint:
    """A CHECK: the jsonb column holds an object of at most `max_bytes` as text."""
    return models.CheckConstraint(
        condition=_IsJSONObject(models.F(field), models.Value(max_bytes)),
        name=name,
        violation_error_message=f"{field} is a JSON object of at most {max_bytes // 1024} KiB.",
    )
