"""Rows to ask policies about: tenants with apps, branches, users and keys, and models; each made once, by label."""

from __future__ import annotations

from functools import cached_property

from catalog.models import AIModel, Provider
from policies.models import Policy
from tenants.models import APIKey, App, Branch, Tenant, User


class World:
    """Rows of one tenant, found or made by label."""

    def __init__(self, slug):
        self.slug = slug
        self._rows = {}

    @cached_property
    def tenant(self):
        return Tenant.objects.create(slug=self.slug, name=self.slug.title())

    def _once(self, kind, label, make):
        if label is None:
            return None
        if (kind, label) not in self._rows:
            self._rows[kind, label] = make()
        return self._rows[kind, label]

    def app(self, label="chat"):
        return self._once("app", label, lambda: App.objects.create(tenant=self.tenant, slug=label.lower(), name=label))

    def branch(self, label="berlin", app="chat"):
        def make():
            return Branch.objects.create(tenant=self.tenant, app=self.app(app), code=label.lower(), name=label)

        return self._once("branch", label, make)

    def user(self, label="ada"):
        def make():
            return User.objects.create_user(f"{label}@{self.slug}.example".lower(), tenant=self.tenant)

        return self._once("user", label, make)

    def key(self, label="ci", app="chat", branch=None, user=None):
        def make():
            issued = APIKey.objects.issue(
                tenant=self.tenant, app=self.app(app), branch=self.branch(branch, app), user=self.user(user), name=label
            )
            return issued.key

        return self._once("key", label, make)

    def policy(self, policy_type="model_access", config=None, **fields):
        return Policy.objects.create(tenant=self.tenant, policy_type=policy_type, config=config or {}, **fields)

    def effective(self, **asked):
        return Policy.objects.effective(self.tenant, **asked)


def make_models(*canonical_ids):
    """Catalog entries; a name without a slash is the key of the first id that ends in it, any other key is the id."""
    keys = {model.key for model in AIModel.objects.all()}
    for canonical_id in canonical_ids:
        slug, _, name = canonical_id.partition("/")
        provider, _ = Provider.objects.get_or_create(slug=slug, defaults={"name": slug})
        key = canonical_id if "/" in name or name in keys else name
        keys.add(key)
        AIModel.objects.create(provider=provider, key=key, name=name)
