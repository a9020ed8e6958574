from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower

from catalog import resolution
from catalog.errors import AliasError
from catalog.models.price_import import PriceImport
from catalog.models.provider import Provider
from catalog.models.remembered import Remembered
from catalog.pricing import Cost, Rates, Usage, cost
from catalog.records import ModelRecord
from catalog.searching import alike
from controlplane.core.constraints import json_object
from controlplane.core.fields import created_at_field, id_field, updated_at_field
from controlplane.core.ids import now
from tenants.models import Tenant

if TYPE_CHECKING:
    from catalog.models.price import ModelPrice

CAPABILITIES = (
    "function_calling", "tool_choice", "vision", "reasoning", "response_schema", "prompt_caching", "pdf_input",
    "system_messages", "parallel_function_calling", "web_search", "assistant_prefill", "native_streaming",
    "audio_input", "xhigh_reasoning_effort", "computer_use", "max_reasoning_effort", "native_structured_output",
    "adaptive_thinking", "sampling_params", "minimal_reasoning_effort",
)  # fmt: skip
"""What a model may support that has a column, `supports_<name>`; the rarer ones are in `flags`."""


class AIModelQuerySet(models.QuerySet["AIModel"]):
    def for_provider(self, provider: Provider | str) -> Self:
        return self.filter(provider__slug=provider) if isinstance(provider, str) else self.filter(provider=provider)

    def with_mode(self, mode: str) -> Self:
        return self.filter(mode=mode)

    def enabled(self) -> Self:
        """Models that can be used: they and their provider are enabled."""
        return self.filter(enabled=True, provider__enabled=True)

    def search(
        self,
        text: str,
        limit: int = 20,
        mode: str | None = None,
        provider: str | None = None,
        tenant: Tenant | UUID | None = None,
    ) -> models.QuerySet[AIModel]:
        """Models whose key, name for people or alias resembles the text, the most alike first.

        limit: at most so many. mode, provider (slug): only these. tenant: its own aliases count too.
        """
        found = self if mode is None else self.with_mode(mode)
        found = found if provider is None else found.for_provider(provider)
        return alike(found, ModelAlias.objects.all(), text, _id(tenant))[:limit]


class AIModelManager(models.Manager.from_queryset(AIModelQuerySet)):  # type: ignore[misc]  # made at run time
    cache = resolution.cache

    def resolve(
        self,
        name: str,
        tenant: Tenant | UUID | None = None,
        provider: str | None = None,
        region: str | None = None,
        size: str | None = None,
        quality: str | None = None,
    ) -> ModelRecord:
        """The model that a name means: an alias, a key, a canonical id, or a name that its provider gives it.

        tenant: whose aliases and prices hold, beside everybody's. provider (slug or the source's word): whose model it is;
        aliases do not count then. region: where the call ran. size (`1024x1536`), quality: of an image, which may have a
        key of its own. The rules: docs/models.md. Cached; else one statement. Raises UnknownModel, with the names that were
        tried and the nearest, ModelDisabled, or CacheUnavailable (503).
        """
        return resolution.resolve(name, _id(tenant), provider, region, size, quality)


def _id(tenant: Tenant | UUID | None) -> UUID | None:
    return tenant.pk if isinstance(tenant, Tenant) else tenant


class AIModel(Remembered):
    """A model of a provider: its names, limits and abilities. Global: written by operators and the price import.

    `key` is the identity, the source's name; several models may share one canonical id. NULL = the source does not say.
    Prices have a table of their own; without one a call is unpriced, never free.
    """

    class Origin(models.TextChoices):
        IMPORT = "import"
        MANUAL = "manual"

    id = id_field()
    provider = models.ForeignKey(Provider, models.PROTECT, related_name="models", db_comment="Who serves it")
    key = models.CharField(
        max_length=200,
        blank=True,
        help_text="The name callers use; empty: provider/name.",
        db_comment="The source's name",
    )
    name = models.CharField(max_length=200, db_comment="Key without a leading provider/")
    display_name = models.CharField(max_length=200, blank=True, default="", db_comment="Name for people")
    description = models.TextField(blank=True, default="", db_comment="What it is good for")
    source_provider = models.CharField(
        max_length=64, blank=True, default="", db_comment="The source's word for the provider"
    )
    mode = models.CharField(
        max_length=64, blank=True, default="", help_text="chat, embedding, image_generation, … Empty: not stated.",
        db_comment="chat, embedding, …; empty: not stated",
    )  # fmt: skip
    max_input_tokens = models.BigIntegerField(null=True, blank=True, db_comment="Context window")
    max_output_tokens = models.BigIntegerField(null=True, blank=True, db_comment="Longest answer")
    max_tokens = models.BigIntegerField(null=True, blank=True, db_comment="The source's max_tokens")
    supports_function_calling = models.BooleanField(null=True, blank=True)
    supports_tool_choice = models.BooleanField(null=True, blank=True)
    supports_vision = models.BooleanField(null=True, blank=True)
    supports_reasoning = models.BooleanField(null=True, blank=True)
    supports_response_schema = models.BooleanField(null=True, blank=True)
    supports_prompt_caching = models.BooleanField(null=True, blank=True)
    supports_pdf_input = models.BooleanField(null=True, blank=True)
    supports_system_messages = models.BooleanField(null=True, blank=True)
    supports_parallel_function_calling = models.BooleanField(null=True, blank=True)
    supports_web_search = models.BooleanField(null=True, blank=True)
    supports_assistant_prefill = models.BooleanField(null=True, blank=True)
    supports_native_streaming = models.BooleanField(null=True, blank=True)
    supports_audio_input = models.BooleanField(null=True, blank=True)
    supports_xhigh_reasoning_effort = models.BooleanField(null=True, blank=True)
    supports_computer_use = models.BooleanField(null=True, blank=True)
    supports_max_reasoning_effort = models.BooleanField(null=True, blank=True)
    supports_native_structured_output = models.BooleanField(null=True, blank=True)
    supports_adaptive_thinking = models.BooleanField(null=True, blank=True)
    supports_sampling_params = models.BooleanField(null=True, blank=True)
    supports_minimal_reasoning_effort = models.BooleanField(null=True, blank=True)
    flags = models.JSONField(default=dict, blank=True, db_comment="The rarer supports_… of the source")
    supported_endpoints = ArrayField(models.CharField(max_length=100), default=list, blank=True)
    input_modalities = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    output_modalities = ArrayField(models.CharField(max_length=32), default=list, blank=True)
    regions = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    output_vector_size = models.IntegerField(null=True, blank=True, db_comment="Dimensions of an embedding")
    rpm = models.BigIntegerField("requests per minute", null=True, blank=True, db_comment="The provider's own limit")
    tpm = models.BigIntegerField("tokens per minute", null=True, blank=True, db_comment="The provider's own limit")
    deprecation_date = models.DateField(null=True, blank=True, db_comment="From when the provider drops it")
    source_url = models.URLField(max_length=500, blank=True, default="", db_comment="Where this is documented")
    extra = models.JSONField(default=dict, blank=True, db_comment="Every other field of the source, verbatim")
    enabled = models.BooleanField(default=True, help_text="Off: it cannot be used.", db_comment="In use")
    origin = models.CharField(
        max_length=6, choices=Origin, default=Origin.MANUAL, editable=False, db_comment="import, manual"
    )
    unlisted_at = models.DateTimeField(null=True, editable=False, db_comment="Absent from the source since then")
    first_import = models.ForeignKey(
        PriceImport, models.PROTECT, null=True, editable=False, db_index=False, related_name="+",
        db_comment="The import that made it",
    )  # fmt: skip
    last_import = models.ForeignKey(
        PriceImport, models.PROTECT, null=True, editable=False, db_index=False, related_name="+",
        db_comment="The last import that changed it",
    )  # fmt: skip
    created_at = created_at_field()
    updated_at = updated_at_field()

    reference = "key"
    objects = AIModelManager()

    class Meta:
        verbose_name = "model"
        db_table_comment = "A model of a provider: its names, limits and abilities"
        indexes = [
            models.Index("provider", Lower("name"), name="aimodel_name_idx"),
        ]
        constraints = [
            models.UniqueConstraint(
                Lower("key"),
                name="cp_catalog_aimodel_key_once",
                violation_error_message="Another model has this key, perhaps in other case.",
            ),
            models.CheckConstraint(condition=~models.Q(key=""), name="cp_catalog_aimodel_has_a_key"),
            models.CheckConstraint(
                condition=~models.Q(name=""),
                name="cp_catalog_aimodel_has_a_name",
                violation_error_message="A model needs a name.",
            ),
            json_object("flags", "cp_catalog_aimodel_flags_is_object"),
            json_object("extra", "cp_catalog_aimodel_extra_is_object"),
        ]

    def __str__(self) -> str:
        return self.key

    def save(self, **kwargs: Any) -> None:
        self._fill_key()
        super().save(**kwargs)

    def clean(self) -> None:
        self._fill_key()
        if (
            ModelAlias.objects.filter(tenant=None)
            .alias(lowered=Lower("alias"))
            .filter(lowered=Lower(models.Value(self.key)))
            .exists()
        ):
            raise ValidationError({"key": ValidationError(AliasError.messages["alias_taken"], code="alias_taken")})

    @property
    def canonical_id(self) -> str:
        """`<provider.slug>/<name>`: what policies match on. Needs `provider`."""
        return f"{self.provider.slug}/{self.name}"

    @property
    def status(self) -> str:
        """For people: disabled, unlisted, deprecated (from its date on, UTC) or active."""
        if not self.enabled:
            return "disabled"
        if self.unlisted_at:
            return "unlisted"
        gone = self.deprecation_date is not None and self.deprecation_date <= now().date()
        return "deprecated" if gone else "active"

    def price_at(self, instant: datetime, tenant: Tenant | UUID | None = None) -> ModelPrice | None:
        """The price that holds at the instant (aware): the tenant's own, which replaces the list price whole, else the
        list price, else None."""
        found: ModelPrice | None = self.prices.at(instant, tenant)
        return found

    def cost(self, usage: Usage, at: datetime | None = None, tenant: Tenant | UUID | None = None) -> Cost:
        """What a call costs by the price at `at`; None: at `usage.at`, else now. Status "unpriced" without a price."""
        price = self.price_at(at or usage.at or now(), tenant)
        if price is not None:
            return cost(price.compiled, usage)
        return cost(Rates.from_entry({}, self.provider, mode=self.mode, key=self.key), usage)

    def _fill_key(self) -> None:
        if not self.key and self.name and self.provider_id:
            self.key = self.canonical_id


class ModelAliasQuerySet(models.QuerySet["ModelAlias"]):
    def for_tenant(self, tenant: Tenant) -> Self:
        """The tenant's aliases and those of everybody."""
        return self.filter(models.Q(tenant=tenant) | models.Q(tenant=None))


class ModelAlias(Remembered):
    """Another name of a model: for everybody (no tenant), or for one tenant, which it then redirects.

    It points to a model, never to an alias: one hop, no cycle. Written by operators, and by tenants for themselves.
    """

    id = id_field()
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, null=True, blank=True, db_index=False, related_name="+",
        help_text="Empty: for everybody.", db_comment="NULL: for everybody",
    )  # fmt: skip
    alias = models.CharField(max_length=200, db_comment="The other name, in any case")
    model = models.ForeignKey(AIModel, models.PROTECT, related_name="aliases", db_comment="What it means")
    enabled = models.BooleanField(default=True, db_comment="In use")
    note = models.CharField(max_length=300, blank=True, default="", db_comment="Why it is there")
    created_at = created_at_field()
    updated_at = updated_at_field()

    objects = ModelAliasQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "model aliases"
        db_table_comment = "Another name of a model, for everybody or one tenant"
        indexes = [models.Index(Lower("alias"), name="modelalias_alias_idx")]
        constraints = [
            models.UniqueConstraint(
                "tenant",
                Lower("alias"),
                nulls_distinct=False,
                name="cp_catalog_modelalias_once",
                violation_error_code="alias_taken",
                violation_error_message=AliasError.messages["alias_taken"],
            ),
            models.CheckConstraint(condition=~models.Q(alias=""), name="cp_catalog_modelalias_has_a_name"),
        ]

    def __str__(self) -> str:
        return self.alias

    def save(self, **kwargs: Any) -> None:
        if self.shadows_model():
            raise AliasError("alias_shadows_model")
        super().save(**kwargs)

    def clean(self) -> None:
        if self.shadows_model():
            message = AliasError.messages["alias_shadows_model"]
            raise ValidationError({"alias": ValidationError(message, code="alias_shadows_model")})

    def shadows_model(self) -> bool:
        """Whether this alias, being for everybody, would hide a model's key. A tenant may redirect its own calls."""
        if self.tenant_id is not None:
            return False
        clash: bool = (
            AIModel.objects.alias(lowered=Lower("key")).filter(lowered=Lower(models.Value(self.alias))).exists()
        )
        return clash
