from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings

from controlplane.core.ids import now
from storage_meta.admin.comparing import LINES, compared
from storage_meta.admin.downloading import file_name
from storage_meta.models import StorageAudit, StorageObject, StorageVersion
from tests.admin_rows import Page
from tests.factories import StorageEventFactory, StorageHookFactory, StorageObjectFactory
from tests.policies.world import World
from tests.storage_meta.pages import address, clerk, operator

KEY = "reports/2026/plan.txt"
FIRST, SECOND = b"one\ntwo\nthree\n", b"one\n2\nthree\n"


@pytest.fixture
def stored(docs):
    """A key of two versions, as its head."""
    docs.put_object(
        KEY, FIRST, content_type="text/plain", metadata={"author": "kim"}, tags={"team": "a"}, comment="first"
    )
    docs.put_object(KEY, SECOND, content_type="text/plain", metadata={"author": "kim", "n": 2}, tags={"team": "b"})
    return head()


def head(key=KEY):
    return StorageObject.objects.select_related("bucket", "tenant", "current_version").get(object_key=key)


def opened(row, client=None, name="change", **query):
    return (client or operator()).get(address(f"storageobject_{name}", row.pk), query)


def versions(row):
    return [line.row.seq for line in row.context["lines"]]


def blob_of(row):
    return Path(settings.STORAGES["objects"]["OPTIONS"]["location"]) / row.current_version.blob_name


def world_of(tenant):
    world = World(tenant.slug)
    world.tenant = tenant
    return world


# ---------------------------------------------------------------- the page


def test_a_page_shows_what_is_known_of_an_object(stored):
    page = opened(stored).content.decode()

    for text in (
        f"s3://docs/{KEY}",
        hashlib.sha256(SECOND).hexdigest(),
        hashlib.md5(SECOND, usedforsecurity=False).hexdigest(),
        "text/plain",
        "&quot;n&quot;: 2",
        "<b>team</b> b",
    ):
        assert text in page


def test_versions_are_newest_first_and_paged(docs, stored):
    for n in range(52):
        docs.put_object(KEY, f"{n}".encode())

    first = opened(stored)
    second = opened(stored, before=first.context["older"])

    assert versions(first) == list(range(54, 4, -1))
    assert versions(second) == [4, 3, 2, 1]
    assert second.context["older"] is None
    assert versions(opened(stored, before="x")) == versions(first)


def test_what_was_done_is_shown_newest_first(stored):
    done = [each["done"] for each in opened(stored).context["trail"]]

    assert done == ["PutObject", "PutObject"]


def test_events_of_the_key_are_shown_and_those_of_other_keys_are_not(stored):
    hook = StorageHookFactory(tenant=stored.tenant, name="to typeset")
    StorageEventFactory(hook=hook, object_key=KEY, state="dead")
    StorageEventFactory(hook=hook, object_key="other")

    [event] = opened(stored).context["events"]

    assert event["hook"] == "to typeset"


def test_parts_are_shown_to_who_may_see_them(stored):
    answer = opened(stored, clerk("view_storageobject"))

    assert answer.context["trail"] is answer.context["events"] is answer.context["form"] is None
    page = answer.content.decode()
    assert not [word for word in ("/download/", "/restore/", "/lock/", "/tags/", "Verify") if word in page]


def test_a_deleted_object_says_so_and_offers_to_be_restored(docs, stored):
    docs.delete_object(KEY)

    page = opened(stored).content.decode()

    assert "a delete marker is on top" in page
    assert [word for word in ("Size", "Class", "Lies in", "Put by") if f"<dt>{word}</dt>" in page] == []
    assert ">Restore</button>" in page
    assert ">Delete</button>" not in page


def test_the_page_takes_no_post(stored):
    assert operator().post(address("storageobject_change", stored.pk), {"object_key": "x"}).status_code == 403


# ---------------------------------------------------------------- who may do what


def test_the_policies_are_asked_for_a_chosen_user(acme, stored):
    world = world_of(acme)
    user = world.user()
    world.policy("storage_access", config={"allow": [{"uri": "s3://docs/reports/*", "modes": ["read", "list"]}]})

    verdicts = opened(stored, user=user.email).context["verdicts"]

    assert {verdict.mode: verdict.allowed for verdict in verdicts} == {
        "read": True, "list": True, "write": False, "delete": False,
    }  # fmt: skip
    explained = operator().get(verdicts[0].url)
    assert explained.context["record"]["decision"] == "allow"


def test_without_a_policy_a_user_may_nothing(acme, stored):
    user = world_of(acme).user()

    verdicts = opened(stored, user=user.email).context["verdicts"]

    assert not any(verdict.allowed for verdict in verdicts)
    assert all(verdict.message for verdict in verdicts)


def test_a_user_of_another_tenant_is_nobody_here(globex, stored):
    stranger = world_of(globex).user()

    answer = opened(stored, user=stranger.email)

    assert answer.context["verdicts"] == []
    assert "Write the e-mail of a user of this tenant, or an id." in answer.content.decode()


# ---------------------------------------------------------------- compare


def test_two_versions_are_compared_in_content_metadata_and_tags(stored):
    answer = opened(stored, name="compare", a="2", b="1")

    assert [(line.tone, line.text) for line in answer.context["content"].lines] == [
        ("place", "@@ -1,3 +1,3 @@"), ("", "one"), ("del", "two"), ("ins", "2"), ("", "three"),
    ]  # fmt: skip
    assert [(each.field, each.before, each.after) for each in answer.context["tags"]] == [("team", "a", "b")]
    assert [(each.field, each.before, each.after) for each in answer.context["metadata"]] == [("n", None, "2")]


@pytest.mark.parametrize("query", [{}, {"a": "1"}, {"a": "1", "b": "1"}, {"a": "1", "b": "9"}, {"a": "x", "b": "²"}])
def test_what_are_no_two_versions_leads_back_to_the_object(stored, query):
    answer = opened(stored, name="compare", **query)

    assert (answer.status_code, answer.url) == (302, stored.get_absolute_url())


def test_versions_on_one_blob_are_the_same_without_being_read(docs, stored):
    docs.restore_object(KEY, StorageVersion.objects.get(seq=1).version_id)
    before = StorageAudit.objects.count()

    answer = opened(stored, name="compare", a="1", b="3")

    assert "one was made from the other" in answer.content.decode()
    assert StorageAudit.objects.count() == before


def test_bytes_are_not_compared_line_by_line(docs, stored):
    docs.put_object(KEY, b"\x00\xff")

    assert "They are no text" in opened(stored, name="compare", a="2", b="3").content.decode()


def test_contents_are_not_compared_for_who_may_not_read_them(stored):
    answer = opened(stored, clerk("view_storageobject"), name="compare", a="1", b="2")

    assert answer.context["content"].lines == []
    assert "a permission that you do not have" in answer.content.decode()


def test_a_long_comparison_is_cut_and_says_so():
    found = compared("", "\n".join(str(n) for n in range(LINES * 2)))

    assert len(found.lines) == LINES
    assert found.said == f"The first {LINES} of {LINES * 2 + 1} lines."
    assert compared("a\r\n", "a\n").said == "Only the ends of their lines differ."


# ---------------------------------------------------------------- downloads


def test_a_download_is_a_file_and_never_a_page(docs):
    docs.put_object("shop/page.html", b"<script>alert(1)</script>", content_type="text/html")

    answer = opened(head("shop/page.html"), name="download")

    assert answer.getvalue() == b"<script>alert(1)</script>"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="page.html"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Length"] == "25"
    assert "default-src 'self'" in answer["Content-Security-Policy"]


def test_a_download_is_recorded_under_the_name_of_who_took_it(stored):
    opened(stored, name="download", version="1").getvalue()

    row = StorageAudit.objects.get(action="s3:GetObject")
    assert (row.object_key, row.bytes_sent, row.success) == (KEY, len(FIRST), True)
    assert (row.actor_name, row.version_id) == ("operator@example.com", StorageVersion.objects.get(seq=1).version_id)


def test_an_old_version_is_downloaded_by_its_seq(stored):
    assert opened(stored, name="download", version="1").getvalue() == FIRST
    assert opened(stored, name="download").getvalue() == SECOND


def test_what_cannot_be_read_is_told_on_the_page(stored):
    blob_of(stored).unlink()

    answer = operator().get(address("storageobject_download", stored.pk), follow=True)

    assert answer.redirect_chain[0][0] == stored.get_absolute_url()
    assert [str(message) for message in answer.context["messages"]]


def test_metadata_alone_has_nothing_to_download(acme):
    row = StorageObjectFactory(bucket__tenant=acme)

    assert operator().get(address("storageobject_download", row.pk)).status_code == 302


def test_a_download_takes_its_permission_and_a_get(stored):
    assert opened(stored, clerk("view_storageobject"), name="download").status_code == 403
    assert operator().post(address("storageobject_download", stored.pk)).status_code == 403


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a/b/c.txt", "c.txt"),
        ("a/b/", "b"),
        ("..", "object"),
        ("//", "object"),
        ('a"b\n.txt', "a_b\u240a.txt"),
        ("c:\\x", "c__x"),
        ("ü" * 300, "ü" * 200),
    ],
)
def test_a_file_is_called_what_any_system_takes(key, name):
    assert file_name(key) == name


# ---------------------------------------------------------------- changes


def change(row, name, client=None, version="", **posted):
    url = address(f"storageobject_{name}", row.pk) + (f"?version={version}" if version else "")
    return (client or operator()).post(url, {"reason": "because", **posted})


def test_an_old_version_becomes_the_current_one_again(stored):
    answer = change(stored, "restore", version="1")

    row = head()
    assert answer.url == stored.get_absolute_url()
    assert (row.current_version.seq, row.size) == (3, len(FIRST))
    assert StorageAudit.objects.filter(action="s3:RestoreObject", actor_name="operator@example.com").exists()


def test_a_deleted_object_comes_back(docs, stored):
    docs.delete_object(KEY)

    change(stored, "restore")

    assert not head().is_delete_marker


def test_tags_are_replaced(stored):
    form = Page(opened(stored, name="tags"))
    assert "team=b" in form.html

    change(stored, "tags", tags="team = c\n\nstate=final\n")

    assert head().tags == {"team": "c", "state": "final"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [("team", "Write name=value"), ("=x", ""), ("a=" + "x" * 300, ""), ("\n".join(f"{n}=x" for n in range(11)), "")],
)
def test_tags_that_cannot_be_are_refused_and_kept_in_the_form(stored, typed, said):
    answer = change(stored, "tags", tags=typed)

    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert head().tags == {"team": "b"}


def test_a_version_is_held_and_let_go(stored):
    change(stored, "lock", version="1", legal_hold="on")
    assert StorageVersion.objects.get(seq=1).legal_hold

    change(stored, "lock", version="1")
    assert not StorageVersion.objects.get(seq=1).legal_hold


def test_a_retention_is_shortened_only_when_that_is_said(stored):
    until = now() + timedelta(days=9)
    change(stored, "lock", retain_until=f"{until:%Y-%m-%dT%H:%M}")
    kept = StorageVersion.objects.get(seq=2).retain_until
    assert kept is not None
    assert kept > now() + timedelta(days=8)

    refused = change(stored, "lock", retain_until="")
    assert refused.status_code == 422
    assert StorageVersion.objects.get(seq=2).retain_until == kept

    change(stored, "lock", retain_until="", bypass="on")
    assert StorageVersion.objects.get(seq=2).retain_until is None


@pytest.mark.parametrize("name", ["restore", "tags", "lock"])
def test_a_change_takes_a_reason_and_its_permission(docs, stored, name):
    version = "1" if name == "restore" else ""

    assert change(stored, name, version=version, reason=" ").status_code == 422
    assert change(stored, name, clerk("view_storageobject"), version=version).status_code == 403
    assert head().current_version.seq == 2


@pytest.mark.parametrize("name", ["compare", "restore", "tags", "lock", "download", "change"])
def test_an_object_of_nobody_is_not_found(db, name):
    unknown = "018f0000-0000-7000-8000-000000000000"

    assert operator().get(address(f"storageobject_{name}", unknown)).status_code == 404


# ---------------------------------------------------------------- actions


def act(name, *rows, client=None, **posted):
    chosen = {"action": name, "_selected_action": [row.pk for row in rows], "cp_reason": "because", **posted}
    return (client or operator()).post(f"{address('storageobject_changelist')}?state=any", chosen, follow=True)


def test_actions_do_what_they_say(stored):
    act("hold", stored)
    assert head().current_version.legal_hold
    act("release_hold", stored)
    assert not head().current_version.legal_hold
    act("delete", stored)
    assert head().is_delete_marker
    act("restore", stored)
    assert not head().is_delete_marker


def test_an_action_asks_for_a_reason_first(stored):
    answer = operator().post(
        f"{address('storageobject_changelist')}?state=any", {"action": "delete", "_selected_action": stored.pk}
    )

    page = answer.content.decode()
    assert "can be restored" in page
    assert "storage_rm" in page
    assert page.count(f">{KEY}<") == 1
    assert f"in {stored.bucket.name} of {stored.tenant}" in page
    assert not head().is_delete_marker


def test_a_message_spells_a_key_as_it_is(stored):
    assert f"<span>{KEY}: held.</span>" in act("hold", stored).content.decode()


def test_what_was_deleted_has_no_size(docs, stored):
    docs.delete_object(KEY)
    listed = operator().get(address("storageobject_changelist", state="deleted")).content.decode()

    assert '<td class="field-size_shown"><span class="cp-num" title="">–</span></td>' in listed
    assert "0 B" not in listed


def test_verify_reads_to_the_end_and_tells_what_it_found(stored):
    assert "SHA-256 is the one that was put" in act("verify", stored).content.decode()

    blob_of(stored).write_bytes(b"x" * len(SECOND))
    spoilt = act("verify", stored)
    assert spoilt.status_code == 422
    blob_of(stored).unlink()
    assert act("verify", stored).status_code == 422


@pytest.mark.parametrize(
    ("name", "codename"),
    [
        ("restore", "change_storageobject"),
        ("hold", "change_storageversion"),
        ("release_hold", "change_storageversion"),
        ("delete", "delete_storageobject"),
        ("verify", "view_storageversion"),
    ],
)
def test_an_action_takes_its_permission(stored, name, codename):
    assert act(name, stored, client=clerk("view_storageobject")).status_code == 403
    assert act(name, stored, client=clerk("view_storageobject", codename)).status_code == 200


def test_several_are_deleted_at_once_or_none(docs, stored):
    docs.put_object("other.txt", b"x")

    act("delete", stored, head("other.txt"))

    assert head().is_delete_marker
    assert head("other.txt").is_delete_marker
