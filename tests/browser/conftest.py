"""A real server over a database of its own, and the system's Chromium. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOTS = Path(__file__).resolve().parent / "screenshots"
EMAIL, PASSWORD = "operator@acme.test", "correct-horse-battery"
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PICTURED_AT = "2025-10-20T16:00:00+00:00"
"""When the two weeks of the demo data end that the documentation's pictures show."""
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium on this machine, and CHROMIUM names none"))


class Site:
    """The project as it is served: its address, and its command line over the same database."""

    def __init__(self, at, port):
        self.url = f"http://127.0.0.1:{port}"
        self.variables = {
            **os.environ,
            **at,
            "DATABASE_URL": f"postgresql:///{at['PGDATABASE']}",
            "CONTROLPLANE_ENV": "test",
            "DJANGO_SETTINGS_MODULE": "controlplane.settings",
            "PORT": str(port),
            "WEB_CONCURRENCY": "1",
            "FORCE_HTTPS": "0",
        }

    def manage(self, *arguments, **variables):
        command = [sys.executable, "manage.py", *arguments]
        environment = {**self.variables, **variables}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve(self, log):
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"], cwd=ROOT, env=self.variables, stdout=log, stderr=log
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urlopen(f"{self.url}/admin/login/", timeout=5).close()  # noqa: S310 our own address
            except OSError:
                time.sleep(0.1)
            else:
                return process
        process.kill()
        raise AssertionError("the server did not answer")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="package")
def pictures(request):
    """Whether the documentation's pictures are taken anew (--update-pictures)."""
    return request.config.getoption("--update-pictures")


@pytest.fixture(scope="package")
def site(new_database, tmp_path_factory, pictures):
    """The served project with demo data and an operator who may do everything."""
    site = Site(new_database("browser"), free_port())
    site.manage("migrate", "-v0")
    site.manage("createsuperuser", "--noinput", "--email", EMAIL, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    site.manage("seed_demo", *(["--at", PICTURED_AT] if pictures else []))
    with (tmp_path_factory.mktemp("site") / "log").open("w") as log:
        process = site.serve(log)
        yield site
        process.terminate()
        process.wait(40)


@pytest.fixture(scope="package")
def browser(site):
    # After `site`, so that it ends first: its event loop would stop Django from asking the database in this thread.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def signed_in(site, browser):
    """The cookies of somebody who has signed in through the form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/admin/login/")
    page.fill("#id_username", EMAIL)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_selector("nav#nav-sidebar")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def open_page(site, browser, signed_in):
    """Make a page: open_page(width, scheme, **options of the context)."""
    made = []

    def make(width=1440, scheme="light", height=900, **options):
        options = {"storage_state": signed_in, **options}
        context = browser.new_context(
            base_url=site.url, viewport={"width": width, "height": height}, color_scheme=scheme, **options
        )
        made.append(context)
        return context.new_page()

    yield make
    for context in made:
        context.close()


@pytest.fixture(scope="package")
def paths(site, browser, signed_in):
    """The menu's pages, each list's first object and form to add, and the pages around a form, as one clicks them."""
    context = browser.new_context(base_url=site.url, storage_state=signed_in)
    page = context.new_page()
    page.goto("/admin/")
    menu = page.eval_on_selector_all("nav#nav-sidebar a", "links => links.map(link => link.getAttribute('href'))")
    found = dict.fromkeys([*menu, "/admin/password_change/"])
    for path in menu:
        page.goto(path)
        for selector in ("#result_list tbody th a", ".object-tools .addlink"):
            link = page.query_selector(selector)
            if link:
                found[link.evaluate("link => link.pathname")] = None
    context.close()
    assert len(found) > 12
    return list(found)
