"""Things that happen at once: threads with a connection each, let go together."""

from __future__ import annotations

from threading import Barrier, Thread

from django.db import connection


def together(*calls):
    """Run the calls at once, each on a connection of its own; returns what each returned or raised."""
    barrier, outcomes = Barrier(len(calls)), [None] * len(calls)

    def run(place, call):
        try:
            connection.ensure_connection()
            barrier.wait()
            outcomes[place] = call()
        except Exception as error:
            outcomes[place] = error
        finally:
            connection.close()

    threads = [Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
