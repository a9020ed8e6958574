"""Rows of every model that the admin shows, as many as asked; and pages read back as a browser would."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser

from django.contrib.auth.models import Group

from auditing.models import (
    AuditLog,
    AuditSeal,
    DeadLetter,
    InferenceRequest,
    InFlightRequest,
    RetentionRecord,
    UsageSummary,
)
from catalog.models import AIModel, ModelAlias, ModelPrice, PriceImport, Provider
from controlplane.core.ids import now
from controlplane.core.models import WorkerDuty
from policies.models import LimitBucket, Policy, Reservation
from storage_meta.models import (
    Bucket,
    HookExecution,
    StorageAudit,
    StorageEvent,
    StorageHook,
    StorageObject,
    StorageQuota,
    StorageUsage,
)
from tenants.models import APIKey, App, Branch, RefreshFamily, RefreshToken, Tenant, User, UserApp
from tests.factories import (
    AuditSealFactory,
    BucketFactory,
    HookExecutionFactory,
    LimitAlertFactory,
    LimitBucketFactory,
    ReservationFactory,
    RetentionRecordFactory,
    StorageAuditFactory,
    StorageEventFactory,
    StorageHookFactory,
    StorageObjectFactory,
    StorageQuotaFactory,
    StorageUsageFactory,
    UsageSummaryFactory,
)
from tests.policies.world import World


def _key(world, n):
    return APIKey.objects.issue(tenant=world.tenant, app=world.app(), user=world.user(), name=f"key {n}").key


def _user(world, n):
    return User.objects.create(tenant=world.tenant, email=f"user-{n}@{world.slug}.example", role="viewer")


def _access(world, n):
    return world.app().grant(_user(world, f"of-app-{n}"), by="operator@example.com")


def _model(world, n):
    provider, _ = Provider.objects.get_or_create(slug=f"{world.slug}-models", defaults={"name": "Models"})
    return AIModel.objects.create(provider=provider, key=f"{world.slug}-model-{n}", name=f"model-{n}")


def _family(world, n):
    return RefreshToken.objects.issue(_user(world, f"session-{n}"), client=f"laptop {n}").family


def _alias(world, n):
    model = AIModel.objects.filter(key=f"{world.slug}-model-0").first() or _model(world, 0)
    return ModelAlias.objects.create(tenant=world.tenant, alias=f"alias-{n}", model=model)


def _price(world, n):
    rates = {
        "input_cost_per_token": f"{n + 1}e-06",
        "output_cost_per_token": "8e-06",
        "tiered_pricing": [{"range": ["0", "9"]}],
    }
    tenant = world.tenant if n % 2 else None
    return ModelPrice.objects.supersede(_model(world, n), rates, tenant=tenant, reason="a test")


def _import(world, n):
    return PriceImport.objects.create(
        source=f"{world.slug}-{n}.json", sha256=hashlib.sha256(f"{world.slug}{n}".encode()).hexdigest(), bytes=n,
        started_at=now(), effective_from=now(), threshold=20, counts={"added": n}, report={"changes": []},
    )  # fmt: skip


def _request(world, n):
    failed = n % 5 == 4
    end = {"status": "failed", "error_code": "timeout", "error": "No answer.", "cost": Decimal(0)} if failed else {}
    row = {
        "request_id": f"{world.slug}-request-{n}", "created_at": now() - timedelta(seconds=n + 1), "tenant_id": world.tenant.pk,
        "app_id": world.app().pk, "branch_id": world.branch().pk, "user_id": world.user().pk, "api_key_id": world.key().pk,
        "provider": "openai", "model": "openai/gpt-4o", "prompt_tokens": 100 + n, "completion_tokens": n, "latency_ms": 20,
    }  # fmt: skip
    InferenceRequest.objects.ingest([row | end])
    return InferenceRequest.objects.get(request_id=row["request_id"])


def _in_flight(world, n):
    return InFlightRequest.objects.create(
        request_id=f"{world.slug}-call-{n}", created_at=now(), tenant_id=world.tenant.pk, app_id=world.app().pk,
        provider="openai", model="openai/gpt-4o", deadline=now() + timedelta(minutes=10), time_zone="UTC",
    )  # fmt: skip


def _dead_letter(world, n):
    text = f'{{"prompt_tokens": -{n}}}'.encode()
    return DeadLetter.objects.create(
        tenant_id=world.tenant.pk, source="usage.csv", row_number=n + 1, request_id=f"{world.slug}-{n}", code="negative",
        field="prompt_tokens", message="prompt_tokens is negative.", payload=text, payload_bytes=len(text),
        sha256=hashlib.sha256(text).digest(),
    )  # fmt: skip


def _seal(world, n):
    id = _event(world, n).pk
    return AuditSealFactory(tenant_id=world.tenant.pk, seq=n + 1, id_from=id, id_to=id, xid_from=n + 3, xid_to=n + 4)


def _kept(world, n):
    return RetentionRecordFactory(tenant_id=world.tenant.pk, reason=f"law suit {n} of {world.slug}", actor="kim")


def _summary(world, n):
    of = {
        "app_id": world.app().pk,
        "branch_id": world.branch().pk,
        "user_id": world.user().pk,
        "api_key_id": world.key().pk,
    }
    return UsageSummaryFactory(tenant_id=world.tenant.pk, model=f"{world.slug}/model-{n}", requests=n + 1, **of)


def _event(world, n):
    subjects = {"tenant": world.tenant, "app": world.app(), "branch": world.branch(), "user": world.user()}
    return AuditLog.objects.record(
        "tests.event", **subjects, api_key=world.key(), resource=world.tenant, details={"n": n}, reason="a test"
    )


def _counter(world, n):
    """A counter of a user and an app, with an alert and with calls that hold something of it."""
    owner = {
        "app_id": world.app().pk,
        "user_id": world.user().pk,
        "branch_id": world.branch().pk,
        "key_id": world.key().pk,
    }
    start = now().replace(hour=0, minute=0) - timedelta(days=n // 4)
    bucket = LimitBucketFactory(
        tenant=world.tenant, window="day", label=f"{start:%Y-%m-%d}", starts_at=start, ends_at=now() + timedelta(days=1),
        key=f"budget|scope:31|{world.slug} {n % 4}|cost|day|1|-|{start:%Y-%m-%d}", owner_kind="scope:31", **owner,
        spent=Decimal(n), reserved=Decimal(1), last_limit=Decimal(50), last_mode="hard",
    )  # fmt: skip
    LimitAlertFactory(bucket=bucket)
    ReservationFactory(
        tenant=world.tenant, bucket_ids=[bucket.pk], amounts=[1], request_id=f"{world.slug} holds {n}", **owner
    )
    return bucket


def _reservation(world, n):
    _counter(world, n)
    return Reservation.objects.get(request_id=f"{world.slug} holds {n}")


def _bucket(world, name="docs"):
    return Bucket.objects.filter(tenant=world.tenant, name=name).first() or BucketFactory(
        tenant=world.tenant, name=name
    )


def _object(world, n):
    bucket = _bucket(world)
    return StorageObjectFactory(
        bucket=bucket, object_key=f"{world.slug}/report-{n}.txt", metadata={"author": f"fenn {n}"}, tags={"n": str(n)}
    )


def _stored_access(world, n):
    _bucket(world)
    return StorageAuditFactory(
        tenant_id=world.tenant.pk, object_key=f"{world.slug}/report-{n}.txt", actor_name="kim", size=n
    )


def _hook(world, n):
    return StorageHook.objects.filter(tenant=world.tenant, name=f"{world.slug}-{n}").first() or StorageHookFactory(
        tenant=world.tenant, name=f"{world.slug}-{n}", bucket=_bucket(world), url="https://8.8.8.8/hook"
    )


def _stored_event(world, n):
    state = StorageEvent.State.values[n % 3]
    return StorageEventFactory(
        hook=_hook(world, n % 4), object_key=f"{world.slug}/report-{n}.txt", state=state, attempts=n % 3
    )


def _told(world, n):
    event = _stored_event(world, n)
    failed = {"success": False, "error_message": "It answered 500.", "status_code": 500} if n % 2 else {}
    return HookExecutionFactory(
        tenant=world.tenant, event=event, hook_name=event.hook.name, object_key=event.object_key, **failed
    )


def _storing(world, n):
    """Another tenant for each: usage and quota are one row of each."""
    tenant = Tenant.objects.create(slug=f"{world.slug}-stores-{n}", name=f"{world.slug} stores {n}")
    return StorageUsageFactory(tenant=tenant, bytes=100 * n, objects_count=n, versions=n)


def _storage_quota(world, n):
    return StorageQuotaFactory(tenant=_storing(world, n).tenant)


def _duty(world, n):
    """One that failed, one that runs, and others."""
    ran = now() - timedelta(minutes=n)
    error = {"failures": 2, "error": "ValueError: a test"} if n % 3 == 1 else {}
    ended = None if n % 3 == 2 else ran + timedelta(milliseconds=20)
    return WorkerDuty.objects.create(name=f"{world.slug}-duty-{n}", started_at=ran, finished_at=ended, **error)


MAKE = {
    Tenant: lambda world, n: Tenant.objects.create(slug=f"{world.slug}-{n}", name=f"{world.slug} {n}"),
    App: lambda world, n: App.objects.create(tenant=world.tenant, slug=f"app-{n}", name=f"App {n}"),
    Branch: lambda world, n: Branch.objects.create(tenant=world.tenant, app=world.app(), code=f"b-{n}", name=f"B {n}"),
    User: _user,
    UserApp: _access,
    APIKey: _key,
    RefreshFamily: _family,
    Policy: lambda world, n: world.policy("budget", name=f"policy {n}", app=world.app(), user=world.user()),
    LimitBucket: _counter,
    Reservation: _reservation,
    Provider: lambda world, n: Provider.objects.create(slug=f"{world.slug}-{n}", name=f"Provider {n}"),
    AIModel: _model,
    ModelAlias: _alias,
    ModelPrice: _price,
    PriceImport: _import,
    AuditLog: _event,
    InferenceRequest: _request,
    InFlightRequest: _in_flight,
    DeadLetter: _dead_letter,
    AuditSeal: _seal,
    RetentionRecord: _kept,
    UsageSummary: _summary,
    Bucket: lambda world, n: _bucket(world, f"bucket-{n}"),
    StorageObject: _object,
    StorageAudit: _stored_access,
    StorageUsage: _storing,
    StorageQuota: _storage_quota,
    StorageHook: _hook,
    StorageEvent: _stored_event,
    HookExecution: _told,
    WorkerDuty: _duty,
    Group: lambda world, n: Group.objects.create(name=f"{world.slug} group {n}"),
}
"""How to make row n of a model, in a World of tests.policies."""

LOGS = (
    AuditLog,
    UsageSummary,
    LimitBucket,
    InferenceRequest,
    InFlightRequest,
    PriceImport,
    WorkerDuty,
    StorageAudit,
    HookExecution,
)


def make(model, count, slug="acme"):
    """Rows 0 to count - 1 of a model, of the tenant `slug`; the last one is returned."""
    world = World(slug)
    return [MAKE[model](world, n) for n in range(count)][-1]


class Page(HTMLParser):
    """A page as a browser reads it. faults: what breaks the rules of every page, as sentences."""

    VOID = frozenset({"input", "meta", "link", "br", "hr", "img", "col"})

    def __init__(self, response):
        super().__init__()
        self.tags, self.headings, self.title, self.inline = [], 0, "", []
        self._open = []
        self.sent, self._select, self._text = {}, None, None
        self.html = response.content.decode()
        self.policy = response.headers.get("Content-Security-Policy", "")
        self.feed(self.html)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        form = next((opened for name, opened in reversed(self._open) if name == "form"), None)
        self.tags.append((tag, given, form))
        self.headings += tag == "h1"
        self.inline += [f"{tag} {name}=" for name in given if name.startswith("on") or name == "style"]
        self.inline += [f"{tag} {value}" for value in given.values() if (value or "").lower().startswith("javascript:")]
        if tag == "style" or (tag == "script" and "src" not in given and given.get("type") != "application/json"):
            self.inline.append(f"<{tag}>")
        if form and form.get("id", "").endswith("_form"):
            self._note(tag, given)
        if tag not in self.VOID:
            self._open.append((tag, given))

    def _note(self, tag, given):
        """Keep what a browser would send of this control of the page's form, untouched."""
        name, kind = given.get("name"), given.get("type", "text")
        if tag == "input" and name and kind not in ("submit", "button"):
            if kind not in ("checkbox", "radio") or "checked" in given:
                self.sent[name] = given.get("value", "on" if kind == "checkbox" else "")
        elif tag == "select":
            self._select = None if "multiple" in given else name
        elif tag == "option" and self._select and ("selected" in given or self._select not in self.sent):
            self.sent[self._select] = given.get("value", "")
        elif tag == "textarea":
            self._text, self.sent[name] = name, ""

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self._text and self._open and self._open[-1][0] == "textarea":
            self.sent[self._text] += data
        if self._open and self._open[-1][0] == "title":
            self.title += data

    def form(self):
        """The page's form as a browser would send it back, untouched."""
        return {name: value.removeprefix("\r\n").removeprefix("\n") for name, value in self.sent.items()}

    def links(self):
        return [given["href"] for tag, given, _ in self.tags if tag == "a" and given.get("href")]

    def writing_inputs(self):
        """Inputs of forms that are posted, but for signing out, the token against forgery, and buttons that send nothing."""
        typed = {"input", "textarea", "select", "button"}
        return [
            (tag, given.get("name"), given.get("type"))
            for tag, given, form in self.tags
            if tag in typed and form and form.get("method", "get").lower() == "post" and form.get("id") != "logout-form"
            and given.get("name") != "csrfmiddlewaretoken" and (tag, given.get("type")) != ("button", "button")
        ]  # fmt: skip

    @property
    def faults(self):
        checks = [
            (self.headings == 1, f"{self.headings} h1"),
            (self.title.strip() and not self.title.strip().startswith("|"), "no title"),
            ("default-src 'self'" in self.policy and "unsafe" not in self.policy, f"policy {self.policy!r}"),
            (not self.inline, f"inline: {self.inline}"),
            ('"delete_selected"' not in self.html, "offers to delete rows"),
            (not any(link.split("?")[0].endswith("/delete/") for link in self.links()), "links to a delete page"),
        ]
        return [sentence for right, sentence in checks if not right]
