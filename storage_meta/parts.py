"""Any part of a key: the optional index of trigrams, and what it is asked."""

from __future__ import annotations

import re

from django.db import connections

from controlplane.core.conf import conf
from storage_meta import keys
from storage_meta.errors import InvalidArgument

LEAST = 3
"""Characters: of fewer there is no trigram, and the whole tenant would be read."""

INDEX = "storageobject_part_idx"

_THERE = """
    SELECT i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
    WHERE c.relname = %s AND i.indrelid = 'cp_storage_meta_storageobject'::regclass
"""
_MAKE = """
    CREATE INDEX CONCURRENTLY storageobject_part_idx ON cp_storage_meta_storageobject
    USING gin (tenant_id, object_key gin_trgm_ops) WHERE NOT is_delete_marker
"""
_REMOVE = "DROP INDEX CONCURRENTLY IF EXISTS storageobject_part_idx"


def check(part: object) -> str:
    """A part of a key that can be looked up. Raises InvalidArgument."""
    if not conf.STORAGE_TRIGRAM:
        raise InvalidArgument(message="Parts of keys are not indexed here. Set STORAGE_TRIGRAM and run storage_index.")
    found = keys.check_text("part", part, keys.KEY_BYTES)
    if len(found) < LEAST:
        raise InvalidArgument(message=f"part has {len(found)} characters. Use {LEAST} at least.")
    return found


def pattern(part: str) -> str:
    """A pattern of LIKE in which every character of the part stands for itself."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", part) + "%"


def keep_index() -> bool | None:
    """Make the index where STORAGE_TRIGRAM says so, remove it where not. True: made, False: removed, None: was right already.

    Writes go on meanwhile, so it runs outside transactions. What a broken run has left is made anew.
    """
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_THERE, [INDEX])
        [valid] = cursor.fetchone() or [None]
        if bool(valid) == conf.STORAGE_TRIGRAM and (valid or valid is None):
            return None
        cursor.execute(_REMOVE)
        if conf.STORAGE_TRIGRAM:
            cursor.execute(_MAKE)
    return conf.STORAGE_TRIGRAM
