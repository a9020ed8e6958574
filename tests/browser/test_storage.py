"""The pages of storage that no menu leads to: a folder, an object, its versions compared, its changes; by hand and eye."""

from __future__ import annotations

import pytest

from tests.browser.conftest import SHOTS
from tests.browser.test_pages import Watched, barriers

STORAGE = "/admin/cp_storage_meta"
BROWSE = f"{STORAGE}/storageobject/browse/?tenant=marlow-daughters"
KEY = "autumn-list/the-salt-road/chapter-01.md"


@pytest.fixture(scope="package")
def storage_pages(browser, site, signed_in):
    context = browser.new_context(base_url=site.url, storage_state=signed_in)
    page = context.new_page()
    page.goto(f"{BROWSE}&bucket=marlow-manuscripts&prefix=autumn-list/the-salt-road/")
    row = page.locator(".cp-tree a", has_text="chapter-01.md").get_attribute("href").removesuffix("change/")
    context.close()
    return {
        "storage-folder": f"{BROWSE}&bucket=marlow-manuscripts&prefix=autumn-list/",
        "storage-versions": f"{BROWSE}&bucket=marlow-manuscripts&versions=1",
        "storage-empty": f"{BROWSE}&bucket=marlow-manuscripts&prefix=none/",
        "storage-object": f"{row}change/?user=constance@marlow.example",
        "storage-compare": f"{row}compare/?a=1&b=3",
        "storage-restore": f"{row}restore/?version=1",
        "storage-tags": f"{row}tags/",
        "storage-lock": f"{row}lock/?version=1",
        "storage-search": f"{STORAGE}/storageobject/?q=fenn",
        "storage-fares": f"{STORAGE}/storageobject/browse/?tenant=tamarind-travel&bucket=tamarind-fares",
        "storage-refused": f"{STORAGE}/storageaudit/?outcome=failure",
    }


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "light")])
def test_every_page_of_storage_is_whole(open_page, storage_pages, width, scheme):
    watched = Watched(open_page(width, scheme))
    wrong = []
    for name, path in storage_pages.items():
        wrong += watched.problems(path)
        watched.page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png", full_page=True)

    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_of_storage_is_accessible(open_page, storage_pages, scheme):
    page = open_page(1440, scheme)
    wrong = []
    for path in storage_pages.values():
        page.goto(path)
        wrong += [f"{path}: {sentence}" for sentence in barriers(page)]

    assert wrong == []


def test_without_script_an_object_is_found_compared_changed_and_downloaded(open_page, tmp_path):
    page = open_page(java_script_enabled=False)
    page.goto(BROWSE)
    for name in ("marlow-manuscripts", "autumn-list/", "the-salt-road/", "chapter-01.md"):
        page.click(f".cp-tree th a >> text={name}")
    assert page.inner_text("h1").endswith(KEY)

    with page.expect_download() as started:
        page.click(".object-tools >> text=Download")
    assert started.value.suggested_filename == "chapter-01.md"
    assert started.value.path().read_text().startswith("# The Salt Road")

    page.click("text=Compare the two")
    assert page.locator(".cp-diff ins").first.is_visible()

    page.go_back()
    page.click("header:has-text('Tags') >> text=Change")
    page.fill("#id_tags", "list=autumn\nstatus=printed")
    page.fill("#id_reason", "it went to press")
    page.click(".submit-row [type=submit]")
    assert "printed" in page.inner_text(".cp-tags")


def test_an_object_is_deleted_and_restored_by_hand(open_page):
    page = open_page()
    page.goto(f"{BROWSE}&bucket=marlow-covers&prefix=the-salt-road/")
    page.click("text=preview.html")
    address = page.url

    page.click(".object-tools >> text=Delete")
    page.fill("#cp-reason", "the shop shows another one")
    page.click(".submit-row [type=submit]")
    page.goto(address)
    assert "a delete marker is on top" in page.inner_text(".cp-note")

    page.click(".object-tools >> text=Restore")
    page.fill("#cp-reason", "it was the right one")
    page.click(".submit-row [type=submit]")
    page.goto(address)
    assert page.locator(".cp-note").count() == 0


def test_on_a_phone_an_error_stands_over_its_field_and_a_row_that_is_read_has_air(open_page):
    page = open_page(360, "dark")
    page.goto(f"{STORAGE}/storagequota/add/")
    page.fill("#id_tenant", "marlow-daughters")
    page.fill("#id_max_bytes", "plenty")
    page.click("[name=_save]")

    error, field = (
        page.locator(selector).bounding_box() for selector in (".field-max_bytes .errorlist", "#id_max_bytes")
    )
    assert error["x"] == field["x"]
    assert error["width"] >= 0.9 * field["width"]

    page.goto(f"{STORAGE}/storageusage/")
    page.click("#result_list tbody th a")
    close = page.locator(".closelink").bounding_box()
    assert close["x"] >= 12
    assert close["x"] + close["width"] <= 348
    row, value = (page.locator(selector).bounding_box() for selector in (".field-stored", ".field-stored .readonly"))
    above, below = value["y"] - row["y"], row["y"] + row["height"] - value["y"] - value["height"]
    assert below >= 5
    assert above >= below


def test_a_type_of_event_stands_on_one_line(open_page):
    page = open_page()
    page.goto(f"{STORAGE}/storagehook/add/")

    heights = page.eval_on_selector_all("#id_event_types label", "all => all.map(one => one.offsetHeight)")
    assert len(set(heights)) == 1


@pytest.mark.parametrize(
    "path", [f"storageaudit/?q={KEY}", f"storageevent/?q={KEY}", f"hookexecution/?q={KEY}", "storageobject/", "bucket/"]
)
def test_no_column_of_a_list_is_cut_off_on_a_laptop(open_page, path):
    page = open_page()
    page.goto(f"{STORAGE}/{path}")

    assert page.locator("#result_list tbody tr").count()
    over = "list => list.scrollWidth - list.closest('.results').clientWidth"
    assert page.locator("#result_list").evaluate(over) <= 0


def test_on_a_phone_what_the_keyboard_reaches_in_a_head_is_seen(open_page):
    page = open_page(360)
    page.goto(f"{STORAGE}/bucket/")
    head = page.locator("#result_list thead")
    assert head.bounding_box()["width"] <= 1

    page.locator("#result_list thead a", has_text="Versioning").focus()

    link = page.locator("#result_list thead a:focus").bounding_box()
    assert head.bounding_box()["height"] >= 24
    assert link["x"] >= 0
    assert link["x"] + link["width"] <= 360
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
