"""Things that happen at once: threads with a connection each, let go together."""

from __future__ import annotations

from threading import Barrier, Thread

from django.db import connection, transaction


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


def behind(first, then, other, last=lambda: None):
    """Do `first` in a transaction that ends, with `last`, only once `then`, on a connection of its own, waits for it.

    other: a connection in autocommit. Returns what `then` returned or raised.
    """
    outcome = []

    def run():
        try:
            outcome.append(then())
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = Thread(target=run)
    try:
        with transaction.atomic():
            first()
            thread.start()
            waits = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            while thread.is_alive() and not other.execute(waits).fetchone()[0]:
                pass
            last()
    finally:
        thread.join()
    return outcome[0]


def others_have_ended():
    """Wait until the transactions that other databases of the server have open now are over: jobs that go by transaction wait
    for them too, and a test would see what its neighbours do."""
    theirs = (
        "SELECT pid, backend_xid::text FROM pg_stat_activity "
        "WHERE datname <> current_database() AND backend_xid IS NOT NULL"
    )
    with connection.cursor() as cursor:
        cursor.execute(theirs)
        open_now = set(cursor.fetchall())
        while open_now:
            cursor.execute(f"{theirs} AND pg_sleep(0.01) IS NOT NULL")
            open_now &= set(cursor.fetchall())
