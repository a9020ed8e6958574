"""Other names of models: given, moved to another model, and taken back."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Lower

from catalog.errors import AliasError, UnknownAlias
from catalog.models import AIModel, ModelAlias
from controlplane.core.conf import conf
from tenants.models import Tenant

MAX_ALIAS = 200


def set_alias(
    alias: str, model: AIModel, *, tenant: Tenant | None = None, note: str | None = None, move: bool = False
) -> ModelAlias:
    """Let an alias mean a model, for everybody or for one tenant. It is in use from then on.

    note: why it is there; None keeps the present one. move: also where the alias means another model now. Twice the same
    changes nothing. Raises AliasError: `alias_malformed`, `alias_taken`, `alias_shadows_model` (a tenant's own may).
    """
    if not alias.strip() or not alias.isprintable() or len(alias) > MAX_ALIAS:
        raise AliasError("alias_malformed")
    try:
        with transaction.atomic(using=conf.DATABASE):
            present = _named(alias, tenant).select_related("model").select_for_update(of=("self",)).first()
            row = present or ModelAlias(tenant=tenant, model=model)
            if row.model_id != model.pk and not move:
                raise AliasError(
                    "alias_taken", f"{row.alias} means {row.model.key} already. Take it back first, or move it."
                )
            row.alias, row.model, row.enabled = alias, model, True
            row.note = row.note if note is None else note
            row.clean_fields()
            row.save()
            return row
    except IntegrityError as error:  # somebody else was quicker
        for rule, code in _RULES.items():
            if rule in str(error):
                raise AliasError(code) from error
        raise


def delete_alias(alias: str, *, tenant: Tenant | None = None) -> ModelAlias:
    """Take an alias back: the row as it was. Raises UnknownAlias; another tenant's is unknown too."""
    with transaction.atomic(using=conf.DATABASE):
        row = _named(alias, tenant).select_related("model").select_for_update(of=("self",)).first()
        if row is None:
            raise UnknownAlias(alias, None if tenant is None else tenant.slug)
        pk = row.pk
        row.delete()
        row.pk = pk
        return row


def redirected(alias: str) -> AIModel | None:
    """The model whose key an alias has: a tenant that has the alias no longer reaches it by this name."""
    found: AIModel | None = AIModel.objects.alias(lowered=Lower("key")).filter(lowered=Lower(Value(alias))).first()
    return found


def _named(alias: str, tenant: Tenant | None) -> QuerySet[ModelAlias]:
    if "\x00" in alias or not alias.isprintable():
        return ModelAlias.objects.none()
    lowered = ModelAlias.objects.alias(lowered=Lower("alias")).filter(lowered=Lower(Value(alias)))
    return lowered.filter(tenant=tenant)


_RULES = {
    "cp_catalog_modelalias_once": "alias_taken",
    "cp_catalog_modelalias_shadows_no_model": "alias_shadows_model",
}
