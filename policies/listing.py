"""The models that an effective policy allows: the catalog, read once, and judged one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from django.db.models import F, Q

from catalog.models import AIModel, ModelAlias
from catalog.names import candidates, lowered
from policies.deciding import ModelAsked

if TYPE_CHECKING:
    from policies.effective import EffectivePolicy


class Listed(NamedTuple):
    """A model of the catalog. usable: it and its provider are enabled."""

    id: UUID
    key: str
    name: str
    provider: str
    usable: bool

    @property
    def canonical_id(self) -> str:
        return f"{self.provider}/{self.name}"


def permitted(effective: EffectivePolicy, region: str | None) -> list[str]:
    """Canonical ids that `decide_model` allows, sorted; two statements, and one for each id that also names another model."""
    models = [*_catalog()]
    plain = _unambiguous(models, effective.tenant_id)
    found = []
    for model in models:
        if not model.usable:
            continue
        id = model.canonical_id
        if model.id not in plain:
            allowed = effective.decide_model(id, region).allow
        else:
            allowed = effective.judge(ModelAsked(id, id, model.provider, region)).allow
        if allowed:
            found.append(id)
    return sorted(found)


def _catalog() -> Iterator[Listed]:
    rows = AIModel.objects.annotate(slug=F("provider__slug"), on=F("provider__enabled"))
    for id, key, name, slug, enabled, on in rows.values_list("id", "key", "name", "slug", "enabled", "on"):
        yield Listed(id, key, name, slug, enabled and on)


def _unambiguous(models: list[Listed], tenant_id: UUID) -> set[UUID]:
    """Models whose canonical id, looked up as a name, can find nothing but them: no alias, and no key of another first."""
    aliased = ModelAlias.objects.filter(Q(tenant=None) | Q(tenant_id=tenant_id), enabled=True)
    aliases = {lowered(alias) for alias in aliased.values_list("alias", flat=True)}
    keys, names = defaultdict(set), defaultdict(set)
    for model in models:
        keys[lowered(model.key)].add(model.id)
        names[model.provider, lowered(model.name)].add(model.id)

    def first_found(id: str) -> set[UUID]:
        ways = candidates(id)
        hits = (names[way.provider, lowered(way.key)] if way.canonical else keys[lowered(way.key)] for way in ways)
        return next((hit for hit in hits if hit), set())

    return {
        model.id
        for model in models
        if model.canonical_id.isascii()
        and lowered(model.canonical_id) not in aliases
        and first_found(model.canonical_id) == {model.id}
    }
