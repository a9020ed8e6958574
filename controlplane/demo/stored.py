"""What the demo's organisations store: buckets, keys with several versions, and who reads them. Declarations only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Key:
    """versions: its contents, oldest first, each by whom (user name) and with what comment. end: "" or deleted, held."""

    key: str
    versions: tuple[tuple[str, str, str], ...]
    type: str = "text/markdown"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    end: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    name: str
    keys: tuple[Key, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Store:
    """What a tenant stores. quota: (bytes, objects, what happens above it). hook: name and bucket of one that tells somebody."""

    tenant: str
    buckets: tuple[Bucket, ...]
    quota: tuple[int | None, int | None, str] | None = None
    hook: tuple[str, str] | None = None


_ROAD = (
    "# The Salt Road\n\n## Chapter 1\n\nThe mules knew the way. Agnes did not, and said so to nobody.\n\n"
    "By noon the path was salt and stone, and the sea lay behind them like a closed door.\n"
)
_ROAD_CUT = _ROAD.replace("Agnes did not, and said so to nobody.", "Agnes did not.")
_ROAD_FINAL = _ROAD_CUT.replace("like a closed door", "like a door that somebody had closed")
_LETTER = "To the general practitioner\n\nThe patient was discharged in good health on day {}.\nControl in six weeks.\n"
_TRIP = '{{"guests": {}, "nights": {}, "from": "Kochi", "to": "{}", "status": "{}"}}\n'

MARLOW = Store(
    "marlow-daughters",
    (
        Bucket(
            "marlow-manuscripts",
            (
                Key(
                    "autumn-list/the-salt-road/chapter-01.md",
                    (("ines", _ROAD, "as it came"), ("harriet", _ROAD_CUT, "shorter"), ("ines", _ROAD_FINAL, "final")),
                    metadata={
                        "author": "Mairead Fenn",
                        "title": "The Salt Road",
                        "words": 41,
                        "rights": {"territory": "world"},
                    },
                    tags={"list": "autumn", "status": "final"},
                    end="held",
                ),
                Key(
                    "autumn-list/the-salt-road/chapter-02.md",
                    (("ines", "# Chapter 2\n\nThe inn had one bed and eleven guests.\n", "as it came"),),
                    metadata={"author": "Mairead Fenn", "title": "The Salt Road", "words": 9},
                    tags={"list": "autumn", "status": "draft"},
                ),
                Key(
                    "autumn-list/the-salt-road/contract.txt",
                    (("harriet", "Between Marlow & Daughters and Mairead Fenn: world rights, ten years.\n", "signed"),),
                    type="text/plain",
                    metadata={"author": "Mairead Fenn", "kind": "contract", "years": 10},
                    tags={"list": "autumn", "confidential": "yes"},
                ),
                Key(
                    "autumn-list/harbour-songs/poems.md",
                    (("ines", "# Harbour Songs\n\nRope, rope, and the gull again.\n", ""),),
                    metadata={"author": "Tam O'Rourke", "title": "Harbour Songs", "language": "en"},
                    tags={"list": "autumn", "status": "draft"},
                ),
                Key(
                    "spring-list/old-blurb.md",
                    (
                        ("tobias", "A blurb that nobody wanted.\n", ""),
                        ("tobias", "A blurb that somebody wanted.\n", "again"),
                    ),
                    tags={"list": "spring"},
                    end="deleted",
                ),
            ),
            {"versioning": "enabled", "audit_reads": "data"},
        ),
        Bucket(
            "marlow-covers",
            (
                Key(
                    "the-salt-road/front.svg",
                    (("tobias", '<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="14"/></svg>\n', ""),),
                    type="image/svg+xml",
                    metadata={"artist": "J. Achterberg", "title": "The Salt Road"},
                ),
                Key(
                    "the-salt-road/preview.html",
                    (("tobias", "<!doctype html><title>The Salt Road</title><p>Cover, seen in the shop.\n", ""),),
                    type="text/html",
                ),
            ),
            {"versioning": "enabled", "noncurrent_days": 30, "keep_versions": 3},
        ),
    ),
    quota=(1024, 10_000, "warn"),
    hook=("Typesetter", "marlow-manuscripts"),
)

NORDLYS = Store(
    "nordlys-klinikk",
    (
        Bucket(
            "nordlys-letters",
            tuple(
                Key(
                    f"tromso/2025/{n:03}/letter.txt",
                    tuple(("jonas", _LETTER.format(day), "") for day in range(3, 4 + n % 3)),
                    type="text/plain",
                    metadata={"ward": "Tromsø", "specialty": ("surgery", "medicine", "paediatrics")[n % 3]},
                    tags={"ward": "tromso"},
                    end="deleted" if n == 7 else "",
                )
                for n in range(1, 13)
            ),
            {"versioning": "enabled", "audit_reads": "all", "default_retain_days": 30},
        ),
        Bucket("nordlys-recordings", (), {"versioning": "enabled", "expire_days": 90}),
    ),
    quota=(100 * 1024**2, None, "refuse"),
)

TAMARIND = Store(
    "tamarind-travel",
    (
        Bucket(
            "tamarind-trips",
            tuple(
                Key(
                    f"{office}/2025/trip-{n:04}.json",
                    (("dilini", _TRIP.format(2 + n % 3, 3 + n % 9, place, "booked"), ""),),
                    type="application/json",
                    metadata={"office": office, "destination": place, "nights": 3 + n % 9},
                    tags={"season": "winter"},
                )
                for office, places in (
                    ("colombo", ("Kandy", "Galle", "Jaffna")),
                    ("kochi", ("Munnar", "Alleppey", "Goa")),
                )
                for n, place in enumerate(places * 4)
            ),
        ),
        Bucket(
            "tamarind-fares",
            (Key("readme.txt", (("kabir", "One file an hour. Kept for a season.\n", ""),), type="text/plain"),),
            {"versioning": "suspended", "audit_reads": "none"},
        ),
    ),
)

STORES = (MARLOW, NORDLYS, TAMARIND)
FARES = 340
"""Files of fares that lie elsewhere: metadata alone, enough for a second page."""
