"""Images, video, speech, transcription; reranking, search, documents."""

from __future__ import annotations

from decimal import Decimal

import pytest

from catalog.errors import BadRate
from tests.catalog.pricing.bills import CR, TUESDAY, I, O, lines, price

IN_IMAGE, OUT_IMAGE, IN_PIXEL, OUT_PIXEL = (
    "input_cost_per_image", "output_cost_per_image", "input_cost_per_pixel", "output_cost_per_pixel",
)  # fmt: skip


def image(entry, provider="openai", **used):
    return price(entry, provider, mode="image_generation", **used)


# images


def test_images_with_tokens_cost_by_token_and_all_output_is_images():
    entry = {I: "2", O: "3", "output_cost_per_image_token": "5", "input_cost_per_image_token": "7", IN_IMAGE: "99"}
    used = {
        "prompt_tokens": 10,
        "text_tokens": 6,
        "image_tokens": 4,
        "completion_tokens": 8,
        "images": 3,
        "output_images": 1,
    }

    assert lines(image(entry, **used)) == {"text": (6, 2), "image": (4, 7), "output_image": (8, 5)}


def test_output_that_was_split_is_text_where_it_is_no_image():
    entry = {I: "2", O: "3", "output_cost_per_image_token": "5"}

    found = image(entry, completion_tokens=10, output_image_tokens=4, output_text_tokens=1)
    audio = image(entry, completion_tokens=10, output_audio_tokens=4)

    assert lines(found) == {"output": (6, 3), "output_image": (4, 5)}
    assert lines(audio) == {"output": (6, 3), "output_audio": (4, 3)}


def test_images_know_no_tier_and_no_cache():
    entry = {I: "2", f"{I}_priority": "9", CR: "0.5", O: "3"}
    used = {
        "prompt_tokens": 10,
        "cached_tokens": 5,
        "cache_write_tokens": 2,
        "cache_write_1h_tokens": 2,
        "cache_type": "ephemeral",
    }

    assert lines(image(entry, service_tier="priority", **used)) == {"text": (10, 2)}


def test_images_with_tokens_list_what_has_no_rate():
    found = image({"output_cost_per_image_token": "5"}, "tencent", prompt_tokens=10, completion_tokens=3)

    assert (lines(found), found.unrated) == ({"output_image": (3, 5)}, ("text",))


def test_images_cost_by_image_where_no_token_is_priced():
    found = image({OUT_IMAGE: "4"}, prompt_tokens=10, completion_tokens=3, output_images=2)

    assert lines(found) == {"output_images": (2, 4)}
    assert (found.input, found.output) == (8, 0)


@pytest.mark.parametrize(
    "provider",
    [
        "fal_ai",
        "aiml",
        "recraft",
        "cometapi",
        "runwayml",
        "gemini",
        "vertex_ai",
        "azure_ai",
        "dashscope",
        "bedrock",
        "tencent",
    ],
)
def test_some_providers_charge_the_image_that_is_made(provider):
    entry = {OUT_IMAGE: "4", IN_IMAGE: "1", IN_PIXEL: "1"}

    assert lines(image(entry, provider, output_images=2)) == {"output_images": (2, 4)}


@pytest.mark.parametrize("provider", ["aiml", "vertex_ai", "dashscope", "fal_ai"])
def test_these_providers_are_unpriced_without_it(provider):
    assert image({IN_IMAGE: "1", IN_PIXEL: "1"}, provider, output_images=2).status == "unpriced"


def test_dashscope_charges_the_images_it_was_given_too():
    assert lines(image({OUT_IMAGE: "4", IN_IMAGE: "1"}, "dashscope", output_images=2, images=3)) == {
        "output_images": (2, 4), "images": (3, 1),
    }  # fmt: skip


def test_vertex_charges_images_more_outside_of_its_global_endpoint():
    entry = {OUT_IMAGE: "4", "regional_endpoint_uplift_multiplier": "1.1"}

    assert image(entry, "vertex_ai", output_images=2, location="us-east5").total == Decimal("8.8")
    assert image(entry, "vertex_ai", output_images=2, location="global").total == 8
    assert image(entry, "gemini", output_images=2, location="us-east5").total == 8


@pytest.mark.parametrize("provider", ["openai", "azure_ai", "together_ai"])
@pytest.mark.parametrize(
    ("entry", "size", "expected"),
    [
        ({IN_IMAGE: "1", OUT_IMAGE: "0", IN_PIXEL: "9"}, "", (2, 1)),
        ({OUT_IMAGE: "4", IN_PIXEL: "9"}, "", (2, 4)),
        ({IN_PIXEL: "0.1"}, "", (2 * 1024 * 1024, Decimal("0.1"))),
        ({IN_PIXEL: "0.1"}, "auto", (2 * 1024 * 1024, Decimal("0.1"))),
        ({IN_PIXEL: "0.1"}, "10x20", (400, Decimal("0.1"))),
        ({IN_PIXEL: "0.1"}, "10-x-20", (400, Decimal("0.1"))),
        ({IN_PIXEL: "0.1"}, "10*20", (400, Decimal("0.1"))),
    ],
)
def test_others_charge_the_first_of_image_given_image_made_and_pixel(provider, entry, size, expected):
    assert lines(image(entry, provider, output_images=2, image_size=size)) == {"output_images": expected}


def test_no_images_cost_nothing_and_images_without_rate_are_unpriced():
    assert image({OUT_IMAGE: "4"}).total == 0
    assert image({}, output_images=1).status == "unpriced"


def test_fal_charges_by_resolution_else_by_started_megapixel_else_by_image():
    entry = {OUT_IMAGE: "4", f"{OUT_IMAGE}_4K": "9", OUT_PIXEL: "0.001"}

    def found(**used):
        return lines(image(entry, "fal_ai", output_images=2, **used))["output_images"]

    assert found(image_resolution="4K", image_size="10x10") == (2, 9)
    assert found(image_resolution="2K") == (2, 4)
    assert found(image_size="1024x1024") == (2 * 1_048_576, Decimal("0.001"))
    assert found(image_size="1024x1025") == (4 * 1_048_576, Decimal("0.001"))
    assert lines(image({OUT_IMAGE: "4"}, "fal_ai", output_images=1, image_size="10x10"))["output_images"] == (1, 4)


# video


def video(entry, **used):
    return price(entry, mode="video_generation", **used)


@pytest.mark.parametrize(
    ("missing", "rate"),
    [((), 9), (("video_per_second",), 7), (("video_per_second", "second_720p"), 5)],
)
def test_video_is_charged_by_second_of_its_resolution(missing, rate):
    entry = {"video_per_second": "9", "second_720p": "7", "second": "5"}
    entry = {f"output_cost_per_{name}": value for name, value in entry.items() if name not in missing}

    found = video(entry, output_video_seconds=Decimal("1.5"), videos=2, resolution="720P")

    assert lines(found) == {"video_seconds": (3, rate)}
    assert (found.input, found.output) == (0, 3 * rate)


def test_video_charges_the_images_it_was_given_too():
    used = {"output_video_seconds": Decimal(2), "images": 3}

    assert video({"output_cost_per_second": "5", IN_IMAGE: "1"}, **used).total == 13
    assert video({"output_cost_per_second": "5"}, **used).unrated == ("images",)


def test_video_costs_what_the_provider_says():
    found = video({"output_cost_per_second": "5"}, output_video_seconds=Decimal(2), provider_cost=Decimal("0.3"))

    assert (found.input, found.output) == (0, Decimal("0.3"))


def test_video_of_unknown_length_or_rate_is_unpriced():
    assert video({"output_cost_per_second": "5"}).status == "unpriced"
    assert video({}, output_video_seconds=Decimal(2)).status == "unpriced"
    assert video({"output_cost_per_second": "5"}, output_video_seconds=Decimal(0)).total == 0


# speech, transcription


def test_speech_is_charged_by_character():
    entry = {"input_cost_per_character": "0.1", I: "9", O: "9"}

    found = price(entry, mode="audio_speech", characters=20, prompt_tokens=5, completion_tokens=5)

    assert lines(found) == {"characters": (20, Decimal("0.1"))}
    assert price(entry, mode="audio_speech").total == 0


def test_speech_without_rate_of_characters_is_charged_by_token():
    entry = {I: "2", O: "3", "output_cost_per_audio_token": "9"}
    used = {"prompt_tokens": 5, "completion_tokens": 4, "output_audio_tokens": 4}

    assert lines(price(entry, mode="audio_speech", **used)) == {"text": (5, 2), "output_audio": (4, 9)}
    assert price({}, mode="audio_speech", **used).status == "unpriced"


@pytest.mark.parametrize("mode", ["audio_speech", "audio_transcription"])
@pytest.mark.parametrize("provider", ["fireworks_ai", "deepseek", "tencent", "xai", "perplexity", "dashscope"])
def test_speech_and_transcription_honour_the_service_tier_in_every_family(mode, provider):
    entry = {I: "2", f"{I}_priority": "5"}

    assert price(entry, provider, mode=mode, prompt_tokens=1, service_tier="priority").total == 5


def transcription(entry, **used):
    return price(entry, mode="audio_transcription", **used)


def test_a_transcription_with_tokens_is_charged_by_token():
    entry = {I: "2", O: "3", "input_cost_per_audio_token": "9", "input_cost_per_second": "7"}

    found = transcription(entry, prompt_tokens=5, audio_tokens=5, completion_tokens=4, audio_seconds=Decimal(9))

    assert lines(found)["audio"] == (5, 9)
    assert lines(found)["output"] == (4, 3)
    assert "text" not in lines(found)


def test_a_transcription_without_tokens_is_charged_by_second_of_output_else_of_input():
    seconds = Decimal("1.5")
    both = {"output_cost_per_second": "2", "input_cost_per_second": "3"}

    on_output, on_input = (
        transcription(both, audio_seconds=seconds),
        transcription({**both, "output_cost_per_second": "0"}, audio_seconds=seconds),
    )

    assert (on_output.input, on_output.output) == (0, 3)
    assert (on_input.input, on_input.output) == (Decimal("4.5"), 0)
    assert transcription({"output_cost_per_second": "0"}, audio_seconds=seconds).total == 0


def test_a_transcription_with_tokens_that_have_no_rate_is_charged_by_second():
    found = transcription({"input_cost_per_second": "3"}, prompt_tokens=5, audio_seconds=Decimal(2))

    assert lines(found) == {"audio_seconds": (2, 3)}


def test_a_transcription_without_rate_is_unpriced():
    assert transcription({I: "2"}, audio_seconds=Decimal(1)).status == "unpriced"
    assert transcription({O: "2"}, prompt_tokens=1).status == "unpriced"
    assert transcription({I: "2"}).total == 0


def test_tokens_that_only_seconds_could_price_are_listed():
    found = transcription({"input_cost_per_second": "3"}, prompt_tokens=5)

    assert (found.total, found.unrated) == (0, ("text",))


# reranking, search, documents


def test_reranking_is_charged_by_query():
    found = price({"input_cost_per_query": "5", I: "1"}, "cohere", mode="rerank", queries=3, prompt_tokens=7)

    assert lines(found) == {"queries": (3, 5)}


@pytest.mark.parametrize("provider", ["jina_ai", "voyage"])
def test_some_charge_reranking_by_token(provider):
    entry = {"input_cost_per_query": "5", I: "1"}

    assert lines(price(entry, provider, mode="rerank", queries=3, prompt_tokens=7)) == {"text": (7, 1)}


def test_reranking_without_rate_of_queries_is_charged_by_token():
    assert lines(price({I: "1"}, "cohere", mode="rerank", queries=3, prompt_tokens=7)) == {"text": (7, 1)}


def test_reranking_without_rate_or_count_is_unpriced():
    assert price({}, mode="rerank", queries=1, prompt_tokens=1).status == "unpriced"
    assert price({"input_cost_per_query": "5"}, mode="rerank").status == "unpriced"
    assert price({"input_cost_per_query": "5"}, mode="rerank", queries=0).total == 0


RESULTS = {
    "tiered_pricing": [
        {"max_results_range": ["0", "25"], "input_cost_per_query": "5"},
        {"max_results_range": ["26", "100"], "input_cost_per_query": "25"},
    ]
}


@pytest.mark.parametrize(("results", "rate"), [(0, 5), (10, 5), (25, 5), (26, 25), (100, 25), (101, 25)])
def test_a_search_costs_by_the_results_it_asks_for(results, rate):
    found = price({**RESULTS, "input_cost_per_query": "1"}, mode="search", queries=2, max_results=results)

    assert lines(found) == {"queries": (2, rate)}


def test_a_search_is_one_query_if_nobody_counted():
    assert price({"input_cost_per_query": "5"}, mode="search").total == 5
    assert price({"input_cost_per_query": "5"}, mode="search", queries=0).total == 0
    assert price({}, mode="search").status == "unpriced"


def test_a_search_row_without_rate_is_unpriced_and_one_without_ends_refused():
    assert price({"tiered_pricing": [{"max_results_range": ["0", "25"]}]}, mode="search").status == "unpriced"
    with pytest.raises(BadRate, match="max_results_range"):
        price({"tiered_pricing": [{"max_results_range": "0-25"}]}, mode="search")


PAGE, NOTE, CREDIT = "ocr_cost_per_page", "annotation_cost_per_page", "ocr_cost_per_credit"


def ocr(entry, **used):
    return price(entry, mode="ocr", **used)


def test_a_document_is_charged_by_credit_where_both_are_known():
    entry = {PAGE: "2", CREDIT: "3"}

    assert lines(ocr(entry, pages=5, credits=Decimal("1.5"))) == {"credits": (Decimal("1.5"), 3)}
    assert lines(ocr(entry, pages=5)) == {"pages": (5, 2)}
    assert lines(ocr({PAGE: "2"}, pages=5, credits=Decimal(1))) == {"pages": (5, 2)}


def test_annotated_pages_have_a_rate_or_cost_as_pages():
    assert lines(ocr({PAGE: "2", NOTE: "3"}, pages=5, annotation_pages=4)) == {
        "pages": (5, 2),
        "annotation_pages": (4, 3),
    }
    assert lines(ocr({PAGE: "2"}, pages=5, annotation_pages=4)) == {"pages": (5, 2), "annotation_pages": (4, 2)}
    assert lines(ocr({PAGE: "2"}, annotation_pages=4)) == {"annotation_pages": (4, 2)}


def test_pages_without_rate_beside_annotated_ones_are_listed():
    found = ocr({NOTE: "3"}, pages=5, annotation_pages=4)

    assert (lines(found), found.unrated) == ({"annotation_pages": (4, 3)}, ("pages",))


def test_documents_in_a_batch_have_batch_rates_else_the_usual():
    used = {"pages": 5, "annotation_pages": 4, "batch": True}

    assert lines(ocr({PAGE: "2", f"{PAGE}_batches": "1", NOTE: "3"}, **used)) == {
        "pages": (5, 1), "annotation_pages": (4, 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "used"),
    [({PAGE: "2"}, {}), ({CREDIT: "2"}, {"pages": 5}), ({}, {"pages": 5}), ({NOTE: "3"}, {"pages": 5}),
     ({CREDIT: "3"}, {"annotation_pages": 5})],
)  # fmt: skip
def test_a_document_without_rate_or_count_is_unpriced(entry, used):
    assert ocr(entry, **used).status == "unpriced"


def test_kinds_without_tokens_know_no_tools():
    assert price({"input_cost_per_query": "5"}, mode="rerank", queries=1, file_searches=3, at=TUESDAY).tools == 0
