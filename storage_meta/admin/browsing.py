"""The storage browser: a bucket as folders, made of what the list of keys says; no folder is stored anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from controlplane.core import display
from controlplane.core.admin import readable_address
from storage_meta.admin.base import (
    OFFERED,
    chosen_tenant,
    filters_as_fields,
    handle,
    own_tenant,
    size_cell,
    tenants_with_buckets,
    visible,
)
from storage_meta.errors import StorageError
from storage_meta.handle import Files
from storage_meta.models import Bucket, StorageObject, StorageVersion

NAME = "cp_storage_meta_storageobject_browse"
DELIMITER = "/"
PAGE = 100
DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Crumb:
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the tree. folder: whether it leads further down. url: of the folder, or of the object's page."""

    name: str
    url: str
    folder: bool
    size: str = ""
    type: str = ""
    at: str = ""
    download: str = ""
    note: str = ""


@dataclass(slots=True)
class Listed:
    """A page of the tree. next: query of the following one; "" at the end."""

    entries: list[Entry]
    next: str = ""


class Asked:
    """What the address asks: tenant, bucket, prefix, versions, token (or key and version, where versions go on)."""

    def __init__(self, request: HttpRequest) -> None:
        given = request.GET
        self.offered = tenants_with_buckets(request)
        self.tenant = chosen_tenant(request, self.offered, given.get("tenant", "").strip())
        self.buckets = list(Bucket.objects.for_tenant(self.tenant).order_by("name")[:200]) if self.tenant else []
        name = given.get("bucket", "")
        self.bucket = next((bucket for bucket in self.buckets if bucket.name == name), None)
        if self.bucket is None and name and self.tenant:
            self.bucket = Bucket.objects.for_tenant(self.tenant).filter(name=name).first()
        self.prefix = given.get("prefix", "")
        self.versions = given.get("versions") == "1"
        self.token = given.get("token", "")
        self.after = (given.get("key", ""), given.get("version", ""))

    def url(self, **changed: str) -> str:
        """The address of this page with other values; what is empty is left out. Tokens do not travel along."""
        now = {
            "tenant": str(self.tenant.pk) if self.tenant else "",
            "bucket": self.bucket.name if self.bucket else "",
            "prefix": self.prefix,
            "versions": "1" if self.versions else "",
        }
        return "?" + urlencode({name: value for name, value in (now | changed).items() if value})


def page(modeladmin: Any, request: HttpRequest) -> HttpResponse:
    """GET alone: a list changes nothing but, where its bucket says so, the access log."""
    if not modeladmin.has_view_permission(request) or request.method not in ("GET", "HEAD"):
        raise PermissionDenied
    moved = readable_address(request)
    if moved is not None:
        return moved
    asked = Asked(request)
    if request.GET.get("bucket") and asked.bucket is None:
        messages.warning(request, "There is no such bucket here. Choose one.")
    listed = _listed(modeladmin, request, asked) if asked.bucket and asked.tenant else Listed([])
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": "Storage browser",
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "asked": asked,
        "one_tenant": own_tenant(request) is not None or (len(asked.offered) <= 1 and asked.tenant in asked.offered),
        "many": len(asked.offered) == OFFERED,
        "buckets": _buckets(asked),
        "crumbs": _crumbs(asked),
        "listed": listed,
        "first": asked.url() if asked.token or asked.after[0] else "",
        "switch_url": asked.url(versions="" if asked.versions else "1"),
        "kept": filters_as_fields(request.GET, "prefix", "token", "key", "version"),
        "prefix_shown": visible(asked.prefix),
        "list_url": _list_url(asked),
        "add_url": reverse("admin:cp_storage_meta_bucket_add")
        if request.user.has_perm("cp_storage_meta.add_bucket")
        else "",
    }
    return TemplateResponse(request, "cp_storage_meta/browse.html", context)


def _buckets(asked: Asked) -> list[dict[str, Any]]:
    if asked.bucket is not None:
        return []
    return [
        {"row": bucket, "url": asked.url(bucket=bucket.name, prefix=""), "created": display.day(bucket.created_at)}
        for bucket in asked.buckets
    ]


def _list_url(asked: Asked) -> str:
    """The list of objects, with this folder as its filter: there one searches words."""
    about = {
        "tenant": asked.tenant.pk if asked.tenant else "",
        "bucket": asked.bucket.name if asked.bucket else "",
        "prefix": asked.prefix,
    }
    url = reverse("admin:cp_storage_meta_storageobject_changelist")
    return f"{url}?{urlencode({name: value for name, value in about.items() if value})}"


def _crumbs(asked: Asked) -> list[Crumb]:
    """The bucket and each folder above; of a very deep key the outermost and the innermost."""
    if asked.bucket is None:
        return []
    found, at = [Crumb(asked.bucket.name, asked.url(prefix=""))], 0
    while (end := asked.prefix.find(DELIMITER, at)) >= 0:
        found.append(Crumb(visible(asked.prefix[at:end]) or "(no name)", asked.url(prefix=asked.prefix[: end + 1])))
        at = end + 1
    if at < len(asked.prefix):
        found.append(Crumb(f"{visible(asked.prefix[at:])}…", asked.url()))
    return found if len(found) <= DEEPEST else [*found[:3], Crumb("…", found[-DEEPEST].url), *found[-DEEPEST + 4 :]]


def _listed(modeladmin: Any, request: HttpRequest, asked: Asked) -> Listed:
    """A page, or, where its token is damaged or of another list, the first one with a message."""
    docs = handle(request, asked.tenant).bucket(asked.bucket.name)  # type: ignore[arg-type, union-attr]  # both are there
    readable = modeladmin.has_read_permission(request)
    show = _versions if asked.versions else _objects
    try:
        return show(docs, asked, readable)
    except StorageError as refused:
        messages.warning(request, refused.message)
        if not (asked.token or asked.after[0]):
            return Listed([])
        asked.token, asked.after = "", ("", "")
        return _listed(modeladmin, request, asked)


def _objects(docs: Files, asked: Asked, readable: bool) -> Listed:
    found = docs.list_objects_v2(asked.prefix, DELIMITER, PAGE, continuation_token=asked.token or None)
    entries = [
        _folder(entry, asked) if isinstance(entry, str) else _file(entry, asked, readable) for entry in found.entries
    ]
    return Listed(entries, asked.url(token=found.next_continuation_token) if found.next_continuation_token else "")


def _folder(prefix: str, asked: Asked) -> Entry:
    name = visible(prefix[len(asked.prefix) : -len(DELIMITER)])
    return Entry(f"{name or '(no name)'}{DELIMITER}", asked.url(prefix=prefix), folder=True)


def _file(row: StorageObject, asked: Asked, readable: bool) -> Entry:
    return Entry(
        visible(row.object_key[len(asked.prefix) :]) or "(this very key)",
        row.get_absolute_url(),
        folder=False,
        size=size_cell(row.size),
        type=row.content_type,
        at=display.instant(row.last_modified),
        download=reverse("admin:cp_storage_meta_storageobject_download", args=[row.pk]) if readable else "",
    )


def _versions(docs: Files, asked: Asked, readable: bool) -> Listed:
    """All versions below the prefix, folders not folded: what was deleted shows here alone."""
    key, version = (text or None for text in asked.after)
    found = docs.list_object_versions(asked.prefix, key, version if key else None, PAGE)
    entries = [_version(row, asked, readable) for row in found.versions]
    following = {"key": found.next_key_marker or "", "version": found.next_version_id_marker or ""}
    return Listed(entries, asked.url(**following) if found.is_truncated else "")


def _version(row: StorageVersion, asked: Asked, readable: bool) -> Entry:
    download = reverse("admin:cp_storage_meta_storageobject_download", args=[row.object_id])
    note = "delete marker" if row.is_delete_marker else "" if row.is_latest else "old"
    return Entry(
        visible(row.object.object_key[len(asked.prefix) :]) or "(this very key)",
        row.object.get_absolute_url(),
        folder=False,
        size=display.NOTHING if row.is_delete_marker else size_cell(row.size),
        type=f"{row.seq:,}",
        at=display.instant(row.created_at),
        download=f"{download}?version={row.seq}" if readable and not row.is_delete_marker else "",
        note=note,
    )
