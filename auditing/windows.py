from __future__ import annotations

from datetime import datetime
from uuid import UUID

from auditing.errors import InvalidWindow
from controlplane.core.ids import lower_bound


def id_bounds(start: datetime, end: datetime) -> tuple[UUID, UUID]:
    """low and high of the ids of a window start <= created_at < end: `id >= low AND id < high`, beside the exact times.

    Ids are cut to the millisecond, so high lets the millisecond of `end` through. Raises InvalidWindow for a window
    that is naive, empty or reversed.
    """
    if start.tzinfo is None or end.tzinfo is None:
        raise InvalidWindow(message="Start and end need a time zone: use aware datetimes.")
    if start >= end:
        raise InvalidWindow(message=f"The window is empty: {start:%Y-%m-%d %H:%M} is not before {end:%Y-%m-%d %H:%M}.")
    return lower_bound(start), UUID(int=lower_bound(end).int + (1 << 80))


def check_years(*instants: datetime | None) -> None:
    """Raises InvalidWindow for an instant (aware) that no id can be of, or that no calendar goes on from."""
    for instant in instants:
        if instant is not None and not 1970 < instant.year < 9000:
            raise InvalidWindow(
                message=f"{instant.isoformat()} is of no year that logs have: give one from 1971 to 8999."
            )
