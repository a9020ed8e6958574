from __future__ import annotations

from django.db import migrations

_FLAGS = ",".join(
    f"supports_{name}"
    for name in (
        "function_calling", "tool_choice", "vision", "reasoning", "response_schema", "prompt_caching", "pdf_input",
        "system_messages", "parallel_function_calling", "web_search", "assistant_prefill", "native_streaming",
        "audio_input", "xhigh_reasoning_effort", "computer_use", "max_reasoning_effort", "native_structured_output",
        "adaptive_thinking", "sampling_params", "minimal_reasoning_effort",
    )
)  # fmt: skip

# What a cached record of a model is made from.
WATCHED = {
    "cp_catalog_provider": "{slug,family,enabled}",
    "cp_catalog_aimodel": "{provider_id,key,name,source_provider,mode,max_input_tokens,max_output_tokens,max_tokens,flags,enabled,"
    + _FLAGS
    + "}",
    "cp_catalog_modelalias": "{tenant_id,alias,model_id,enabled}",
    "cp_catalog_modelprice": "{model_id,tenant_id,effective_from,effective_to,rates,discount_percent,margin_percent,margin_fixed}",
}


class Migration(migrations.Migration):
    dependencies = [("cp_catalog", "0005_add_search"), ("cp_core", "0002_create_invalidation")]

    operations = [
        migrations.RunSQL(
            [("SELECT cp_cache_watch(%s, 'catalog', 'id', %s)", [table, columns])],
            [("SELECT cp_cache_unwatch(%s)", [table])],
        )
        for table, columns in WATCHED.items()
    ]
