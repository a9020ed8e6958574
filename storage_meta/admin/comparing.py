"""Two versions side by side: their content line by line where it is text, their facts, metadata and tags."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse

from auditing.admin.differences import Change, changes
from controlplane.core import display
from controlplane.core.admin import readable_address
from storage_meta.admin.base import handle, visible
from storage_meta.admin.object_page import facts
from storage_meta.errors import StorageError
from storage_meta.models import StorageObject, StorageVersion

LONGEST = 128 * 1024
LINES = 400
TONES = {"+": "ins", "-": "del", "@": "place"}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the comparison. tone: ins, del, place (where it stands) or "" (the same in both)."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """lines: what differs, with three lines around it. said: why there are none, or that there are more."""

    lines: list[Line]
    said: str


def page(modeladmin: Any, request: HttpRequest, row: StorageObject) -> HttpResponse:
    """GET: a and b, the seqs of two versions; the lower one is shown as the one before."""
    moved = readable_address(request)
    if moved is not None:
        return moved
    if request.method not in ("GET", "HEAD"):
        raise PermissionDenied
    before, after = _chosen(request, row)
    if before is None or after is None:
        return HttpResponseRedirect(row.get_absolute_url())
    content = _content(modeladmin, request, row, before, after)
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": "Compare versions",
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "row": row,
        "key": visible(row.object_key),
        "before": before,
        "after": after,
        "times": (display.instant(before.created_at), display.instant(after.created_at)),
        "content": content,
        "facts": _differ(*(_facts(version) for version in (before, after))),
        "metadata": _differ(before.metadata, after.metadata),
        "tags": _differ(before.tags, after.tags),
    }
    return TemplateResponse(request, "cp_storage_meta/compare.html", context)


def _chosen(request: HttpRequest, row: StorageObject) -> tuple[StorageVersion | None, StorageVersion | None]:
    asked = {request.GET.get(name, "") for name in ("a", "b")}
    seqs = sorted(int(text) for text in asked if text.isascii() and text.isdecimal() and len(text) < 19)
    found = {
        version.seq: version
        for version in StorageVersion.objects.filter(tenant_id=row.tenant_id, object=row, seq__in=seqs)
    }
    if len(seqs) != 2:
        return None, None
    return found.get(seqs[0]), found.get(seqs[1])


def _facts(version: StorageVersion) -> dict[str, str]:
    """Without what is another in any two versions."""
    return {name: text for name, text in facts(version) if name not in ("ETag", "Version")}


def _differ(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """What is not the same on both sides; what is, is left out."""
    return [
        each
        for each in changes(before, after)
        if each.before != each.after or (each.before is None and each.field[:1] == "…")
    ]


def _content(
    modeladmin: Any, request: HttpRequest, row: StorageObject, before: StorageVersion, after: StorageVersion
) -> Content:
    if before.is_delete_marker or after.is_delete_marker:
        return Content([], "One of them is a delete marker, which holds nothing.")
    if before.blob_name and before.blob_name == after.blob_name:
        return Content([], "Both have the same content: one was made from the other.")
    if before.checksum_sha256 and before.checksum_sha256 == after.checksum_sha256:
        return Content([], "Their contents are the same, byte for byte.")
    if not modeladmin.has_read_permission(request):
        return Content([], "Their contents differ. To read them takes a permission that you do not have.")
    if max(before.size, after.size) > LONGEST:
        return Content([], f"They are compared up to {LONGEST // 1024} KiB. Download both to compare them.")
    docs = handle(request, row.tenant).bucket(row.bucket.name)
    try:
        texts = [_text(docs, row.object_key, version) for version in (before, after)]
    except StorageError as refused:
        return Content([], refused.message)
    if None in texts:
        return Content([], "They are no text, and their contents differ. Download both to compare them.")
    return compared(str(texts[0]), str(texts[1]))


def _text(docs: Any, key: str, version: StorageVersion) -> str | None:
    """The content as text; None if it is none."""
    with docs.get_object(key, version.version_id) as stored:
        content = b"".join(stored)
    try:
        return None if b"\x00" in content else content.decode()
    except UnicodeDecodeError:
        return None


def compared(before: str, after: str) -> Content:
    """Pure: the lines that differ, with three around them; the first LINES of them."""
    found = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3))[2:]
    lines = [Line(TONES.get(line[:1], ""), visible(line if line[:1] == "@" else line[1:])) for line in found[:LINES]]
    if not lines:
        return Content([], "Only the ends of their lines differ.")
    return Content(lines, f"The first {LINES} of {len(found)} lines." if len(found) > LINES else "")
