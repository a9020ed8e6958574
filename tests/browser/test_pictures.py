"""The pictures of docs/pictures, taken of demo data of one instant (--update-pictures), and the pages they show."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from tests.browser.conftest import PICTURED_AT, ROOT, SHOTS
from tests.browser.png import small
from tests.browser.test_pages import Watched

FOLDER = ROOT / "docs" / "pictures"
MOST_BYTES = 150_000
LAST = date.fromisoformat(PICTURED_AT[:10])
PAGES = {
    "dashboard": f"/admin/?from={LAST - timedelta(days=6)}&to={LAST}",
    "list": f"/admin/cp_auditing/inferencerequest/?window={LAST}..{LAST + timedelta(days=1)}",
    "form": "/admin/cp_tenants/tenant/",
    "login": "/admin/login/",
}
"""Where each picture is taken; the form is that of the first tenant."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_of_a_picture_is_whole_on_a_screen_and_on_a_phone(open_page, pictures, name, scheme):
    signed = {"storage_state": None} if name == "login" else {}
    for width in (1440, 360):
        page = open_page(width, scheme, **signed)
        page.goto(PAGES[name])
        path = page.locator("#result_list tbody th a").first.get_attribute("href") if name == "form" else PAGES[name]

        assert Watched(page).problems(path) == []
        if width == 1440 and pictures:
            page.evaluate("document.activeElement?.blur()")
            (FOLDER / f"{name}-{scheme}.png").write_bytes(small(page.screenshot()))
        elif width == 1440:
            page.screenshot(path=SHOTS / f"{name}-{scheme}.png")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_picture_is_kept_and_small(name, scheme):
    assert 0 < (FOLDER / f"{name}-{scheme}.png").stat().st_size < MOST_BYTES
