"""Every page of the menu and one detail of each list, as a person sees them: width, colours, script on and off."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import EMAIL, PASSWORD, SHOTS

AXE = (Path(__file__).parent / "axe.min.js").read_text()
POLICY = ("default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'")
WATCH = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => window.refused.push(event.violatedDirective));
"""
STATE = """() => ({
  refused: window.refused,
  over: document.documentElement.scrollWidth - window.innerWidth,
  titles: document.querySelectorAll("h1").length,
  mains: document.querySelectorAll("main#content-start").length,
  outside: [...document.querySelectorAll(".cp-chart svg text")].filter((text) => {
    const [at, box] = [text, text.closest(".cp-chart > svg, .cp-axes > svg")].map((each) => each.getBoundingClientRect());
    return at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1;
  }).map((text) => text.textContent),
})"""
WIDTHS = [360, 768, 1440]


def name_of(path):
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "id", path).strip("/").replace("/", "-") or "root"


class Watched:
    """A page with what went wrong in it since it was last asked."""

    def __init__(self, page):
        self.page, self.said, self.hosts = page, [], set()
        page.on(
            "console", lambda message: self.said.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        page.add_init_script(WATCH)

    def problems(self, path):
        """What is wrong with one address, as sentences; nothing is right."""
        self.said.clear()
        self.hosts.clear()
        response = self.page.goto(path)
        policy = response.headers.get("content-security-policy", "")
        found = self.page.evaluate(STATE)
        checks = [
            (response.status < 400, f"status {response.status}"),
            (not self.said, f"console: {self.said}"),
            (not found["refused"], f"refused by the policy: {found['refused']}"),
            (len(self.hosts) == 1, f"hosts {self.hosts}"),
            (all(part in policy for part in POLICY), f"policy {policy!r}"),
            (found["over"] <= 0, f"{found['over']} px wider than the screen"),
            (found["titles"] == 1, f"{found['titles']} h1"),
            (found["mains"] == 1, "no main"),
            (not found["outside"], f"outside their picture: {found['outside']}"),
        ]
        return [f"{path}: {sentence}" for right, sentence in checks if not right]


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "light"), (1440, "dark")])
def test_every_page_is_whole(open_page, paths, width, scheme):
    watched = Watched(open_page(width, scheme))
    wrong = []
    for path in paths:
        wrong += watched.problems(path)
        watched.page.screenshot(path=SHOTS / f"{name_of(path)}-{width}-{scheme}.png", full_page=True)

    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(open_page, paths, scheme):
    page = open_page(1440, scheme)
    wrong = []
    for path in paths:
        page.goto(path)
        wrong += [f"{path}: {sentence}" for sentence in barriers(page)]

    assert wrong == []


def barriers(page):
    """Serious and critical findings of axe on the page that is open."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then(result => result.violations)")
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {node['html'][:160]}" for each in serious for node in each["nodes"]]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sign_in_page_is_whole_and_accessible(open_page, width):
    for scheme in ("light", "dark"):
        page = open_page(width, scheme, storage_state=None)
        assert Watched(page).problems("/admin/login/") == []
        assert barriers(page) == []
        page.screenshot(path=SHOTS / f"login-{width}-{scheme}.png")


def test_forced_colours_and_print_stand(open_page, paths):
    watched = Watched(open_page(forced_colors="active"))
    for path in paths[:6]:
        assert watched.problems(path) == []
        watched.page.screenshot(path=SHOTS / f"{name_of(path)}-forced.png")
    watched.page.emulate_media(media="print")
    assert not watched.page.is_visible(".cp-side")


def test_without_script_lists_filters_and_menus_work(open_page):
    page = open_page(java_script_enabled=False)
    page.goto("/admin/")
    page.click("nav#nav-sidebar >> text=Tenants")

    assert page.is_visible("#result_list")
    pill = page.locator(".cp-filter summary").first
    pill.click()
    page.locator(".cp-filter[open] a").nth(1).click()
    assert page.is_visible(".cp-filter.cp-on")
    page.locator(".cp-user summary").click()
    assert page.is_visible("#logout-form button")


def test_on_a_phone_the_menu_is_a_drawer_and_rows_are_cards_with_labels(open_page):
    page = open_page(360, height=740)
    page.goto("/admin/")
    assert not page.is_visible("nav#nav-sidebar")

    page.click(".cp-drawer summary")
    page.click(".cp-drawer >> text=Tenants")

    cell = page.locator("#result_list tbody td[data-label]:not(.action-checkbox)").first
    assert cell.get_attribute("data-label")
    assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") != "none"


def test_a_list_shows_nineteen_rows_on_a_laptop(open_page):
    page = open_page(1440, height=900)
    page.goto("/admin/")
    page.click("nav#nav-sidebar >> text=Requests")

    top = page.locator("#result_list tbody tr").first.bounding_box()
    assert top["height"] <= 33
    assert (900 - top["y"]) // top["height"] >= 19


def test_the_keyboard_reaches_all_and_shows_where_it_is(open_page):
    page = open_page()
    page.goto("/admin/")
    page.click("nav#nav-sidebar >> text=Tenants")
    page.wait_for_selector("#result_list")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-to-content-link"
    for _ in range(8):
        page.keyboard.press("Tab")
        style = page.evaluate(
            "(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])(getComputedStyle(document.activeElement))"
        )
        assert style == ["solid", "2px"]

    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "searchbar"
    page.keyboard.type("zz/z")
    assert page.input_value("#searchbar") == "zz/z"
    page.keyboard.press("Enter")
    page.wait_for_selector(".cp-empty")


def test_escape_closes_a_menu_and_gives_the_focus_back(open_page):
    page = open_page()
    page.goto("/admin/")
    page.click(".cp-user summary")
    assert page.is_visible("#user-tools")

    page.keyboard.press("Escape")

    assert not page.is_visible("#user-tools")
    assert page.evaluate("document.activeElement.closest('.cp-user') !== null")


def test_the_colour_scheme_follows_its_button(open_page):
    page = open_page(scheme="light")
    page.goto("/admin/")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"

    page.click(".cp-user summary")
    page.click(".theme-toggle")

    assert page.evaluate(ground) == "rgb(15, 20, 32)"


def test_a_form_that_was_changed_asks_before_it_is_left(open_page):
    page = open_page()
    page.goto("/admin/")
    page.click("nav#nav-sidebar >> text=Tenants")
    page.click("#result_list tbody th a")
    page.locator("#content-main form input[type=text]").first.fill("changed")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))

    page.click("nav#nav-sidebar >> text=Apps")

    assert asked == ["beforeunload"]


def test_an_unknown_address_has_a_calm_page(open_page):
    page = open_page()
    response = page.goto("/no/such/page/")

    assert response.status == 404
    assert page.inner_text("h1") == "No such page"


def reach(page, text):
    """Press Tab until the focus is on what has this text, value or name, and is seen to be; as somebody without a mouse."""
    for _ in range(120):
        page.keyboard.press("Tab")
        found, seen = page.evaluate(
            """() => {
              const at = document.activeElement, style = getComputedStyle(at);
              return [[at.innerText, at.value, at.name].map((each) => (each ?? "").trim()), style.outlineStyle !== "none"];
            }"""
        )
        if text in found:
            assert seen, f"the focus on {text} cannot be seen"
            return
    raise AssertionError(f"Tab does not reach {text}")


def test_a_key_is_revoked_by_keyboard_alone(site, open_page):
    issued = site.manage("keys_issue", "--tenant", "tamarind-travel", "--app", "concierge", "By hand")
    page = open_page(storage_state=None)
    page.goto("/admin/login/")
    assert page.evaluate("document.activeElement.name") == "username"
    page.keyboard.type(EMAIL)
    reach(page, "password")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("nav#nav-sidebar")

    reach(page, "API keys")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result_list")
    page.keyboard.press("/")
    page.keyboard.type(issued.strip().split("_")[2])
    page.keyboard.press("Enter")
    page.wait_for_url("**/apikey/?q=*")
    reach(page, "By hand")
    page.keyboard.press("Enter")
    page.wait_for_selector(".object-tools button")
    reach(page, "Revoke")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cp-reason")
    reach(page, "cp_reason")
    page.keyboard.type("seen in a notebook")
    reach(page, "Revoke")
    page.keyboard.press("Enter")

    page.wait_for_selector(".messagelist .success")
    assert "By hand" in page.inner_text(".messagelist")
    page.goto("/admin/cp_tenants/apikey/?state=revoked")
    assert "By hand" in page.inner_text("#result_list")


def test_a_token_is_gone_after_reload_and_back(open_page):
    page = open_page()
    page.goto("/admin/cp_tenants/apikey/add/")
    page.fill("#id_app", "tamarind-travel/concierge")
    page.fill("#id_name", "Shown once")
    page.click("input[name=_save]")
    token = page.inner_text("#cp-token")
    assert token.startswith("cpk_live_")
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert token not in page.content()

    page.reload()  # the browser sends the form again
    assert page.locator("#cp-token").count() == 0
    assert token not in page.content()
    page.click("nav#nav-sidebar >> text=Tenants")
    page.wait_for_selector("#result_list")
    with suppress(Error):  # the browser would ask whether to send the form again: it has kept nothing to show
        page.go_back()
    page.wait_for_function("document.readyState === 'complete' && !document.querySelector('#result_list')")
    expect(page.locator("body")).not_to_contain_text(token)
