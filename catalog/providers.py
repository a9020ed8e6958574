"""Who serves models: made, changed together with the prices it concerns, and deleted while it serves none."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError

from auditing.errors import ReasonRequired
from catalog.errors import ProviderInUse, UnknownProvider
from catalog.models import ModelPrice, Provider
from catalog.models.fields import TERMS
from catalog.pricing.rates import family_of
from controlplane.core.conf import conf


def set_provider(
    slug: str, *, reason: str = "", effective_from: datetime | None = None, **values: Any
) -> tuple[Provider, bool, int]:
    """Make a provider, or change one: it, whether it is new, and how many prices go on with other terms.

    values: fields of Provider. New discount or margins hold for its list prices from `effective_from` (aware; None: now);
    the present ones end there, with the reason. Raises ValidationError.
    """
    Provider(slug=slug, name=slug).clean_fields()
    family = values.get("family")
    if family and family_of(family) != family:
        raise ValidationError(
            {"family": f"{family!r} is no family of pricing rules. Use one as openai, or leave it empty."}
        )
    with transaction.atomic(using=conf.DATABASE):
        provider = Provider.objects.select_for_update(no_key=True).filter(slug=slug).first()
        made = provider is None
        provider = provider or Provider(slug=slug, name=slug)
        given = {name: value for name, value in values.items() if value is not None}
        terms = {name: given[name] for name in TERMS if name in given and given[name] != getattr(provider, name)}
        for name, value in given.items():
            setattr(provider, name, value)
        provider.full_clean()
        if terms and not made and not reason.strip():
            raise ReasonRequired(
                message="Other terms end the provider's prices and begin new ones: say why, with a reason."
            )
        provider.save()
        followed = 0
        if terms and not made:
            followed = ModelPrice.objects.apply_terms(provider, reason=reason, effective_from=effective_from, **terms)
        return provider, made, followed


def delete_provider(slug: str) -> None:
    """Delete a provider that serves no model. Raises UnknownProvider, ProviderInUse."""
    with transaction.atomic(using=conf.DATABASE):
        provider = provider_by_slug(slug)
        try:
            provider.delete()
        except ProtectedError as error:
            raise ProviderInUse(slug, provider.models.count()) from error


def provider_by_slug(slug: str) -> Provider:
    """The provider of a slug. Raises UnknownProvider."""
    readable = slug.isascii() and slug.isprintable()
    provider: Provider | None = Provider.objects.filter(slug=slug).first() if readable else None
    if provider is None:
        raise UnknownProvider(slug)
    return provider
