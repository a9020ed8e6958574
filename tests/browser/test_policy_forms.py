"""A policy as somebody writes it, in a real browser: fields, preview, review and history, with script and without."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SHOTS
from tests.browser.test_pages import Watched, barriers

LIST = "/admin/cp_policies/policy/"
RULES = """
from policies.models import Policy
from tenants.models import App
app = App.objects.filter(tenant__status="active").order_by("slug").first()
scope = {"tenant": app.tenant, "app": app}
limits = [{"window": "month", "limit": "500.00", "alert_at": [0.5]}, {"window": "day", "limit": "9", "per": "user"}]
Policy.objects.create(tenant=app.tenant, policy_type="model_access", name="House", config={"allow": ["openai/*", "anthropic/*"]})
for kind, name, config in [
    ("model_access", "Form: models", {"allow": ["openai/gpt-4o"], "deny": []}),
    ("budget", "Form: money", {"limits": limits}),
    ("guardrail", "Form: guards", {"guardrails": {"pii": {"stages": ["input"], "action": "mask", "config": {"a": 1}}}}),
    ("storage_access", "Form: files", {"allow": [{"uri": "s3://" + "folder/" * 12 + "*", "modes": ["list"]}]}),
]:
    print("made", kind, Policy.objects.create(policy_type=kind, name=name, config=config, **scope).pk, app.tenant.slug)
"""


@pytest.fixture(scope="module")
def written(site):
    """Addresses of policies by type, and of a tenant."""
    made = [line.split() for line in site.manage("shell", "--no-imports", "-c", RULES).splitlines() if "made" in line]
    return {kind: f"{LIST}{pk}/change/" for _, kind, pk, _ in made} | {"tenant": made[0][3]}


def seen(page, name, width, scheme):
    """What is wrong with the page as it stands: width, accessibility; and a picture of it."""
    page.screenshot(path=SHOTS / f"policy-{name}-{width}-{scheme}.png", full_page=True)
    over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    found = [f"{name}: {over} px too wide"] if over > 0 else []
    return found + [f"{name}: {sentence}" for sentence in (barriers(page) if width != 768 else ())]


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "light")])
def test_the_pages_of_a_policy_are_whole_and_accessible(written, open_page, width, scheme):
    page = open_page(width, scheme)
    watched = Watched(page)
    wrong = []
    for kind in ("model_access", "budget", "guardrail", "storage_access"):
        wrong += watched.problems(written[kind])
        wrong += seen(page, kind, width, scheme)
    add = f"{LIST}add/?tenant={written['tenant']}&policy_type="
    wrong += watched.problems(f"{LIST}add/") + seen(page, "subject", width, scheme)
    wrong += watched.problems(f"{add}routing") + seen(page, "new", width, scheme)
    page.goto(written["budget"])
    page.click("button[name=_as]")
    wrong += seen(page, "json", width, scheme)
    page.goto(written["model_access"])
    page.fill("#id_config_allow", "openai/gpt 4o")
    page.click("input[name=_review]")
    expect(page.locator("#id_config_allow_error")).to_contain_text("Write a model pattern")
    wrong += seen(page, "faults", width, scheme)
    page.fill("#id_config_allow", "anthropic/*")
    page.click("input[name=_review]")
    expect(page.locator("h1")).to_contain_text("Review the change")
    wrong += seen(page, "review", width, scheme)
    wrong += watched.problems(written["budget"].replace("/change/", "/versions/")) + seen(
        page, "versions", width, scheme
    )

    assert wrong == []


def test_what_comes_of_a_draft_is_shown_while_it_is_written(written, open_page):
    page = open_page()
    page.goto(written["model_access"])

    page.fill("#id_config_allow", "openai/o3*")

    expect(page.locator("#cp-preview ins")).to_contain_text("openai/o3*")
    expect(page.locator("#cp-preview del")).to_contain_text("openai/gpt-4o")
    assert page.input_value("#id_config_allow") == "openai/o3*"


def test_a_policy_is_written_reviewed_and_put_back_without_script(written, open_page):
    page = open_page(java_script_enabled=False)
    page.goto(written["budget"])
    page.click("button[name=_add]")
    page.fill("#id_config_limits_5_value_limit", "7.50")
    page.select_option("#id_config_limits_5_value_window", "hour")
    page.check("[name='config.limits.1.removed']")
    page.fill("#id_name", "Form: money")
    page.press("#id_name", "Enter")
    expect(page.locator("#cp-preview ins")).to_contain_text("$7.50 a hour")

    page.click("input[name=_review]")
    page.click("input[name=_apply]")
    expect(page.locator(".errornote").first).to_be_visible()
    page.fill("#cp-reason", "less for everybody")
    if page.is_visible("input[name=confirmed]"):
        page.check("input[name=confirmed]")
    page.click("input[name=_apply]")
    expect(page.locator(".messagelist")).to_contain_text("version 2 holds from now on")

    page.click(".historylink")
    expect(page.locator(".cp-versions tbody tr").first).to_contain_text("less for everybody")
    page.click("text=Put back…")
    page.fill("#cp-reason", "it was right")
    if page.is_visible("input[name=confirmed]"):
        page.check("input[name=confirmed]")
    page.click("input[name=_apply]")
    expect(page.locator(".messagelist")).to_contain_text("version 3 holds from now on")
    expect(page.locator("#id_config_limits_1_value_limit")).to_have_value("9")
