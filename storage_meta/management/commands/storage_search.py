from __future__ import annotations

import json as jsons
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from controlplane.core.commands import add_page_arguments, instant, shown, table
from storage_meta import commands

COLUMNS = ("bucket", "key", "size", "content_type", "last_modified", "rank")


class Command(commands.Command):
    help = (
        'Finds live objects by the words of their keys, content types and metadata: all words must hold, "a phrase" stands in '
        "quotes, -word excludes, a | b is either. Without words the newest, which the options narrow. A page at a time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("words", nargs="*", metavar="QUERY", help="words to look for; without any: all")
        parser.add_argument("--query", metavar="TEXT", help="the same as one text, for one that begins with -")
        commands.add_tenant(parser)
        commands.add_bucket(parser, required=False, help="a bucket of the tenant; without it: all")
        parser.add_argument("--prefix", metavar="PREFIX", help="keys that begin so")
        parser.add_argument("--part", metavar="TEXT", help="keys with this in them, where STORAGE_TRIGRAM is set")
        parser.add_argument("--metadata", type=_object, metavar="JSON", help="metadata holds at least this object")
        parser.add_argument(
            "--tag", type=_pair, action="append", metavar="NAME=VALUE", help="has this tag; may be repeated"
        )
        parser.add_argument("--type", metavar="TYPE", help="of this content type")
        parser.add_argument("--min-size", type=int, metavar="BYTES", help="at least so large")
        parser.add_argument("--max-size", type=int, metavar="BYTES", help="at most so large")
        parser.add_argument("--since", type=instant, metavar="TIME", help="changed at this time or later")
        parser.add_argument("--until", type=instant, metavar="TIME", help="changed before this time")
        parser.add_argument("--newest", action="store_true", help="newest first, not best first")
        parser.add_argument("--beginning", action="store_true", help="the last word is the beginning of one")
        add_page_arguments(parser, "TOKEN")

    def handle(self, *args: Any, tenant: str, bucket: str | None, words: list[str], **options: Any) -> None:
        page = self.files(tenant, bucket).search_objects(
            (" ".join(words) or None) if options["query"] is None else options["query"],
            prefix=options["prefix"],
            metadata=options["metadata"],
            tags=dict(options["tag"] or ()),
            content_type=options["type"],
            min_size=options["min_size"],
            max_size=options["max_size"],
            modified_after=options["since"],
            modified_before=options["until"],
            order="last_modified" if options["newest"] else "relevance",
            limit=options["limit"],
            continuation_token=options["after"],
            prefix_match=options["beginning"],
            part=options["part"],
        )
        rows, following = [_row(head) for head in page.objects], page.next_continuation_token
        if options["json"]:
            self.write_json({"rows": rows, "next": following, "query_cut": page.query_cut})
            return
        if rows:
            self.stdout.write(table(COLUMNS, [[_cell(row[name]) for name in COLUMNS] for row in rows]))
        else:
            self.say("There is none." if following is None else "This page is empty.")
        if page.query_cut:
            self.say("The query is too long: only its beginning counted.")
        if following is not None:
            self.say(f"There are more: go on with --after {following}")


def _row(head: Any) -> dict[str, Any]:
    return {
        "bucket": head.bucket.name,
        "key": head.object_key,
        "size": head.size,
        "content_type": head.content_type,
        "last_modified": head.last_modified,
        "etag": head.etag,
        "storage_class": head.storage_class,
        "metadata": head.metadata,
        "tags": head.tags,
        "rank": head.rank,
    }


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return commands.printable(value) or "-"
    return f"{value:.3f}" if isinstance(value, float) else shown(value)


def _object(text: str) -> dict[str, Any]:
    """An argument: a JSON object."""
    try:
        found = jsons.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ArgumentTypeError(f'{text!r:.60} is no JSON object: write it as {{"owner": "ann"}}')
    return found


def _pair(text: str) -> tuple[str, str]:
    """An argument: NAME=VALUE."""
    name, is_pair, value = text.partition("=")
    if not is_pair:
        raise ArgumentTypeError(f"{text!r:.60} is no tag: write it as NAME=VALUE")
    return name, value
