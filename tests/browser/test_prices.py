"""Prices as an operator sets, imports and books them, in a real browser: with script and without, wide and narrow."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SHOTS
from tests.browser.test_pages import Watched, barriers, name_of
from tests.catalog.importing.files import big, chat, dump

PRICES, IMPORTS = "/admin/cp_catalog/modelprice/", "/admin/cp_catalog/priceimport/"
UNPRICED = """
from auditing.models import InferenceRequest
from controlplane.core.ids import now
from tenants.models import App
app = App.objects.first()
for n, model in enumerate(["openai/model-2", "openai/nobody-knows-this-name-yet"]):
    row = {"request_id": f"unpriced-{n}", "created_at": now(), "tenant_id": app.tenant_id, "app_id": app.pk, "provider": "openai"}
    InferenceRequest.objects.ingest([row | {"model": model, "prompt_tokens": 1000000}])
"""
"""Requests that nobody can price: of a name that the catalog does not know, and of a model that has a price, but too late."""
FORM = f"{PRICES}add/?model=model-1"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two price files: many models, and the next one, in which some prices moved and something is wrong."""
    folder = tmp_path_factory.mktemp("files")
    first = big(60)
    moved = {
        key: entry | {"input_cost_per_token": entry.get("input_cost_per_token", 0) * 3} for key, entry in first.items()
    }
    second = first | dict(list(moved.items())[:8]) | {"new": chat(), "bad": chat(input_cost_per_token="dear")}
    del second["model-59"]
    for name, entries in (("first.json", first), ("second.json", second)):
        (folder / name).write_bytes(dump(entries))
    return folder


@pytest.fixture(scope="module")
def priced(site, files):
    """The site with the first file imported, and the second one to upload."""
    site.manage("prices_import", str(files / "first.json"), "--apply", "--source", "browser")
    site.manage("price_set", "model-1", "--input-per-million", "0.004", "--reason", "a test", "--confirm")
    site.manage("shell", "--no-imports", "-c", UNPRICED)
    return site


def upload(page, path):
    page.goto(f"{IMPORTS}upload/")
    page.set_input_files("#id_file", path)
    page.fill("#id_source", "browser")
    page.click(".submit-row .default")
    page.wait_for_url("**/draft/")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "light")])
def test_pages_around_prices_are_whole_and_accessible(priced, files, open_page, width, scheme):
    page = open_page(width, scheme)
    upload(page, files / "second.json")
    page.goto("/admin/cp_catalog/aimodel/?q=model-1")
    model = page.locator("#result_list tbody th a").first.get_attribute("href")
    page.goto("/admin/cp_catalog/provider/?q=openai")
    provider = page.locator("#result_list tbody th a").first.get_attribute("href").split("/change/")[0]
    calculator = "/admin/cp_catalog/aimodel/calculator/?model=model-1&prompt_tokens=1000&completion_tokens=500"
    paths = [
        f"{IMPORTS}draft/", f"{IMPORTS}draft/?show=errors", f"{IMPORTS}draft/?show=removed&q=x", FORM, f"{PRICES}add/", model,
        f"{provider}/terms/", calculator, f"{PRICES}unpriced/",
        "/admin/cp_catalog/aimodel/?ability=vision&price=input_rate&price_to=5",
    ]  # fmt: skip
    watched = Watched(page)
    wrong = []
    for path in paths:
        wrong += watched.problems(path)
        page.screenshot(
            path=SHOTS / f"{name_of(path.replace('?', '-').replace('&', '-'))}-{width}-{scheme}.png", full_page=True
        )
        if width != 768:
            wrong += [f"{path}: {sentence}" for sentence in barriers(page)]

    assert wrong == []


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_price_ten_times_off_is_asked_about_and_then_saved(priced, open_page, script):
    page = open_page(java_script_enabled=script)
    page.goto(FORM)
    page.fill("#id_input_cost_per_token", "0.9" if script else "80")
    page.fill("#id_reason", "typed in a browser")
    if script:
        expect(page.locator("output[for=id_input_cost_per_token]")).to_have_text("0.0000009 per token")
    page.click("input[name=_save]")
    expect(page.locator(".cp-note.cp-warn")).to_contain_text("times the list price of")
    expect(page.locator("#id_reason")).to_have_value("typed in a browser")

    page.check("input[name=confirmed]")
    page.click("input[name=_save]")

    page.wait_for_url("**/aimodel/*/change/")
    expect(page.locator(".messagelist")).to_contain_text("the price for everybody holds from")
    expect(page.locator(".cp-prices .cp-rates tbody tr").first).to_contain_text("0.90" if script else "80.00")


def test_a_range_of_prices_is_chosen_by_keyboard_and_without_script(priced, open_page):
    page = open_page(java_script_enabled=False)
    page.goto("/admin/cp_catalog/aimodel/?q=model-")
    page.locator(".cp-filter summary", has_text="Price").first.focus()
    page.keyboard.press("Enter")
    page.fill(".cp-range input[name=price_from]", "0.05")
    page.keyboard.press("Enter")

    expect(page.locator(".cp-filter.cp-on")).to_contain_text("from 0.05 per 1M tokens")
    assert "q=model-" in page.url


def test_a_file_is_uploaded_read_and_applied_in_part_without_script(priced, files, open_page):
    page = open_page(java_script_enabled=False)
    upload(page, files / "second.json")
    expect(page.locator("h1")).to_have_text("What second.json changes")
    page.click(".cp-tabs >> text=Added")
    page.check("input[name=key][value=new]")
    page.fill("#id_reason", "only the new one")
    page.click("input[name=_ticked]")

    page.wait_for_url("**/draft/")
    expect(page.locator(".messagelist")).to_contain_text("1 new prices")
    expect(page.locator(".cp-tabs")).not_to_contain_text("Added")
    page.click("input[name=_discard]")
    expect(page.locator(".messagelist")).to_contain_text("was thrown away")
