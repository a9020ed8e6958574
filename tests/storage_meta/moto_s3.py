"""moto's S3 in memory, through boto3: the same questions as of our handle, and the same answers to compare."""

from __future__ import annotations

from contextlib import contextmanager

import boto3
from moto import mock_aws


@contextmanager
def s3_in_memory(*, versioned=False):
    """A client of an S3 with the one bucket docs."""
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret")
        client.create_bucket(Bucket="docs")
        if versioned:
            client.put_bucket_versioning(Bucket="docs", VersioningConfiguration={"Status": "Enabled"})
        yield client


def s3_pages(s3, prefix, delimiter, max_keys, start_after=None):
    """Its pages, walked by tokens: of each its keys, its common prefixes, and whether there are more."""
    asked = {"Bucket": "docs", "Prefix": prefix, "MaxKeys": max_keys}
    asked |= {"Delimiter": delimiter} if delimiter else {}
    asked |= {"StartAfter": start_after} if start_after is not None else {}
    walked = []
    while True:
        page = s3.list_objects_v2(**asked)
        keys = [one["Key"] for one in page.get("Contents", [])]
        walked.append((keys, [one["Prefix"] for one in page.get("CommonPrefixes", [])], page["IsTruncated"]))
        if not page["IsTruncated"]:
            return walked
        asked["ContinuationToken"] = page["NextContinuationToken"]


def s3_version_pages(s3, prefix, max_keys):
    """Its pages of versions, walked by both markers: of each (versions, delete markers), both as (key, id, latest, …)."""
    asked, walked = {"Bucket": "docs", "Prefix": prefix, "MaxKeys": max_keys}, []
    while True:
        page = s3.list_object_versions(**asked)
        versions = [
            (one["Key"], one["VersionId"], one["IsLatest"], one["Size"], one["ETag"].strip('"'))
            for one in page.get("Versions", [])
        ]
        markers = [(one["Key"], one["VersionId"], one["IsLatest"]) for one in page.get("DeleteMarkers", [])]
        walked.append((versions, markers))
        if not page["IsTruncated"]:
            return walked
        asked |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}


def version_pages(handle, prefix, max_keys):
    """The same of ours."""
    markers, walked, more = (None, None), [], True
    while more:
        page = handle.list_object_versions(prefix, *markers, max_keys)
        told = [(one.object.object_key, one.version_id, one.is_latest, one.size, one.etag) for one in page.versions]
        gone = [one.is_delete_marker for one in page.versions]
        walked.append(
            (
                [row for row, marker in zip(told, gone, strict=True) if not marker],
                [row[:3] for row, marker in zip(told, gone, strict=True) if marker],
            )
        )
        more, markers = page.is_truncated, (page.next_key_marker, page.next_version_id_marker)
    return walked
