"""Makes the demo data, once, and takes it away again; in one transaction: an interrupted run leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connections

from auditing.context import audit_context, command_actor
from auditing.models import AuditLog, InferenceRequest
from catalog.importing import import_bundled
from catalog.models import AIModel, ModelAlias, Provider
from controlplane.core.conf import conf
from controlplane.core.ids import PLATFORM
from controlplane.demo import catalog, counters, policies, settling, tenancy, traffic
from policies.limits import Asked
from policies.models import Policy, Reservation
from tenants.models import APIKey, App, Branch, Tenant, User

SEEDED, REMOVED = "demo.seeded", "demo.removed"
REASON = "demo data"
SEEDING_AT_MOST = "5min"  # a run waits so long for another one
TENANTS = [organisation.slug for organisation in tenancy.ORGANISATIONS]


@dataclass(slots=True)
class Made:
    """What there is after seeding. done: whether this run made (or restored) it. requests, rejected: of this run."""

    done: bool
    requests: int = 0
    rejected: int = 0


@dataclass(slots=True)
class House:
    """An organisation as it stands in the database."""

    tenant: Tenant
    apps: dict[str, App] = field(default_factory=dict)
    branches: dict[tuple[str, str], Branch] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    keys: dict[str, APIKey] = field(default_factory=dict)


def seed(at: datetime, progress: Callable[[int], None] | None = None) -> Made:
    """Make the demo data as of `at` (aware), unless it is there; restore its tenants if they were removed.

    progress: called with the requests written so far. Raises TenantsError or ValidationError when a name is taken by
    somebody else's tenant; then nothing was made.
    """
    with audit_context(actor=command_actor("seed_demo"), reason=REASON):
        last = _last_event()
        if last == SEEDED:
            return Made(done=False)
        if last == REMOVED:
            for tenant in Tenant.objects.deleted().filter(slug__in=TENANTS):
                tenant.restore(REASON)
            AuditLog.objects.record(SEEDED, details={"restored": TENANTS})
            return Made(done=True)
        _make_catalog()
        houses = {plan.slug: _make_house(plan, at) for plan in tenancy.ORGANISATIONS}
        _make_aliases(houses)
        _make_policies(houses, at)
        written = InferenceRequest.objects.ingest(
            _rows(houses, at), source="ingest", origin="demo", historical=True, progress=progress
        )
        running = _start_calls(houses, at)
        for slug, house in houses.items():
            counters.fill(house.tenant, {key.pk: key for key in house.keys.values()}, running[slug], at)
        _end_keys(houses, at)
        details = {"at": at.isoformat(), "requests": written.inserted, "tenants": TENANTS}
        AuditLog.objects.record(SEEDED, details=details)
    return Made(True, written.inserted, written.rejected)


def remove(reason: str = REASON) -> list[str]:
    """Delete the demo's tenants softly, and give back what their calls hold. Returns their slugs.

    The log keeps its facts, the counters what was spent, the catalog its models.
    """
    with audit_context(actor=command_actor("seed_demo"), reason=reason):
        if _last_event() != SEEDED:
            return []
        tenants = list(Tenant.objects.present().filter(slug__in=TENANTS).order_by("slug"))
        settling.release(tenants, reason)
        for tenant in tenants:
            Reservation.objects.for_tenant(tenant).release(reason)
            tenant.delete(reason)
        AuditLog.objects.record(REMOVED, details={"tenants": [tenant.slug for tenant in tenants]})
    return [tenant.slug for tenant in tenants]


def _last_event() -> str | None:
    """The newest of our events, under a lock: of two runs at once the second waits, and sees what the first did."""
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)", [SEEDING_AT_MOST]
        )
        usual = cursor.fetchone()[0]
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtext('cp_demo')), set_config('lock_timeout', %s, true)", [usual]
        )
    events = AuditLog.objects.for_tenant(PLATFORM).filter(action__in=(SEEDED, REMOVED)).order_by("-id")
    last: str | None = events.values_list("action", flat=True).first()
    return last


def _make_catalog() -> None:
    """The bundled prices where there are none, and what is missing of the models; one that is there stays as it is."""
    import_bundled()
    providers = {
        slug: Provider.objects.get_or_create(slug=slug, defaults={"name": name, "doc_url": url})[0]
        for slug, (name, url) in catalog.PROVIDERS.items()
    }
    for model in catalog.MODELS:
        most, out = model.limits
        AIModel.objects.get_or_create(
            key=model.key,
            defaults={
                "provider": providers[model.provider],
                "name": model.key.removeprefix(f"{model.provider}/"),
                "display_name": model.name,
                "mode": model.mode,
                "max_input_tokens": most,
                "max_output_tokens": out,
                **{f"supports_{ability}": True for ability in model.abilities.split()},
                **model.more,
            },
        )


def _make_aliases(houses: dict[str, House]) -> None:
    for slug, alias, key, note in catalog.ALIASES:
        model = AIModel.objects.get(key=key)
        tenant = houses[slug].tenant if slug else None
        ModelAlias.objects.get_or_create(tenant=tenant, alias=alias, defaults={"model": model, "note": note})


def _make_policies(houses: dict[str, House], at: datetime) -> None:
    made = []
    for plan in policies.POLICIES:
        house = houses[plan.tenant]
        made.append(
            Policy(
                tenant=house.tenant,
                app=house.apps.get(plan.app),
                branch=house.branches.get((plan.app, plan.branch)),
                user=house.users.get(plan.user),
                key=house.keys.get(plan.key),
                policy_type=plan.type,
                config=plan.config,
                overridable=list(plan.overridable),
                final=list(plan.final),
                priority=plan.priority,
                enabled=plan.enabled,
                valid_until=at + plan.until if plan.until else None,
                schedule=plan.schedule,
                name=plan.name,
                description=plan.description,
                message=plan.message,
            )
        )
    Policy.objects.bulk_create(made)
    for plan, policy in zip(policies.POLICIES, made, strict=True):
        for edit in plan.edits:
            policy.config = edit.config
            with audit_context(actor=houses[plan.tenant].users[edit.by], reason=edit.reason):
                policy.save()


def _make_house(plan: tenancy.Organisation, at: datetime) -> House:
    tenant = Tenant(slug=plan.slug, name=plan.name, domain=plan.domain, time_zone=plan.time_zone)
    tenant.full_clean()
    tenant.save()
    house = House(tenant)
    for app in plan.apps:
        made = App(tenant=tenant, slug=app.slug, name=app.name, app_type=app.type)
        made.save()
        house.apps[app.slug] = made
        for branch in app.branches:
            house.branches[app.slug, branch.code] = Branch.objects.create(
                tenant=tenant, app=made, code=branch.code, name=branch.name, branch_type=branch.type,
                address={"city": branch.city, "country": branch.country},
            )  # fmt: skip
    for person in plan.people:
        _make_user(house, plan, person)
    for key in plan.keys:
        house.keys[key.name] = APIKey.objects.issue(
            tenant=tenant, app=house.apps[key.app], name=key.name, environment=key.environment, scopes=key.scopes,
            allowed_models=key.models, user=house.users.get(key.user), branch=house.branches.get((key.app, key.branch)),
            by="demo",
        ).key  # fmt: skip
    return house


def _make_user(house: House, plan: tenancy.Organisation, person: tenancy.Person) -> None:
    """No password: nobody signs in as somebody who does not exist."""
    user = User.objects.create_user(
        f"{person.username}@{plan.domain}",
        tenant=house.tenant,
        username=person.username,
        display_name=person.name,
        role=person.role,
    )
    house.users[person.username] = user
    for access in person.access:
        app, _, role = access.partition(":")
        house.apps[app].grant(user, role, by="demo")


def _rows(houses: dict[str, House], at: datetime) -> Iterator[dict[str, Any]]:
    for profile in traffic.PROFILES:
        yield from _calls(houses[profile.tenant], profile, at)
    for row in _calls(houses[traffic.BEFORE.tenant], traffic.BEFORE, traffic.month_before(at)):
        yield row | {"request_id": f"{row['request_id']}-before"}
    yield from traffic.bad_rows(houses["tamarind-travel"].tenant.pk, at)


def _calls(house: House, profile: traffic.Profile, end: datetime) -> Iterator[dict[str, Any]]:
    app = house.apps[profile.app]
    keys = [key for key in house.keys.values() if key.app_id == app.pk]
    callers = [
        traffic.Caller(key.pk, key.branch_id, key.user_id, 1 if key.environment == "test" else 12) for key in keys
    ]
    return traffic.calls(profile, house.tenant.time_zone, house.tenant.pk, app.pk, callers, end)


def _start_calls(houses: dict[str, House], at: datetime) -> dict[str, list[Asked]]:
    """One call of each of the busiest apps is on its way. Returns what they will hold of limits, by organisation."""
    running: dict[str, list[Asked]] = {slug: [] for slug in houses}
    for profile in traffic.PROFILES[:2] + traffic.PROFILES[6:8]:
        house, mix = houses[profile.tenant], profile.mixes[0]
        app = house.apps[profile.app]
        key = next(key for key in house.keys.values() if key.app_id == app.pk)
        request = f"demo-{profile.app}-running"
        effective = Policy.objects.effective(house.tenant, key=key, at=at)
        running[profile.tenant].append(
            counters.ask(effective, mix.model, request, (mix.prompt, 4 * mix.completion), at)
        )
        id = InferenceRequest.objects.start(
            tenant=house.tenant, app=app, provider=mix.model.partition("/")[0], model=mix.model, stream=mix.streamed,
            requested_model=mix.asked_as or None, api_key=key, request_id=request, time_zone=house.tenant.time_zone,
        )  # fmt: skip
        InferenceRequest.objects.running(id)
    return running


def _end_keys(houses: dict[str, House], at: datetime) -> None:
    """What became of some keys, users and an app, once they had been used."""
    for plan in tenancy.ORGANISATIONS:
        house = houses[plan.slug]
        for key in plan.keys:
            row = house.keys[key.name]
            if key.end == "revoked":
                row.revoke("replaced; seen in a shared notebook", by="demo")
            elif key.end == "rotated":
                row.rotate(grace=timedelta(days=1))
            elif key.end == "disabled":
                APIKey.objects.filter(pk=row.pk).update(enabled=False)
            if key.expires:  # last: seen from now, the keys of a long past instant have expired
                APIKey.objects.filter(pk=row.pk).update(expires_at=at + key.expires)
        for person in plan.people:
            if not person.active:
                house.users[person.username].deactivate("left the house")
        for app in plan.apps:
            if app.suspended:
                house.apps[app.slug].suspend(app.suspended)
