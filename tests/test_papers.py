"""What the papers say of the code, compared with it: names to import, roles, the first lines of a sibling, links."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

import auditing.models
import tenants.models
from auditing.context import audit_context
from auditing.models import InferenceRequest
from controlplane.core.ids import now
from tenants.models import Tenant
from tenants.roles import PERMISSIONS
from tests.factories import AIModelFactory, ModelAliasFactory, ProviderFactory, UserFactory, issue

ROOT = Path(__file__).resolve().parent.parent
PAPERS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md")), ROOT / "controlplane" / "core" / "README.md"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROLES = re.compile(r"(?<=<!-- roles -->\n).*?(?=<!-- end of roles -->)", re.DOTALL)
SIBLING = ROOT / "tests" / "sibling" / "settings.py"


def named(path):
    return str(path.relative_to(ROOT))


def python_of(page):
    return BLOCK.findall((ROOT / page).read_text())


def public_names():
    """Rows of the table in docs/siblings.md, as (module, name)."""
    table = (ROOT / "docs" / "siblings.md").read_text().partition("## What may be imported")[2]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    return [(row[1].strip(" `"), name) for row in rows for name in re.findall(r"`(\w+)`", row[2])]


def execute(block, names):
    exec(compile(block, "page", "exec"), names)  # noqa: S102 - the page is ours


@pytest.fixture
def acme_with_kim(acme, globex, acme_app, globex_app):
    """What the snippets of the pages speak of, and what `manage.py shell` imports by itself."""
    Tenant.objects.filter(pk=acme.pk).update(domain="acme.example")
    identity = {"oidc_sub": "8f3a", "oidc_issuer": "https://login.acme.example"}
    kim = UserFactory(tenant=acme, email="kim@acme.example", username="kim", **identity)
    shell = {name: value for module in (tenants.models, auditing.models) for name, value in vars(module).items()}
    span = {"start": now() - timedelta(days=1), "end": now(), "timedelta": timedelta}
    contexts = {"audit_context": audit_context, "kim": kim, "acme": acme, "globex": globex, "chat": acme_app}
    return {**shell, **span, **contexts}


def assigned(source):
    """Lists and dicts of literals that a settings file assigns, by name."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Dict):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # not of literals alone
                continue
    return found


def table_of_roles():
    """What each role may do with each model, in the words of Django's permissions."""
    verbs = {}
    for role, permissions in PERMISSIONS.items():
        for permission in permissions:
            verb, _, model = permission.partition(".")[2].rpartition("_")
            verbs.setdefault(model, {}).setdefault(role, set()).add(verb)
    order = ["view", "add", "change", "issue", "rotate", "revoke", "verify", "export"]
    roles = [role for role in PERMISSIONS if PERMISSIONS[role]]
    lines = [f"| | {' | '.join(roles)} |", "|---" * (len(roles) + 1) + "|"]
    for model, by_role in sorted(verbs.items()):
        cells = [" ".join(verb for verb in order if verb in by_role.get(role, ())) for role in roles]
        assert {verb for held in by_role.values() for verb in held} <= set(order)
        lines.append(f"| `{model}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("module", "name"), public_names())
def test_what_a_sibling_may_import_is_there(module, name):
    assert hasattr(import_module(module), name)


def test_the_table_of_roles_is_that_of_the_code(request):
    page = ROOT / "docs" / "tenancy.md"
    if request.config.getoption("--update-docs"):
        page.write_text(ROLES.sub(table_of_roles(), page.read_text()))

    assert ROLES.search(page.read_text())[0] == table_of_roles(), "run: pytest tests/test_papers.py --update-docs"


@pytest.mark.parametrize(("page", "block"), [("README.md", 1), ("docs/siblings.md", 0)])
def test_a_siblings_settings_are_those_that_the_tests_run(page, block):
    told, run = assigned(python_of(page)[block]), assigned(SIBLING.read_text())

    assert told["INSTALLED_APPS"] == run["INSTALLED_APPS"]
    assert told["DATABASE_ROUTERS"] == run["DATABASE_ROUTERS"]
    assert told["CONTROLPLANE"] == {"DATABASE": "default"}


def test_the_call_of_the_readme_is_recorded(acme_app):
    anthropic = ProviderFactory(slug="anthropic")
    ModelAliasFactory(alias="quick", model=AIModelFactory(provider=anthropic, name="claude-haiku-5-5"))
    called = []

    execute(python_of("README.md")[0], {"token": issue(acme_app).token, "provider": called.append})

    fact = InferenceRequest.objects.get(tenant_id=acme_app.tenant_id, request_id="first-call")
    assert called == ["anthropic/claude-haiku-5-5"]
    assert (fact.status, fact.model, fact.prompt_tokens) == ("completed", called[0], 1200)


@pytest.mark.parametrize(
    "page",
    ["docs/tenancy.md", "docs/keys.md", "docs/sign-in.md", "docs/auditing.md", "docs/requests.md", "docs/usage.md"],
)
def test_the_snippets_of_a_page_run(page, acme_with_kim):
    for block in python_of(page):
        execute(block, acme_with_kim)


@pytest.mark.parametrize("page", PAPERS, ids=named)
def test_no_link_leads_nowhere(page):
    targets = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []
