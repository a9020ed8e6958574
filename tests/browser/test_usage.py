"""The usage explorer as a person uses it, with and without script."""

from __future__ import annotations

import pytest

from tests.browser.test_pages import Watched

CUT_OFF = """(card) => {
  const edge = card.getBoundingClientRect().right;
  const texts = [...card.querySelectorAll("*")].filter((part) => part.children.length === 0 && part.textContent.trim());
  return texts.filter((part) => part.getBoundingClientRect().right > edge).map((part) => part.textContent);
}"""
QUESTIONS = [
    "/admin/usage/?by=tenant&then=model&measure=requests&window=7d",
    "/admin/usage/?by=api_key&window=90d",
    "/admin/usage/?by=app&every=hour&window=24h",
    "/admin/usage/?by=provider&every=month&window=12m&measure=tokens",
    "/admin/usage/?from=2024-01-01",
]


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_every_kind_of_answer_is_whole(open_page, width, scheme):
    watched = Watched(open_page(width, scheme))

    assert [problem for path in QUESTIONS for problem in watched.problems(path)] == []


def test_on_a_phone_the_cards_of_the_dashboard_say_all_and_lead_on(open_page):
    page = open_page(360, "dark")
    page.goto("/admin/")

    for title in ("Budgets past 80 %", "Seals", "Worker duties"):
        card = page.locator(".cp-card", has=page.get_by_role("heading", name=title)).last
        assert card.locator("a", has_text="Open list").count() == 1
        assert card.evaluate(CUT_OFF) == []


def test_a_question_is_asked_and_followed_to_its_requests_without_script(open_page):
    page = open_page(1440, java_script_enabled=False)
    page.goto("/admin/usage/")
    page.select_option("select[name=by]", "tenant")
    page.select_option("select[name=measure]", "requests")
    page.click(".cp-scope input[type=submit]")
    assert "by=tenant" in page.url
    assert "measure=requests" in page.url
    page.click("nav.cp-tabs a:has-text('7 days')")
    assert "window=7d" in page.url
    assert "by=tenant" in page.url
    first = page.locator(".cp-scroll .cp-table tbody th a").first
    name = first.inner_text()
    first.click()

    assert "/inferencerequest/" in page.url
    assert name in page.locator("#changelist").inner_text()


def test_the_file_is_saved(open_page):
    page = open_page(1440)
    page.goto("/admin/usage/?by=model&window=7d")
    with page.expect_download() as download:
        page.click("text=Download CSV")

    assert download.value.suggested_filename.startswith("usage-all-model-")
