"""The pages around policies in a real browser: wide and narrow, light and dark, with script and without."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SHOTS
from tests.browser.test_pages import Watched, barriers

EXPLAIN = "/admin/cp_policies/policy/explain/"
SIMULATE = "/admin/cp_policies/policy/simulate/"
LIMITS, RESERVATIONS = "/admin/cp_policies/limitbucket/", "/admin/cp_policies/reservation/"
POLICIES = """
from decimal import Decimal
from policies.limits import Amounts, reserve
from policies.models import Policy
from tenants.models import App, Tenant, User
tenant = Tenant.objects.create(slug="looked-at", name="A house to look at")
app = App.objects.create(tenant=tenant, slug="front-office", name="Front office")
user = User.objects.create(tenant=tenant, email="somebody.with.a.long.name@looked-at.example", password="!", role="viewer")
scope = {"tenant": tenant, "app": app}
for policy_type, name, config in [
    ("model_access", "A policy with a rather long name", {"allow": ["openai/*", "anthropic/*"], "deny": ["*opus*"]}),
    ("token_caps", "Longer answers", {"max_output_tokens": 8000}),
    ("budget", "Money", {"limits": [{"window": "month", "limit": "5000.00", "alert_at": [0.8]}]}),
    ("guardrail", "Personal data", {"guardrails": {"pii": {"stages": ["input"], "action": "mask"}}}),
    ("storage_access", "Files", {"allow": [{"uri": "s3://" + "folder/" * 12 + "*", "modes": ["list", "read"]}]}),
]:
    Policy.objects.create(policy_type=policy_type, name=name, config=config, **scope)
held = reserve(Policy.objects.effective(app.tenant, app, user=user), "openai/x", Amounts(cost=Decimal(4500)), "a-call-that-runs")
Policy.objects.create(tenant=app.tenant, policy_type="token_caps", name="Short answers", config={"max_output_tokens": 4096})
print("scope", app.tenant.slug, app.slug, user.email)
"""


@pytest.fixture(scope="module")
def asked(site):
    """The beginning of a question of somebody to whom policies of every kind apply."""
    [line] = [
        line for line in site.manage("shell", "--no-imports", "-c", POLICIES).splitlines() if line.startswith("scope")
    ]
    _, tenant, app, user = line.split()
    return f"{EXPLAIN}?tenant={tenant}&app={app}&user={user}"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "light")])
def test_pages_around_policies_are_whole_and_accessible(asked, open_page, width, scheme):
    page = open_page(width, scheme)
    watched = Watched(page)
    wrong = []
    pages = {
        "explain": EXPLAIN,
        "model": f"{asked}&model=claude-opus-5-5",
        "object": f"{asked}&uri=s3://folder/x",
        "all": asked,
    }
    for name, path in pages.items():
        wrong += watched.problems(path)
        page.screenshot(path=SHOTS / f"policies-{name}-{width}-{scheme}.png", full_page=True)
        if width != 768:
            wrong += [f"{path}: {sentence}" for sentence in barriers(page)]

    assert wrong == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1440, "dark")])
def test_limits_and_reservations_are_whole_and_accessible(asked, open_page, width, scheme):
    page = open_page(width, scheme)
    watched = Watched(page)
    wrong = []
    for name, path in {"limits": f"{LIMITS}?used=80", "reservations": f"{RESERVATIONS}?state=open"}.items():
        page.goto(path)
        link = page.locator("#result_list tbody th a").first.get_attribute("href")
        for shown, url in {name: path, f"{name}-one": link}.items():
            wrong += watched.problems(url)
            page.screenshot(path=SHOTS / f"policies-{shown}-{width}-{scheme}.png", full_page=True)
            if width != 768:
                wrong += [f"{url}: {sentence}" for sentence in barriers(page)]

    assert wrong == []


def test_without_script_a_limit_is_followed_to_what_it_is_and_reservations_are_filtered(asked, open_page):
    page = open_page(768, java_script_enabled=False)
    page.goto(f"{LIMITS}?used=80")
    page.locator("#result_list tbody th a").first.click()
    expect(page.locator("h1")).to_be_visible()
    assert "/change/" in page.url

    page.goto(RESERVATIONS)
    pill = page.locator(".cp-filter", has_text="State").first
    pill.locator("summary").click()
    pill.locator("a", has_text="open").first.click()
    assert "state=open" in page.url
    expect(page.locator("#result_list tbody tr").first).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_a_change_is_simulated_and_published(asked, open_page, width, scheme):
    page = open_page(width, scheme)
    tenant, app, user = (values[0] for values in parse_qs(urlsplit(asked).query).values())
    watched = Watched(page)
    wrong = watched.problems(f"{SIMULATE}?tenant={tenant}&policy=Short answers")
    wrong += barriers(page)
    page.fill("#id_config", '{"max_output_tokens": 10, "max_input_tokens": 100}')
    page.select_option("#id_requests", "typed")
    page.fill("#id_lines", f"{app}, {user}, anthropic/claude-sonnet-5-5, 1000, 200")
    page.click(".cp-drafting .default")
    expect(page.locator(".cp-cards")).to_contain_text("Newly denied")
    page.screenshot(path=SHOTS / f"policies-simulated-{width}-{scheme}.png", full_page=True)
    wrong += barriers(page)
    page.click("input[name=_review]")
    expect(page.locator("h1")).to_contain_text("Short answers")

    assert wrong == []


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_question_is_asked_by_keyboard_and_asked_again(asked, open_page, script):
    page = open_page(java_script_enabled=script)
    page.goto(asked)
    page.locator(".cp-question > summary").focus()
    page.keyboard.press("Enter")
    page.fill("#id_model", "claude-opus-5-5")
    page.keyboard.press("Enter")

    expect(page.locator(".cp-sentence")).to_contain_text("is refused")
    expect(page.locator(".cp-asked")).to_contain_text("app")
    page.click("text=Permalink")
    expect(page.locator(".cp-sentence")).to_contain_text("denies it with *opus*")
    assert "at=" in page.url


def test_a_change_is_simulated_without_script(asked, open_page):
    page = open_page(java_script_enabled=False)
    page.goto(f"{SIMULATE}?{urlsplit(asked).query.split('&')[0]}&policy=Short answers")
    page.uncheck("#id_enabled")
    page.select_option("#id_requests", "typed")
    page.fill("#id_lines", ",,anthropic/claude-sonnet-5-5, 1000, 5000")
    page.click(".cp-drafting .default")

    expect(page.locator(".cp-cards")).to_contain_text("Newly denied")
    expect(page.locator(".cp-values").first).to_contain_text("max_output_tokens")
