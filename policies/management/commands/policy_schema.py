from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from policies.schemas import SCHEMAS
from tenants import commands


class Command(commands.Command):
    help = (
        "Writes the JSON Schema of what the config of a policy may say, for editors and checks elsewhere. What a schema "
        "cannot say, as that an entry may appear once only, is checked when a policy is written."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "type", nargs="?", choices=[*SCHEMAS], help="of this type; without it an object of all, by type"
        )
        parser.add_argument("--json", action="store_true", help="as without it: a schema is JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        schemas = {name: schema.model_json_schema() for name, schema in SCHEMAS.items()}
        found = schemas[options["type"]] if options["type"] else schemas
        self.stdout.write(json.dumps(found, indent=2, ensure_ascii=False))
