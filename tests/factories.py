"""One factory per model, valid by default: a test names only what it is about."""

from __future__ import annotations

import hashlib
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import factory
from django.db import transaction

from auditing.models import (
    AuditLog,
    AuditSeal,
    DeadLetter,
    InferenceRequest,
    InFlightRequest,
    IngestWatermark,
    RetentionRecord,
    UsageDay,
    UsageHour,
    UsageSummary,
    UsageZone,
)
from catalog.models import AIModel, ModelAlias, ModelPrice, PriceImport, PriceImportDraft, Provider
from controlplane.core.ids import now, uuid7, uuid7_at
from controlplane.core.models import WorkerDuty
from policies.models import LimitAlert, LimitBucket, Policy, PolicyEpoch, PolicyVersion, Reservation
from storage_meta.models import (
    Bucket,
    HookExecution,
    PendingBlob,
    StorageAudit,
    StorageEvent,
    StorageHook,
    StorageObject,
    StorageQuota,
    StorageUsage,
    StorageVersion,
)
from storage_meta.models.objects import CONTENT
from tenants import tokens
from tenants.models import (
    APIKey,
    APIKeySecret,
    APIKeySecretUse,
    App,
    Branch,
    RefreshFamily,
    RefreshToken,
    Role,
    SignInCount,
    Tenant,
    User,
    UserApp,
)  # fmt: skip


class Factory(factory.django.DjangoModelFactory):
    class Meta:
        abstract = True


# ---------------------------------------------------------------- tenants


class TenantFactory(Factory):
    class Meta:
        model = Tenant

    slug = factory.Sequence(lambda n: f"tenant-{n}")
    name = factory.LazyAttribute(lambda tenant: tenant.slug.title())


class AppFactory(Factory):
    class Meta:
        model = App

    tenant = factory.SubFactory(TenantFactory)
    slug = factory.Sequence(lambda n: f"app-{n}")
    name = factory.LazyAttribute(lambda app: app.slug.title())


class BranchFactory(Factory):
    class Meta:
        model = Branch

    app = factory.SubFactory(AppFactory)
    tenant = factory.LazyAttribute(lambda branch: branch.app.tenant)
    code = factory.Sequence(lambda n: f"B{n}")
    name = factory.LazyAttribute(lambda branch: f"Branch {branch.code}")


class UserFactory(Factory):
    """A user of a tenant; its password is "correct horse"."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    tenant = factory.SubFactory(TenantFactory)
    email = factory.Sequence(lambda n: f"user{n}@example.org")
    role = Role.VIEWER
    password = factory.django.Password("correct horse")


class OperatorFactory(UserFactory):
    tenant = None
    email = factory.Sequence(lambda n: f"operator{n}@example.org")
    role = Role.OPERATOR
    is_staff = True
    is_superuser = True


class UserAppFactory(Factory):
    class Meta:
        model = UserApp

    app = factory.SubFactory(AppFactory)
    tenant = factory.LazyAttribute(lambda access: access.app.tenant)
    user = factory.SubFactory(UserFactory, tenant=factory.SelfAttribute("..tenant"))


class APIKeyFactory(Factory):
    """A key without a secret; `issue` makes one with."""

    class Meta:
        model = APIKey

    app = factory.SubFactory(AppFactory)
    tenant = factory.LazyAttribute(lambda key: key.app.tenant)
    name = factory.Sequence(lambda n: f"key {n}")


class APIKeySecretFactory(Factory):
    class Meta:
        model = APIKeySecret

    class Params:
        token = factory.LazyFunction(lambda: tokens.new_key("live").token)

    key = factory.SubFactory(APIKeyFactory)
    tenant = factory.LazyAttribute(lambda secret: secret.key.tenant)
    kid = factory.LazyAttribute(lambda secret: secret.token[9:21])
    digest = factory.LazyAttribute(lambda secret: tokens.sha256(secret.token))


class APIKeySecretUseFactory(Factory):
    class Meta:
        model = APIKeySecretUse

    secret = factory.SubFactory(APIKeySecretFactory)
    tenant = factory.LazyAttribute(lambda use: use.secret.tenant)
    last_used_at = factory.LazyFunction(now)


class RefreshFamilyFactory(Factory):
    """A family without a token; RefreshToken.objects.issue makes one with."""

    class Meta:
        model = RefreshFamily

    user = factory.SubFactory(UserFactory)
    tenant = factory.LazyAttribute(lambda family: family.user.tenant)
    absolute_expires_at = factory.LazyFunction(lambda: now() + timedelta(days=90))


class RefreshTokenFactory(Factory):
    class Meta:
        model = RefreshToken

    class Params:
        token = factory.LazyFunction(tokens.new_refresh)

    family = factory.SubFactory(RefreshFamilyFactory)
    tenant = factory.LazyAttribute(lambda token: token.family.tenant)
    generation = 1
    digest = factory.LazyAttribute(lambda row: tokens.sha256(row.token))
    expires_at = factory.LazyFunction(lambda: now() + timedelta(days=14))


class SignInCountFactory(Factory):
    class Meta:
        model = SignInCount

    key = factory.Sequence(lambda n: f"{n:064x}")
    failures = 1
    began_at = factory.LazyFunction(now)


def issue(app, /, **asked):
    """Issue a key of an app; returns what APIKey.objects.issue does."""
    return APIKey.objects.issue(**{"tenant": app.tenant, "app": app, "name": "key", **asked})


# ---------------------------------------------------------------- auditing


class WorkerDutyFactory(Factory):
    class Meta:
        model = WorkerDuty

    name = factory.Sequence(lambda n: f"duty-{n}")
    started_at = factory.LazyFunction(now)


class AuditLogFactory(Factory):
    class Meta:
        model = AuditLog

    created_at = factory.LazyFunction(now)
    id = factory.LazyAttribute(lambda row: uuid7_at(row.created_at))
    tenant_id = factory.LazyFunction(uuid7)
    actor_type = AuditLog.ActorType.SYSTEM
    actor_id = "tests"
    action = "tests.event"
    outcome = AuditLog.Outcome.SUCCESS


class InferenceRequestFactory(Factory):
    class Meta:
        model = InferenceRequest

    created_at = factory.LazyFunction(now)
    id = factory.LazyAttribute(lambda row: uuid7_at(row.created_at))
    request_id = factory.Sequence(lambda n: f"request-{n}")
    tenant_id = factory.LazyFunction(uuid7)
    provider = "openai"
    model = "openai/gpt-4o"
    status = InferenceRequest.Status.COMPLETED
    prompt_tokens = 100
    completion_tokens = 20
    cost = Decimal("0.001")
    pricing_status = InferenceRequest.PricingStatus.PRICED
    latency_ms = 800
    time_zone = "UTC"
    local_date = factory.LazyAttribute(lambda row: row.created_at.date())
    source = InferenceRequest.Source.GATE


class RollUpFactory(Factory):
    class Meta:
        abstract = True

    id = factory.LazyFunction(uuid7)
    tenant_id = factory.LazyFunction(uuid7)
    provider = "openai"
    model = "openai/gpt-4o"
    requests = 1
    completed = 1
    failed = cancelled = lost = unpriced = estimated = adjustments = 0
    prompt_tokens = 100
    completion_tokens = 20
    cached_tokens = cache_write_tokens = reasoning_tokens = 0
    cost = Decimal("0.001")
    estimated_cost = Decimal(0)
    latency_n = 1
    latency_sum_ms = latency_max_ms = 800
    latency_hist = factory.LazyFunction(lambda: [int(n == 10) for n in range(24)])


class UsageHourFactory(RollUpFactory):
    class Meta:
        model = UsageHour

    hour = factory.LazyFunction(lambda: now().replace(minute=0, second=0, microsecond=0))
    id = factory.LazyAttribute(lambda row: uuid7_at(row.hour))


class UsageDayFactory(RollUpFactory):
    class Meta:
        model = UsageDay

    day = factory.LazyFunction(lambda: now().date())


class UsageSummaryFactory(RollUpFactory):
    class Meta:
        model = UsageSummary

    month = factory.LazyFunction(lambda: now().date().replace(day=1))


class UsageZoneFactory(Factory):
    class Meta:
        model = UsageZone

    id = factory.LazyFunction(uuid7)
    tenant_id = factory.LazyFunction(uuid7)
    time_zone = "UTC"
    first_on = last_on = factory.LazyFunction(lambda: now().date())


class IngestWatermarkFactory(Factory):
    class Meta:
        model = IngestWatermark

    name = factory.Sequence(lambda n: f"job-{n}")
    xid = 3
    system_identifier = 1
    updated_at = factory.LazyFunction(now)


class AuditSealFactory(Factory):
    class Meta:
        model = AuditSeal

    id = factory.LazyFunction(uuid7)
    kind = AuditSeal.Kind.ROWS
    log = AuditSeal.Log.AUDITLOG
    tenant_id = factory.LazyFunction(uuid7)
    month = factory.LazyFunction(lambda: now().date().replace(day=1))
    seq = 1
    run = factory.LazyFunction(uuid7)
    xid_from = 3
    xid_to = 4
    id_from = factory.LazyFunction(uuid7)
    id_to = factory.LazyFunction(uuid7)
    n = 1
    root = prev = hash = bytes(32)
    sealed_at = factory.LazyFunction(now)


class RetentionRecordFactory(Factory):
    class Meta:
        model = RetentionRecord

    id = factory.LazyFunction(uuid7)
    created_at = factory.LazyFunction(now)
    kind = RetentionRecord.Kind.HOLD
    tenant_id = factory.LazyFunction(uuid7)
    reason = "a law suit"


class InFlightRequestFactory(Factory):
    class Meta:
        model = InFlightRequest

    created_at = factory.LazyFunction(now)
    id = factory.LazyAttribute(lambda row: uuid7_at(row.created_at))
    request_id = factory.Sequence(lambda n: f"in-flight-{n}")
    tenant_id = factory.LazyFunction(uuid7)
    provider = "openai"
    model = "openai/gpt-4o"
    deadline = factory.LazyAttribute(lambda row: row.created_at + timedelta(minutes=10))
    time_zone = "UTC"


class DeadLetterFactory(Factory):
    class Meta:
        model = DeadLetter

    tenant_id = factory.LazyFunction(uuid7)
    source = "usage.csv"
    row_number = factory.Sequence(lambda n: n + 1)
    code = "negative"
    field = "prompt_tokens"
    message = "prompt_tokens is -1: it cannot be negative."
    payload = b'{"prompt_tokens": -1}'
    payload_bytes = factory.LazyAttribute(lambda row: len(row.payload))
    sha256 = factory.LazyAttribute(lambda row: hashlib.sha256(row.payload).digest())


# ---------------------------------------------------------------- catalog


class ProviderFactory(Factory):
    class Meta:
        model = Provider

    slug = factory.Sequence(lambda n: f"provider-{n}")
    name = factory.LazyAttribute(lambda provider: provider.slug.title())


class AIModelFactory(Factory):
    class Meta:
        model = AIModel

    provider = factory.SubFactory(ProviderFactory)
    name = factory.Sequence(lambda n: f"model-{n}")
    key = factory.LazyAttribute(lambda model: model.name)
    mode = "chat"


class ModelAliasFactory(Factory):
    """An alias for everybody."""

    class Meta:
        model = ModelAlias

    tenant = None
    alias = factory.Sequence(lambda n: f"alias-{n}")
    model = factory.SubFactory(AIModelFactory)


class PriceImportFactory(Factory):
    class Meta:
        model = PriceImport

    source = "prices.json"
    sha256 = factory.Sequence(lambda n: f"{n:064x}")
    bytes = 2
    started_at = factory.LazyFunction(now)
    effective_from = factory.LazyFunction(now)
    threshold = 20


class PriceImportDraftFactory(Factory):
    class Meta:
        model = PriceImportDraft

    uploaded_by = factory.LazyFunction(lambda: str(uuid7()))
    name = "prices.json"
    content = zlib.compress(b"{}")
    source = "litellm"
    threshold = 20
    digest = "0" * 64
    diff = factory.LazyFunction(lambda: {"entries": [], "issues": []})


class ModelPriceFactory(Factory):
    """A list price since the beginning of 2026: 2 US dollars per million tokens in, 8 out."""

    class Meta:
        model = ModelPrice

    model = factory.SubFactory(AIModelFactory)
    tenant = None
    effective_from = datetime(2026, 1, 1, tzinfo=UTC)
    rates = factory.LazyFunction(lambda: {"input_cost_per_token": "2e-06", "output_cost_per_token": "8e-06"})


# ---------------------------------------------------------------- policies


class PolicyFactory(Factory):
    class Meta:
        model = Policy

    tenant = factory.SubFactory(TenantFactory)
    policy_type = "model_access"
    config = factory.LazyFunction(dict)


class PolicyVersionFactory(Factory):
    """A version of a policy that is gone: those of a policy that is there are written by its trigger."""

    class Meta:
        model = PolicyVersion

    tenant = factory.SubFactory(TenantFactory)
    policy_id = factory.LazyFunction(uuid7)
    version = 1
    op = PolicyVersion.Op.CREATE
    epoch = 1
    body = factory.LazyFunction(lambda: {"policy_type": "model_access", "config": {}})
    actor = "system tests"
    recorded_at = factory.LazyFunction(now)


class PolicyEpochFactory(Factory):
    """The epoch of a tenant without policies."""

    class Meta:
        model = PolicyEpoch

    tenant = factory.SubFactory(TenantFactory)
    epoch = 1


class LimitBucketFactory(Factory):
    """A counter of the organization: US dollars, without bounds."""

    class Meta:
        model = LimitBucket

    tenant = factory.SubFactory(TenantFactory)
    key = factory.Sequence(lambda n: f"budget|scope:1|organization|cost|total|{n}|-|")
    kind = LimitBucket.Kind.BUDGET
    owner_kind = "scope:1"
    metric = "cost"
    window = "total"


class LimitAlertFactory(Factory):
    class Meta:
        model = LimitAlert

    bucket = factory.SubFactory(LimitBucketFactory)
    tenant = factory.LazyAttribute(lambda alert: alert.bucket.tenant)
    threshold = "alert:80"
    level = Decimal(80)
    used = Decimal(81)
    policy_id = factory.LazyFunction(uuid7)
    policy_version = 1
    told_at = factory.LazyFunction(now)


class ReservationFactory(Factory):
    """An open reservation of nothing."""

    class Meta:
        model = Reservation

    tenant = factory.SubFactory(TenantFactory)
    request_id = factory.Sequence(lambda n: f"held-{n}")
    bucket_ids = factory.LazyFunction(list)
    amounts = factory.LazyFunction(list)
    model = "openai/gpt-4o"
    digest = "0" * 64
    policy_ids = factory.LazyFunction(list)
    policy_versions = factory.LazyFunction(list)
    reserved_at = factory.LazyFunction(now)
    expires_at = factory.LazyAttribute(lambda row: row.reserved_at + timedelta(minutes=15))


# ---------------------------------------------------------------- storage_meta


class BucketFactory(Factory):
    class Meta:
        model = Bucket

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence(lambda n: f"bucket-{n}")
    versioning = Bucket.Versioning.ENABLED


class StorageObjectFactory(Factory):
    """A key of 3 bytes with its one version. Rows alone: neither blob nor access log nor events."""

    class Meta:
        model = StorageObject

    bucket = factory.SubFactory(BucketFactory)
    tenant = factory.LazyAttribute(lambda head: head.bucket.tenant)
    object_key = factory.Sequence(lambda n: f"reports/{n}.txt")
    size = 3
    content_type = "text/plain"
    storage_backend = "elsewhere"
    current_version_id = factory.LazyFunction(uuid7)
    next_seq = 2
    change_seq = 1
    last_modified = factory.LazyFunction(now)

    @classmethod
    def _create(cls, model_class, *args, **kwargs):
        with transaction.atomic():
            head = super()._create(model_class, *args, **kwargs)
            content = {name: getattr(head, name) for name in CONTENT}
            StorageVersion.objects.create(
                id=head.current_version_id,
                tenant_id=head.tenant_id,
                object=head,
                bucket_id=head.bucket_id,
                seq=head.next_seq - 1,
                is_delete_marker=head.is_delete_marker,
                **content,
            )
        return head


class StorageVersionFactory(Factory):
    """A newer version of its object, which its head then points at."""

    class Meta:
        model = StorageVersion

    object = factory.SubFactory(StorageObjectFactory)
    tenant = factory.LazyAttribute(lambda version: version.object.tenant)
    bucket = factory.LazyAttribute(lambda version: version.object.bucket)
    seq = factory.LazyAttribute(lambda version: version.object.next_seq)
    size = 3
    content_type = "text/plain"
    storage_backend = "elsewhere"

    @classmethod
    def _create(cls, model_class, *args, **kwargs):
        with transaction.atomic():
            version = super()._create(model_class, *args, **kwargs)
            head = version.object
            content = {name: getattr(version, name) for name in (*CONTENT, "is_delete_marker")}
            for name, value in {**content, "next_seq": version.seq + 1, "current_version": version}.items():
                setattr(head, name, value)
            head.save()
        return version


class StorageAuditFactory(Factory):
    class Meta:
        model = StorageAudit

    id = factory.LazyAttribute(lambda row: uuid7_at(row.created_at))
    created_at = factory.LazyFunction(now)
    tenant_id = factory.LazyFunction(uuid7)
    action = "s3:PutObject"
    record_type = StorageAudit.RecordType.CREATE
    bucket = "docs"
    object_key = "reports/1.txt"
    actor_type = "system"


class StorageHookFactory(Factory):
    class Meta:
        model = StorageHook

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence(lambda n: f"hook-{n}")
    url = "https://hooks.example.org/storage"
    event_types = ["s3:*"]


class StorageEventFactory(Factory):
    class Meta:
        model = StorageEvent

    hook = factory.SubFactory(StorageHookFactory)
    tenant = factory.LazyAttribute(lambda event: event.hook.tenant)
    event_type = "s3:ObjectCreated:Put"
    object_key = "reports/1.txt"
    payload = factory.LazyFunction(dict)
    next_attempt_at = factory.LazyFunction(now)


class HookExecutionFactory(Factory):
    class Meta:
        model = HookExecution

    tenant = factory.SubFactory(TenantFactory)
    hook_name = "hook"
    event_type = "s3:ObjectCreated:Put"
    object_key = "reports/1.txt"
    success = True


class PendingBlobFactory(Factory):
    class Meta:
        model = PendingBlob

    tenant_id = factory.LazyFunction(uuid7)
    storage_backend = "objects"
    blob_name = factory.LazyAttribute(lambda blob: f"{blob.tenant_id.hex}/2026/11/21/{uuid7().hex}")
    reason = PendingBlob.Reason.UPLOAD
    started_at = factory.LazyFunction(now)


class StorageQuotaFactory(Factory):
    class Meta:
        model = StorageQuota

    tenant = factory.SubFactory(TenantFactory)
    max_bytes = 1024


class StorageUsageFactory(Factory):
    class Meta:
        model = StorageUsage

    tenant = factory.SubFactory(TenantFactory)
    counted_at = factory.LazyFunction(now)
