"""Whether a tenant may store more."""

from __future__ import annotations

from uuid import UUID

from django.db import connections

from controlplane.core.conf import conf
from storage_meta.errors import QuotaExceeded

# without a quota nothing is summed up
_ASKED = """
    SELECT q.max_bytes, q.max_objects, q.on_excess, u.bytes, u.objects
    FROM cp_storage_meta_storagequota q, LATERAL cp_storage_used(q.tenant_id) u WHERE q.tenant_id = %s
"""


def demand(tenant_id: UUID, *, size: int, objects: int) -> bool:
    """Whether size more bytes in so many more objects are above the quota (True: the result is marked). Raises QuotaExceeded.

    What is stored is the last count and all that came since: what was removed since counts until the next one. A call that
    adds nothing to a sum is not refused for it.
    """
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_ASKED, [tenant_id])
        found = cursor.fetchone()
    if found is None:
        return False
    max_bytes, max_objects, on_excess, used_bytes, used_objects = found
    above = ""
    if max_bytes is not None and size > 0 and used_bytes + size > max_bytes:
        above = f"{used_bytes:,} of {max_bytes:,} bytes are used, and this needs {size:,}"
    elif max_objects is not None and objects > 0 and used_objects + objects > max_objects:
        above = f"there are {used_objects:,} of {max_objects:,} objects, and this adds {objects:,}"
    if above and on_excess == "refuse":
        raise QuotaExceeded(message=f"The storage quota is used up: {above}. Remove some, or have the quota raised.")
    return bool(above)
