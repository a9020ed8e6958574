"""The theme's promises: contrast, size, nothing inline, stock templates extended, every page in the menu."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.template.loader import get_template
from django.test import RequestFactory
from django.urls import NoReverseMatch, reverse

from controlplane.menu import MENU, groups_for

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "controlplane" / "static" / "controlplane"
THEME = STATIC / "theme.css"
PAGES = ROOT / "controlplane" / "core" / "static" / "cp_core" / "pages.css"
TEMPLATES = [path for path in ROOT.rglob("templates/**/*.html") if ".venv" not in path.parts]

# Registered models that the menu does not show, each with the reason.
EXEMPT = {
    "auth.group": "roles of operators; opened from a user",
    "cp_tenants.userapp": "access of a user to an app; opened from the user",
}


def tokens(sheet: Path) -> dict[str, tuple[str, str]]:
    pairs = re.findall(r"--cp-([\w-]+):\s*light-dark\((#\w{6}), (#\w{6})\)", sheet.read_text())
    return {name: (light, dark) for name, light, dark in pairs}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


READABLE = [
    *[
        (text, ground)
        for text in ("text", "strong", "quiet", "accent", "ok", "warn", "bad", "info")
        for ground in ("bg", "sunken")
    ],
    *[(tone, f"{tone}-soft") for tone in ("ok", "warn", "bad", "info", "accent")],
    ("on-accent", "accent"),
    ("strong", "accent-soft"),
]
VISIBLE = [("edge", "bg"), ("accent", "bg"), *[(f"chart-{number}", "bg") for number in range(1, 7)]]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground", "least"), [*[(*p, 4.5) for p in READABLE], *[(*p, 3) for p in VISIBLE], ("text", "bg", 10)]
)
def test_colours_keep_their_contrast(text, ground, least, mode):
    table = tokens(THEME)

    assert contrast(table[text][mode], table[ground][mode]) >= least


def test_colours_are_named_once_and_alike_in_both_sheets():
    assert tokens(PAGES) == tokens(THEME)
    assert len(tokens(THEME)) == 24


@pytest.mark.parametrize("sheet", [THEME, PAGES], ids=["theme", "pages"])
def test_a_colour_outside_the_table_is_a_token(sheet):
    rules = re.sub(r"--cp-[\w-]+:\s*light-dark\([^)]*\)", "", sheet.read_text())

    assert re.findall(r"#[0-9a-fA-F]{3,8}(?=[;,\s)])", rules) == []


def test_forced_colours_replace_every_colour():
    forced = THEME.read_text().split("@media (forced-colors: active)")[1].split("\n}")[0]

    assert set(re.findall(r"--cp-([\w-]+):", forced)) == set(tokens(THEME))


@pytest.mark.parametrize(
    ("files", "kib"), [([THEME], 12), ([PAGES], 4), (sorted(STATIC.glob("*.js")), 15), ([STATIC / "icons.svg"], 4)]
)
def test_files_stay_small(files, kib):
    assert sum(len(gzip.compress(path.read_bytes())) for path in files) <= kib * 1024


def test_the_font_is_small_and_has_its_licence():
    assert (STATIC / "inter.woff2").stat().st_size <= 32 * 1024
    assert "SIL OPEN FONT LICENSE" in (STATIC / "inter-OFL.txt").read_text()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_holds_nothing_inline(path):
    text = path.read_text()

    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|data:", text)


@pytest.mark.parametrize("sheet", [THEME, PAGES], ids=["theme", "pages"])
def test_a_sheet_loads_from_this_host_only(sheet):
    for url in re.findall(r"url\(([^)]*)\)", sheet.read_text()):
        assert re.match(r'"(\.\./admin/|inter\.woff2)', url), url


@pytest.mark.parametrize("folder", ["admin", "registration"])
def test_a_stock_template_is_extended_and_not_copied(folder):
    for path in (ROOT / "templates" / folder).rglob("*.html"):
        name = path.relative_to(ROOT / "templates").as_posix()
        outside = re.sub(r"{% block .*?{% endblock[^%]*%}|{#.*?#}", "", path.read_text(), flags=re.DOTALL)

        assert f'{{% extends "{name}" %}}' in outside, name
        assert re.sub(r"{%.*?%}", "", outside).strip() == "", name


@pytest.mark.parametrize("name", ["403.html", "404.html", "500.html", "503.html", "403_csrf.html"])
def test_an_error_page_needs_no_request_and_says_what_to_do(name):
    page = get_template(name).render()

    assert page.count("<h1>") == 1
    assert '<link rel="icon"' in page
    assert 'class="button default"' in page


def test_every_icon_of_the_menu_is_in_the_sprite():
    drawn = set(re.findall(r'<symbol id="(\w+)"', (STATIC / "icons.svg").read_text()))

    assert {entry.icon for entry in MENU} <= drawn


def test_every_registered_model_is_in_the_menu_or_exempt():
    named = {entry.url_name for entry in MENU}
    missing = [
        model._meta.label_lower
        for model in admin.site._registry
        if f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist" not in named
        and model._meta.label_lower not in EXEMPT
    ]

    assert missing == []


def test_every_entry_of_an_installed_app_names_a_model_and_its_permission():
    for entry in MENU:
        if entry.permission is None:
            continue
        label, codename = entry.permission.split(".")
        assert apps.is_installed(apps.get_app_config(label).name)
        assert codename.startswith("view_")
        if entry.url_name.endswith("_changelist"):
            assert entry.url_name == f"admin:{label}_{codename.removeprefix('view_')}_changelist"
        else:  # a page of a model's admin that is not its list, or of the roof
            assert re.fullmatch(rf"admin:{label}_[a-z]+_[a-z]+|controlplane:[a-z]+", entry.url_name)


def test_a_superuser_sees_every_entry_that_has_a_page():
    request = RequestFactory().get("/")
    request.user = get_user_model()(is_active=True, is_superuser=True)

    shown = [link.label for group in groups_for(request) for link in group.links]

    assert shown == [entry.label for entry in MENU if reverses(entry.url_name)]


def test_of_two_entries_that_a_page_lies_below_the_nearer_one_is_current():
    request = RequestFactory().get(reverse("admin:cp_catalog_aimodel_calculator"))
    request.user = get_user_model()(is_active=True, is_superuser=True)

    current = [link.label for group in groups_for(request) for link in group.links if link.current]

    assert current == ["Calculator"]


def test_without_permission_an_entry_is_hidden():
    request = RequestFactory().get("/")
    request.user = AnonymousUser()

    shown = {link.label for group in groups_for(request) for link in group.links}

    assert shown <= {entry.label for entry in MENU if entry.permission is None}


def reverses(url_name: str) -> bool:
    try:
        reverse(url_name)
    except NoReverseMatch:
        return False
    return True
