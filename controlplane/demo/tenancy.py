"""Who there is in the demo data: organisations, their apps, branches, people and keys. Declarations only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Branch:
    code: str
    name: str
    type: str
    city: str
    country: str


@dataclass(frozen=True, slots=True)
class Key:
    """expires: after the seeding. end: "" or what becomes of it: revoked, disabled, rotated."""

    name: str
    app: str
    user: str = ""
    branch: str = ""
    environment: str = "live"
    scopes: tuple[str, ...] = ("chat",)
    models: tuple[str, ...] | None = None
    expires: timedelta | None = timedelta(days=365)
    end: str = ""


@dataclass(frozen=True, slots=True)
class App:
    slug: str
    name: str
    type: str
    branches: tuple[Branch, ...] = ()
    suspended: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """access: app slug and role in it, by `app:role`."""

    username: str
    name: str
    role: str
    access: tuple[str, ...] = ()
    active: bool = True


@dataclass(frozen=True, slots=True)
class Organisation:
    slug: str
    name: str
    domain: str
    time_zone: str
    apps: tuple[App, ...]
    people: tuple[Person, ...]
    keys: tuple[Key, ...]


MARLOW = Organisation(
    slug="marlow-daughters",
    name="Marlow & Daughters, Publishers",
    domain="marlow.example",
    time_zone="Europe/London",
    apps=(
        App(
            "readers-desk",
            "Readers' Desk",
            "web",
            (
                Branch("BLOOMSBURY", "Bloomsbury bookshop", "store", "London", "GB"),
                Branch("LEITH", "Leith bookshop", "store", "Edinburgh", "GB"),
                Branch("POST", "Mail order", "department", "Bath", "GB"),
            ),
        ),
        App("manuscripts", "Manuscript Reader", "service"),
        App("back-catalogue", "Back Catalogue", "batch"),
    ),
    people=(
        Person("constance", "Constance Marlow", "owner"),
        Person("harriet", "Harriet Marlow", "admin", ("readers-desk:admin", "manuscripts:admin")),
        Person("tobias", "Tobias Fenn", "developer", ("readers-desk:developer", "back-catalogue:developer")),
        Person("ines", "Inês Carvalho", "developer", ("manuscripts:developer",)),
        Person("rupert", "Rupert Ashdown", "auditor"),
        Person("priscilla", "Priscilla Okoro", "billing"),
        Person("wilfred", "Wilfred Thorne", "viewer", ("readers-desk:viewer",)),
        Person("edgar", "Edgar Quill", "developer", ("back-catalogue:developer",), active=False),
    ),
    keys=(
        Key("Shop counters", "readers-desk", branch="BLOOMSBURY"),
        Key("Leith counter", "readers-desk", branch="LEITH", end="rotated"),
        Key("Website chat", "readers-desk", expires=timedelta(days=12)),
        Key("Editorial pipeline", "manuscripts", scopes=("chat", "batch")),
        Key("Inês, workbench", "manuscripts", user="ines", environment="test", expires=timedelta(days=60)),
        Key("Nightly blurbs", "back-catalogue", scopes=("chat", "embeddings"), expires=None),
        Key("Blurbs, first trial", "back-catalogue", user="edgar", end="revoked"),
    ),
)

NORDLYS = Organisation(
    slug="nordlys-klinikk",
    name="Nordlys Klinikk",
    domain="nordlys.example",
    time_zone="Europe/Oslo",
    apps=(
        App(
            "discharge-letters",
            "Discharge Letters",
            "web",
            (
                Branch("TROMSO", "Tromsø ward", "site", "Tromsø", "NO"),
                Branch("BODO", "Bodø ward", "site", "Bodø", "NO"),
            ),
        ),
        App(
            "night-line",
            "Night Line",
            "mobile",
            (Branch("NORTH", "Northern call centre", "region", "Alta", "NO"),),
        ),
        App("coding", "Diagnosis Coding", "batch"),
    ),
    people=(
        Person("sunniva", "Dr. Sunniva Lie", "owner", ("discharge-letters:admin",)),
        Person("aslak", "Áslak Eira", "owner"),
        Person("marit", "Marit Haugen", "admin", ("night-line:admin", "coding:admin")),
        Person("jonas", "Jonas Berg", "developer", ("discharge-letters:developer", "coding:developer")),
        Person("farah", "Farah Nasser", "developer", ("night-line:developer",)),
        Person("sigrid", "Sigrid Dahl", "auditor"),
        Person("odd", "Odd Nygård", "billing"),
        Person("kaja", "Kaja Strand", "viewer", ("night-line:viewer",)),
    ),
    keys=(
        Key("Tromsø ward", "discharge-letters", branch="TROMSO", models=("mistral/mistral-large-4",)),
        Key("Bodø ward", "discharge-letters", branch="BODO", models=("mistral/mistral-large-4",)),
        Key("Night Line app", "night-line", branch="NORTH", expires=timedelta(days=5)),
        Key("Night Line, old app", "night-line", end="revoked"),
        Key("Coding run", "coding", scopes=("chat", "batch", "embeddings"), end="rotated"),
        Key("Jonas, workbench", "coding", user="jonas", environment="test"),
    ),
)

TAMARIND = Organisation(
    slug="tamarind-travel",
    name="Tamarind Travel",
    domain="tamarind.example",
    time_zone="Asia/Kolkata",
    apps=(
        App(
            "trip-planner",
            "Trip Planner",
            "mobile",
            (
                Branch("KOCHI", "Kochi office", "headquarters", "Kochi", "IN"),
                Branch("COLOMBO", "Colombo office", "site", "Colombo", "LK"),
            ),
        ),
        App("concierge", "Concierge", "agent"),
        App("fare-watch", "Fare Watch", "service", suspended="the airline's contract is being renewed"),
    ),
    people=(
        Person("meera", "Meera Nambiar", "owner", ("trip-planner:admin", "concierge:admin")),
        Person("arjun", "Arjun Pillai", "admin", ("fare-watch:admin",)),
        Person("dilini", "Dilini Perera", "developer", ("trip-planner:developer",)),
        Person("kabir", "Kabir Shah", "developer", ("concierge:developer", "trip-planner:developer")),
        Person("leela", "Leela Thomas", "auditor"),
        Person("vikram", "Vikram Rao", "billing"),
        Person("anand", "Anand Iyer", "viewer", ("concierge:viewer",)),
    ),
    keys=(
        Key("Planner app", "trip-planner", expires=timedelta(days=90)),
        Key("Colombo desk", "trip-planner", branch="COLOMBO"),
        Key("Concierge agent", "concierge", scopes=("chat", "tools"), expires=timedelta(days=27)),
        Key("Kabir, workbench", "concierge", user="kabir", environment="test", expires=timedelta(days=3)),
        Key("Fare Watch", "fare-watch", end="disabled"),
    ),
)

ORGANISATIONS = (MARLOW, NORDLYS, TAMARIND)
