"""A seeded random series of puts, deletes, restores and lists, replayed on moto's S3: equal pages, markers and ETags."""

from __future__ import annotations

from random import Random

import pytest

from storage_meta.errors import NoSuchKey
from tests.storage_meta.keyspace import DELIMITERS, HIGHEST, entries, pages
from tests.storage_meta.moto_s3 import s3_in_memory, s3_pages, s3_version_pages, version_pages

KEYS = [
    *("a", "a/", "a/b", "a//b", "a/b/c", "a/b/d", "a.", "b/1", "b/2", "b/x/1", "%2F", "a%2Fb", "é/1", "e\u0301/1", " "),
    *("\ud7ff/1", "\ue000/1", "日本語/キー", f"{HIGHEST}/1", "a b", "a+b", "dir/", "dir/file", "dir0"),
]


class Both:
    """Our bucket and moto's, to which the same is done. ids: of each key what a version is called here and there."""

    def __init__(self, ours, theirs, random):
        self.ours, self.theirs, self.random = ours, theirs, random
        self.ids = {key: [] for key in KEYS}

    def put(self, key):
        body = self.random.randbytes(self.random.randint(0, 40))
        mine = self.ours.put_object(key, body)
        yours = self.theirs.put_object(Bucket="docs", Key=key, Body=body)
        assert mine.etag == yours["ETag"].strip('"')
        self.came(key, mine.version_id, yours)

    def came(self, key, version_id, answer):
        if "VersionId" in answer:
            self.ids[key].insert(0, (version_id, answer["VersionId"]))

    def delete(self, key):
        if not self.ids[key] and self.versioned:
            return  # moto makes no marker of a key that it does not know
        mine = self.ours.delete_object(key)
        yours = self.theirs.delete_object(Bucket="docs", Key=key)
        assert mine.delete_marker == yours.get("DeleteMarker", False)
        self.came(key, mine.version_id, yours)

    def delete_version(self, key):
        if self.ids[key]:
            mine, yours = self.ids[key].pop(self.random.randrange(len(self.ids[key])))
            assert self.ours.delete_object(key, mine).existed
            self.theirs.delete_object(Bucket="docs", Key=key, VersionId=yours)

    def restore(self, key):
        """A version becomes the current one, as by a copy onto its own key."""
        contents = [pair for pair in self.ids[key] if not self.ours_is_marker(key, pair[0])]
        if contents:
            mine, yours = self.random.choice(contents)
            source = {"Bucket": "docs", "Key": key, "VersionId": yours}
            answer = self.theirs.copy_object(Bucket="docs", Key=key, CopySource=source, MetadataDirective="REPLACE")
            made = self.ours.restore_object(key, mine)
            assert made.etag == answer["CopyObjectResult"]["ETag"].strip('"')
            self.came(key, made.version_id, answer)

    def undelete(self, key):
        """The markers above the newest version go."""
        markers = []
        for pair in self.ids[key]:
            if not self.ours_is_marker(key, pair[0]):
                break
            markers.append(pair)
        if markers and len(markers) < len(self.ids[key]):
            self.ours.restore_object(key)
            for pair in markers:
                self.theirs.delete_object(Bucket="docs", Key=key, VersionId=pair[1])
                self.ids[key].remove(pair)

    def head(self, key):
        try:
            mine = self.ours.head_object(key)
            found = (mine.size, mine.etag)
        except NoSuchKey as error:
            found = error.delete_marker
        try:
            yours = self.theirs.head_object(Bucket="docs", Key=key)
            expected = (yours["ContentLength"], yours["ETag"].strip('"'))
        except self.theirs.exceptions.ClientError as error:
            expected = "x-amz-delete-marker" in error.response["ResponseMetadata"]["HTTPHeaders"]
        assert found == expected

    def ours_is_marker(self, key, version_id):
        [is_marker] = [
            one.is_delete_marker
            for one in self.ours.list_object_versions(key).versions
            if (one.object.object_key, one.version_id) == (key, version_id)
        ]
        return is_marker

    def compare(self):
        prefix = self.random.choice(["", "", "a", "a/", "b/", "d", HIGHEST])
        size = self.random.choice([2, 5, 20, 1000])
        assert pages(self.ours, prefix, "", size) == s3_pages(self.theirs, prefix, "", size)
        live = [key for keys, _, _ in s3_pages(self.theirs, "", "", 1000) for key in keys]
        delimiter = self.random.choice(DELIMITERS[2:8])
        [(keys, groups, _)] = s3_pages(self.theirs, prefix, delimiter, 1000)
        # moto folds keys under delete markers too
        groups = [group for group in groups if any(key.startswith(group) for key in live)]
        assert pages(self.ours, prefix, delimiter, 1000) == [(keys, groups, False)]
        expected = entries(live, prefix, delimiter)
        walked = pages(self.ours, prefix, delimiter, size)
        assert [len(keys) + len(groups) for keys, groups, _ in walked] == [
            len(expected[place : place + size]) for place in range(0, len(expected) or 1, size)
        ]
        here = {(key, yours): mine for key, pairs in self.ids.items() for mine, yours in pairs}
        translated = [
            tuple([(row[0], here.get(row[:2], "null"), *row[2:]) for row in rows] for rows in page)
            for page in s3_version_pages(self.theirs, prefix, size)
        ]
        assert version_pages(self.ours, prefix, size) == translated


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 4))])
@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "unversioned"])
def test_a_series_replayed_on_moto_gives_equal_pages_markers_and_etags(docs, plain, versioned, seed):
    random = Random(seed)  # noqa: S311  the same series every time
    with s3_in_memory(versioned=versioned) as theirs:
        both = Both(docs if versioned else plain, theirs, random)
        both.versioned = versioned
        steps = [both.put] * 5 + [both.delete] * 3 + [both.head]
        steps += [both.delete_version] * 2 + [both.restore, both.undelete] if versioned else []

        for number in range(150):
            random.choice(steps)(random.choice(KEYS))
            if number % 15 == 14:
                both.compare()
