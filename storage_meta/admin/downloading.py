"""A download: always a file to be kept, never a page of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from storage_meta.admin.base import handle, visible
from storage_meta.admin.changing import version_of
from storage_meta.errors import StorageError
from storage_meta.models import StorageObject
from storage_meta.reading import StoredFile


class Chunks:
    """The chunks of an open file, which is closed with the answer, also when nobody took one: that writes the access log."""

    def __init__(self, stored: StoredFile) -> None:
        self._stored, self._chunks, self._open = stored, iter(stored), True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self._end(type(error), error, error.__traceback__)
            raise

    def close(self) -> None:
        self._end(None, None, None)

    def _end(self, *why: Any) -> None:
        if self._open:
            self._open = False
            self._stored.__exit__(*why)


def page(modeladmin: Any, request: HttpRequest, row: StorageObject) -> HttpResponseBase:
    """GET, ?version= (a seq; none: the current one). What cannot be read is told on the object's page."""
    if not modeladmin.has_read_permission(request):
        raise PermissionDenied
    if request.method != "GET":
        raise PermissionDenied
    version = version_of(request, row) or row.current_version
    docs = handle(request, row.tenant).bucket(row.bucket.name)
    try:
        stored = docs.get_object(row.object_key, version.version_id).__enter__()
    except StorageError as refused:
        messages.error(request, refused.message)
        return HttpResponseRedirect(row.get_absolute_url())
    # the type that was put is for programs: a browser that trusted it would run what a tenant stored, on our own origin
    answer = StreamingHttpResponse(Chunks(stored), content_type="application/octet-stream")
    answer["Content-Length"] = str(version.size)
    answer["Content-Disposition"] = content_disposition_header(True, file_name(row.object_key))
    answer["Cache-Control"] = "private, no-store"
    answer["X-Content-Type-Options"] = "nosniff"
    return answer


def file_name(key: str) -> str:
    """What a file of a key is called: its last part that has a name, with nothing that a file system or a header minds."""
    named = next((part for part in reversed(key.split("/")) if part.strip(". ")), "object")
    return "".join(letter if letter not in '\\:*?"<>|' else "_" for letter in visible(named))[-200:]
