"""The pages of auditing in a real browser: wide and narrow, light and dark, with script and without."""

from __future__ import annotations

import pytest

from tests.browser.conftest import SHOTS
from tests.browser.test_pages import Watched, barriers

TIMELINE = "/admin/cp_auditing/auditlog/timeline/"
MONTHS = "/admin/cp_auditing/usagesummary/months/"
PAGES = {
    "timeline": TIMELINE,
    "timeline-tenant": f"{TIMELINE}?action=update&window=7d",
    "timeline-empty": f"{TIMELINE}?actor=nobody",
    "seals": "/admin/cp_auditing/auditseal/",
    "retention": "/admin/cp_auditing/retentionrecord/",
    "hold": "/admin/cp_auditing/retentionrecord/hold/",
    "partitions": "/admin/cp_auditing/auditlog/partitions/",
    "summaries": "/admin/cp_auditing/usagesummary/",
    "months": f"{MONTHS}?tenant=nordlys-klinikk",
    "letters": "/admin/cp_auditing/deadletter/",
}
LAYOUT = """() => {
  const form = document.querySelector(".cp-confirm"), row = form.querySelector(".submit-row");
  const inside = form.getBoundingClientRect(), last = row.getBoundingClientRect();
  return {
    inside: last.left > inside.left && last.right < inside.right && last.bottom < inside.bottom,
    below: [...form.querySelectorAll("input:not([type=checkbox]) ~ .help, select ~ .help")].every((help) =>
      help.getBoundingClientRect().top >= help.parentElement.querySelector("input, select").getBoundingClientRect().bottom),
  };
}"""


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_pages_of_auditing_are_whole_and_accessible(open_page, width, scheme):
    page = open_page(width, scheme)
    watched = Watched(page)
    wrong = []
    for name, path in PAGES.items():
        wrong += watched.problems(path) + [f"{name}: {sentence}" for sentence in barriers(page)]
        page.screenshot(path=SHOTS / f"auditing-{name}-{width}-{scheme}.png", full_page=True)

    assert wrong == []


def test_the_page_before_a_month_is_closed_is_whole(open_page):
    page = open_page(360, "light")
    watched = Watched(page)
    page.goto(PAGES["months"])
    path = page.get_by_text("Close…").first.get_attribute("href")

    assert watched.problems(path) == []
    assert barriers(page) == []
    assert page.is_visible("text=This stands in the way:")
    assert page.evaluate(LAYOUT) == {"inside": True, "below": True}


@pytest.mark.parametrize("width", [360, 1440])
def test_a_form_keeps_its_buttons_inside_and_its_help_below_the_fields(open_page, width):
    page = open_page(width)
    page.goto(PAGES["hold"])

    assert page.evaluate(LAYOUT) == {"inside": True, "below": True}


def test_the_menu_shows_where_one_is_however_far_down(open_page):
    page = open_page(1440, height=600)
    page.goto(PAGES["timeline"])

    page.goto(PAGES["letters"])
    entry = page.locator(".cp-side [aria-current]").bounding_box()
    assert 0 <= entry["y"] <= 600 - entry["height"]
    assert page.evaluate("scrollY") == 0


def test_without_script_events_unfold_and_a_verification_is_asked_for(open_page):
    page = open_page(java_script_enabled=False)
    page.goto(TIMELINE)
    folded = page.locator(".cp-event details").first
    folded.locator("summary").click()
    assert folded.locator("table, dl").first.is_visible()

    page.click("text=Verify these months")

    assert page.is_visible("text=no finding")
    assert page.is_visible("text=Last verification")
