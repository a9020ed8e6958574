from __future__ import annotations

from typing import Any

from storage_meta import commands, parts

DONE = {
    True: "Made the index: storage_search --part finds any part of a key.",
    False: "Removed the index, as STORAGE_TRIGRAM is not set.",
    None: "The index is as STORAGE_TRIGRAM says.",
}


class Command(commands.Command):
    help = (
        "Makes the index of parts of keys where STORAGE_TRIGRAM is set, removes it where not. Writes go on meanwhile."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(DONE[parts.keep_index()])
