"""What is stored, against a plain model of it: two tenants, each kind of versioning, every change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import md5
from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage_meta.errors import (
    MethodNotAllowed,
    NoSuchKey,
    NoSuchVersion,
    ObjectLocked,
    PreconditionFailed,
    StorageError,
)
from storage_meta.models import Bucket, StorageObject, StorageVersion
from tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

FAR = datetime(2999, 1, 1, tzinfo=UTC)
KEYS = ["a", "a/b", "a/b/", "é", "a//b", "z\U0001f600", ".."]


@dataclass
class Version:
    """id: as callers know it. body: None of a delete marker."""

    id: str
    body: bytes | None
    tags: dict = field(default_factory=dict)
    hold: bool = False
    kept: bool = False

    @property
    def held(self):
        return self.hold or self.kept

    @property
    def etag(self):
        return md5(self.body, usedforsecurity=False).hexdigest()


def tried(call):
    """(result, None) or (None, error)."""
    try:
        return call(), None
    except StorageError as error:
        return None, error


class Plain:
    """A bucket as a dict of lists, oldest version first."""

    def __init__(self, versioning):
        self.versioning, self.keys = versioning, {}

    def versions(self, key):
        return self.keys.get(key, [])

    def live(self, key):
        versions = self.versions(key)
        return versions[-1] if versions and versions[-1].body is not None else None

    def find(self, key, id):
        return next((one for one in self.versions(key) if one.id == id), None)

    def readable(self, key, id=None):
        """The version that a read finds. Raises what it raises."""
        if id is None:
            if self.live(key) is None:
                raise NoSuchKey("none")
            return self.live(key)
        found = self.find(key, id)
        if found is None:
            raise NoSuchVersion()
        if found.body is None:
            raise MethodNotAllowed()
        return found

    def add(self, key, version):
        """The new one on top, where the rules of versioning let it be; `null` takes the place of `null`."""
        if version.id == "null":
            self.remove(key, "null")
        self.keys.setdefault(key, []).append(version)

    def remove(self, key, id):
        found = self.find(key, id)
        if found is None:
            return
        if found.held:
            raise ObjectLocked()
        self.keys[key].remove(found)
        if not self.keys[key]:
            del self.keys[key]


class Machine(RuleBasedStateMachine):
    """Every rule does the same to both and wants the same outcome, or the same error."""

    numbers = count()
    slugs = st.sampled_from(["acme", "globex"])
    buckets = st.sampled_from(["unversioned", "enabled", "suspended"])
    keys = st.sampled_from(KEYS)
    bodies = st.sampled_from([b"", b"a", b"bb", b"ccc"])
    places = st.integers(0, 5)

    def __init__(self):
        super().__init__()
        self.files, self.model = {}, {}
        for slug in ("acme", "globex"):
            tenant = TenantFactory(slug=f"{slug}-{next(self.numbers)}")
            for versioning in ("unversioned", "enabled", "suspended"):
                Bucket.objects.create(tenant=tenant, name=versioning, versioning=versioning)
                self.files[slug, versioning] = StorageObject.objects.for_tenant(tenant).bucket(versioning)
                self.model[slug, versioning] = Plain(versioning)

    def both(self, slug, bucket):
        return self.files[slug, bucket], self.model[slug, bucket]

    def outcome(self, real, modelled):
        """The real result, or None where both raised an error of one class."""
        (_, wanted), (found, raised) = tried(modelled), tried(real)
        assert type(raised) is type(wanted), (raised, wanted, found)
        return found

    def id_of(self, model, key, place):
        """An id of the key, an id of nobody, or one of another key."""
        ids = [one.id for one in model.versions(key)] or [one.id for each in model.keys.values() for one in each]
        return ids[place % len(ids)] if ids and place < 5 else "0" * 32

    def landed(self, model, key, result, version):
        """The model learns the id that the real one was given."""
        if result is None:
            return
        version.id = result.version_id
        assert (version.id == "null") == (model.versioning != "enabled")

    @rule(
        slug=slugs,
        bucket=buckets,
        key=keys,
        body=bodies,
        condition=st.sampled_from([None, None, "absent", "same", "x"]),
    )
    def put(self, slug, bucket, key, body, condition):
        files, model = self.both(slug, bucket)
        live = model.live(key)
        new = Version("new" if bucket == "enabled" else "null", body)
        asks = {"if_none_match": "*"} if condition == "absent" else {}
        if condition in ("same", "x"):
            asks["if_match"] = live.etag if live and condition == "same" else "0" * 32

        def modelled():
            if condition == "absent" and live:
                raise PreconditionFailed()
            if "if_match" in asks and not live:
                raise NoSuchKey("none")
            if "if_match" in asks and asks["if_match"] != live.etag:
                raise PreconditionFailed()
            model.add(key, new)

        done = self.outcome(lambda: files.put_object(key, body, **asks), modelled)
        self.landed(model, key, done, new)
        assert done is None or (done.etag, done.size) == (new.etag, len(body))

    @rule(slug=slugs, bucket=buckets, key=keys)
    def delete(self, slug, bucket, key):
        files, model = self.both(slug, bucket)
        existed, new = key in model.keys, Version("new" if bucket == "enabled" else "null", None)

        def modelled():
            if bucket == "unversioned":
                model.remove(key, "null")
            else:
                model.add(key, new)

        done = self.outcome(lambda: files.delete_object(key), modelled)
        if done is not None and bucket != "unversioned":
            self.landed(model, key, done, new)
        if done is not None:
            assert done.delete_marker == (bucket != "unversioned")
            assert bucket != "unversioned" or done.existed == existed

    @rule(slug=slugs, bucket=buckets, key=keys, place=places)
    def delete_a_version(self, slug, bucket, key, place):
        files, model = self.both(slug, bucket)
        id = self.id_of(model, key, place)
        found = model.find(key, id)

        done = self.outcome(lambda: files.delete_object(key, id), lambda: model.remove(key, id))

        if done is not None:
            assert done.existed == (found is not None)
            assert done.delete_marker == (found is not None and found.body is None)

    @rule(slug=slugs, bucket=buckets, key=keys)
    def take_markers_away(self, slug, bucket, key):
        files, model = self.both(slug, bucket)

        def modelled():
            versions = model.versions(key)
            if not any(one.body is not None for one in versions):
                raise NoSuchKey("none")
            while versions[-1].body is None:
                versions.pop()

        done = self.outcome(lambda: files.restore_object(key), modelled)
        assert done is None or done.version_id == model.live(key).id

    @rule(slug=slugs, bucket=buckets, key=keys, place=places)
    def restore_a_version(self, slug, bucket, key, place):
        files, model = self.both(slug, bucket)
        id = self.id_of(model, key, place)
        new = Version("new" if bucket == "enabled" else "null", b"")

        def modelled():
            old = model.readable(key, id)
            new.body, new.tags = old.body, dict(old.tags)
            model.add(key, new)

        self.landed(model, key, self.outcome(lambda: files.restore_object(key, id), modelled), new)

    @rule(slug=slugs, bucket=buckets, into=buckets, key=keys, other=keys, place=places)
    def copy(self, slug, bucket, into, key, other, place):
        (files, model), (_, target) = self.both(slug, bucket), self.both(slug, into)
        id = None if place == 5 else self.id_of(model, key, place)
        new = Version("new" if into == "enabled" else "null", b"")

        def modelled():
            old = model.readable(key, id)
            new.body, new.tags = old.body, dict(old.tags)
            target.add(other, new)

        done = self.outcome(lambda: files.copy_object(key, other, version_id=id, bucket=into), modelled)
        self.landed(target, other, done, new)

    @rule(slug=slugs, bucket=buckets, key=keys, place=places, value=st.sampled_from(["1", "2"]))
    def tag(self, slug, bucket, key, place, value):
        files, model = self.both(slug, bucket)
        id = None if place == 5 else self.id_of(model, key, place)

        def modelled():
            model.readable(key, id).tags = {"n": value}

        self.outcome(lambda: files.put_object_tagging(key, {"n": value}, id), modelled)

    @rule(slug=slugs, bucket=buckets, key=keys, place=places, on=st.booleans())
    def hold(self, slug, bucket, key, place, on):
        files, model = self.both(slug, bucket)
        id = None if place == 5 else self.id_of(model, key, place)

        def modelled():
            model.readable(key, id).hold = on

        self.outcome(lambda: files.put_object_legal_hold(key, on, id, reason="a test"), modelled)

    @rule(slug=slugs, bucket=buckets, key=keys, keep=st.booleans())
    def retain(self, slug, bucket, key, keep):
        files, model = self.both(slug, bucket)

        def modelled():
            model.readable(key).kept = keep

        until = FAR if keep else None
        self.outcome(lambda: files.put_object_retention(key, until, bypass=True, reason="a test"), modelled)

    @rule(slug=slugs, bucket=buckets, key=keys, place=places)
    def read(self, slug, bucket, key, place):
        files, model = self.both(slug, bucket)
        id = None if place == 5 else self.id_of(model, key, place)

        def whole():
            with files.get_object(key, id) as stored:
                return b"".join(stored), files.head_object(key, id).size

        read = self.outcome(whole, lambda: model.readable(key, id))
        if read is not None:
            assert read == (model.readable(key, id).body, len(read[0]))

    @invariant()
    def keys_are_listed(self):
        for place, files in self.files.items():
            model = self.model[place]
            live = {key: model.live(key) for key in model.keys if model.live(key)}
            page = files.list_objects_v2()
            assert [one.object_key for one in page.contents] == sorted(live, key=str.encode)
            assert all(live[one.object_key].etag == one.etag for one in page.contents)
            assert all(live[one.object_key].tags == one.tags for one in page.contents)

    @invariant()
    def versions_are_listed(self):
        for place, files in self.files.items():
            model = self.model[place]
            wanted = [
                (key, one.id, one.body is None, one.hold)
                for key in sorted(model.keys, key=str.encode)
                for one in reversed(model.keys[key])
            ]
            page = files.list_object_versions()
            found = [
                (one.object.object_key, one.version_id, one.is_delete_marker, one.legal_hold) for one in page.versions
            ]
            assert found == wanted

    @invariant()
    def heads_point_at_their_highest_version(self):
        for head in StorageObject.objects.all():
            top = StorageVersion.objects.filter(object=head).newest_first().first()
            assert (head.current_version_id, head.etag, head.size) == (top.id, top.etag, top.size)
            assert head.next_seq > top.seq

    @invariant()
    def sums_are_those_of_the_model(self):
        for slug in ("acme", "globex"):
            models = [model for (owner, _), model in self.model.items() if owner == slug]
            live = [model.live(key) for model in models for key in model.keys if model.live(key)]
            every = [one for model in models for versions in model.keys.values() for one in versions]
            found = self.files[slug, "enabled"]
            total = type(found)(tenant=found.tenant).statistics()
            assert (total.total_objects, total.total_size) == (len(live), sum(len(one.body) for one in live))
            assert total.total_versions == len(every)
            assert total.version_bytes == sum(len(one.body or b"") for one in every)


def test_whatever_is_done_to_keys_they_hold_what_a_plain_model_says():
    found = settings(
        max_examples=6,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    run_state_machine_as_test(Machine, settings=found)


@pytest.mark.slow
def test_long_series_of_changes_agree_with_the_model_too():
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
