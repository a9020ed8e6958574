from __future__ import annotations

import os
import time
from threading import Event
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction

from controlplane.core.caches import MISSING, Invalidation, RecordCache, listener
from controlplane.core.conf import conf

ONE, TWO = UUID(int=1), UUID(int=2)


def execute(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.fetchall() if cursor.description else None


def log():
    """What this transaction has written into the log since it was last read here."""
    mine = "WHERE xid = pg_current_xact_id() RETURNING kind, ref, value"
    return sorted(
        execute(f"DELETE FROM cp_core_invalidation {mine}"),
        key=lambda row: (row[0], str(row[1]), row[2] or 0),
    )


def make_table():
    execute("CREATE TABLE cp_watched (id uuid PRIMARY KEY, owner uuid, name text, rest text, epoch bigint)")


@pytest.fixture
def watched(db):
    """A table that is watched with all its events, and has two rows; gone with the test's transaction."""
    make_table()
    execute("SELECT cp_cache_watch('cp_watched', 'policy', 'owner', '{name,owner}', value_column => 'epoch')")
    execute("INSERT INTO cp_watched VALUES (%s, %s, 'a', '', 1), (%s, %s, 'b', '', 2)", ONE, ONE, TWO, TWO)
    assert log() == [("policy", ONE, 1), ("policy", TWO, 2)]


def test_a_change_of_a_watched_column_is_in_the_log(watched):
    execute("UPDATE cp_watched SET name = name || 'x' WHERE id = %s", ONE)
    execute("UPDATE cp_watched SET name = NULL WHERE id = %s", TWO)

    assert log() == [("policy", ONE, 1), ("policy", TWO, 2)]


def test_a_change_of_another_column_or_of_nothing_writes_nothing(watched):
    execute("UPDATE cp_watched SET rest = 'changed', name = name")
    execute("UPDATE cp_watched SET name = 'x' WHERE false")

    assert log() == []


def test_a_row_that_changes_its_owner_concerns_both(watched):
    execute("UPDATE cp_watched SET owner = %s WHERE id = %s", TWO, ONE)

    assert {(kind, ref) for kind, ref, _ in log()} == {("policy", ONE), ("policy", TWO)}


def test_a_row_that_changes_its_id_is_a_change(watched):
    execute("UPDATE cp_watched SET id = %s WHERE id = %s", uuid4(), ONE)

    assert log() == [("policy", ONE, 1)]


def test_a_row_without_an_owner_concerns_its_kind(watched):
    execute("INSERT INTO cp_watched (id) VALUES (%s)", uuid4())

    assert log() == [("policy", None, None)]


def test_a_deletion_is_in_the_log(watched):
    execute("DELETE FROM cp_watched WHERE id = %s", ONE)

    assert log() == [("policy", ONE, 1)]


@pytest.mark.parametrize(("rows", "kinds"), [(1000, ["policy"] * 1000), (1001, ["all"])])
def test_more_than_a_thousand_changes_of_a_statement_are_one_row_for_all(watched, rows, kinds):
    execute(
        "INSERT INTO cp_watched (id, owner) SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series(1, %s)",
        rows,
    )

    assert [kind for kind, _, _ in log()] == kinds


def test_a_truncate_is_one_row_for_all_and_survives_the_truncate_of_the_log(watched):
    execute("TRUNCATE cp_watched, cp_core_invalidation")

    assert log() == [("all", None, None)]


def test_only_the_events_that_were_asked_for_are_noted(db):
    make_table()
    execute("SELECT cp_cache_watch('cp_watched', 'app', 'id', '{name}', events => '{update,delete}')")

    execute("INSERT INTO cp_watched (id) VALUES (%s)", ONE)
    assert log() == []
    execute("UPDATE cp_watched SET name = 'x'")
    execute("DELETE FROM cp_watched")

    assert log() == [("app", ONE, None)] * 2


def test_a_replica_role_does_not_switch_it_off(watched, can_replicate):
    with can_replicate() as cursor:
        cursor.execute("UPDATE cp_watched SET name = 'x' WHERE id = %s", [ONE])

    assert log() == [("policy", ONE, 1)]


def test_who_may_not_write_the_log_leaves_his_change_in_it(watched):
    execute("GRANT SELECT, UPDATE ON cp_watched TO cp_tenant")
    with transaction.atomic():
        execute("SET LOCAL ROLE cp_tenant")
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            execute("INSERT INTO cp_core_invalidation (kind) VALUES ('all')")
        execute("UPDATE cp_watched SET name = 'x' WHERE id = %s", ONE)
        execute("RESET ROLE")

    assert log() == [("policy", ONE, 1)]


def test_a_login_that_only_reads_may_follow_the_log(watched):
    rights = "SELECT bool_and(has_column_privilege('cp_reader', 'cp_core_invalidation', c, 'SELECT')), "
    others = "bool_or(has_table_privilege('cp_reader', 'cp_core_invalidation', 'INSERT, UPDATE, DELETE, TRUNCATE')) "

    assert execute(rights + others + "FROM unnest(ARRAY['xid', 'id', 'kind', 'ref']) c") == [(True, False)]


def test_nothing_is_noted_any_more_once_a_table_is_unwatched(watched):
    execute("SELECT cp_cache_unwatch('cp_watched')")
    execute("UPDATE cp_watched SET name = 'x'")
    execute("TRUNCATE cp_watched")

    assert log() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("'id', '{nmae}'", "no such column: {nmae}"),
        ("'owned', '{name}'", "no such column: {owned}"),
        ("'name', '{name}'", "name is no uuid"),
        ("'id', '{name}', value_column => 'number'", "no such column: {number}"),
        ("'id', '{name}', events => '{upsert}'", "events"),
        ("'id', '{name}', events => '{}'", "events"),
        ("'id', '{}'", "columns"),
    ],
)
def test_what_cannot_be_watched_is_refused(db, arguments, said):
    make_table()

    with pytest.raises(DatabaseError, match=said.replace("{", r"\{").replace("}", r"\}")):
        execute(f"SELECT cp_cache_watch('cp_watched', 'x', {arguments})")


@pytest.fixture
def own():
    """An invalidation of the test's own, beside the project's."""
    found = Invalidation()
    yield found
    found.stop()


@pytest.fixture
def committed(transactional_db, own):
    """A watched table whose rows are committed, and a cache of their names."""
    make_table()
    execute("SELECT cp_cache_watch('cp_watched', 'app', 'id', '{name}')")
    execute("INSERT INTO cp_watched (id, name) VALUES (%s, 'one'), (%s, 'two')", ONE, TWO)
    yield RecordCache(
        "names",
        size=10,
        ttl=100,
        loader=lambda key, ask: next(iter(ask("SELECT name, id FROM cp_watched WHERE id = %s", [key])), None),
        kinds={"app"},
        refs=lambda record: [("app", record[1])],
        invalidation=own,
    )
    own.stop()
    execute("DROP TABLE cp_watched")


def until(condition):
    pause = Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it never came about")


def quiet(own, monkeypatch):
    """No thread: the test looks by itself."""
    monkeypatch.setattr(own, "start", lambda: None)


def name_of(cache, key=ONE):
    record = cache.get(key)
    return record and record[0]


def test_a_change_by_anybody_is_noticed_by_a_look_and_no_earlier(committed, own, other_connection, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    assert (name_of(committed), name_of(committed, TWO)) == ("one", "two")

    other_connection.execute("UPDATE cp_watched SET name = 'new' WHERE id = %s", [ONE])
    assert name_of(committed) == "one"
    own.poll()

    assert committed.cached(TWO) == ("two", TWO)
    assert name_of(committed) == "new"


def test_the_thread_notices_by_itself(committed, own, other_connection):
    name_of(committed)
    until(lambda: name_of(committed) and committed.cached(ONE) is not MISSING)

    other_connection.execute("UPDATE cp_watched SET name = 'new' WHERE id = %s", [ONE])

    until(lambda: name_of(committed) == "new")


def test_the_thread_notices_without_notifications(committed, own, other_connection, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "CACHE_LISTEN": False}
    until(lambda: name_of(committed) and committed.cached(ONE) is not MISSING)

    other_connection.execute("UPDATE cp_watched SET name = 'new' WHERE id = %s", [ONE])

    until(lambda: name_of(committed) == "new")


def test_a_transaction_that_began_early_and_ends_late_is_noticed(committed, own, other_connection, monkeypatch):
    """Its row has a lower id than one that was seen: a cursor over ids would pass it by."""
    quiet(own, monkeypatch)
    own.poll()
    other_connection.execute("BEGIN")
    other_connection.execute("UPDATE cp_watched SET name = 'late' WHERE id = %s", [ONE])
    execute("UPDATE cp_watched SET name = 'early' WHERE id = %s", TWO)
    own.poll()
    own.poll()
    assert (name_of(committed), name_of(committed, TWO)) == ("one", "early")

    other_connection.execute("COMMIT")
    own.poll()

    assert name_of(committed) == "late"


def test_rows_that_a_long_transaction_holds_back_are_applied_once(committed, own, other_connection, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    other_connection.execute("BEGIN")
    other_connection.execute("SELECT pg_current_xact_id()")
    execute("UPDATE cp_watched SET name = 'new' WHERE id = %s", ONE)
    own.poll()
    name_of(committed)

    own.poll()

    assert committed.cached(ONE) == ("new", ONE)
    other_connection.execute("ROLLBACK")


def test_a_look_begins_the_lease_and_without_one_the_database_is_asked(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    name_of(committed)
    assert committed.stats()["size"] == 0

    before = own.clock()
    own.poll()
    name_of(committed)

    assert before + conf.CACHE_LEASE <= own.fresh_until <= own.clock() + conf.CACHE_LEASE
    assert committed.stats()["size"] == 1


def test_the_lease_counts_from_before_the_look(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    seconds = iter(range(1000))
    monkeypatch.setattr(own, "clock", lambda: float(next(seconds)))

    own.poll()

    assert own.fresh_until == 0 + conf.CACHE_LEASE


def test_the_clock_of_the_lease_goes_on_while_the_machine_sleeps():
    assert listener.boottime.args == (getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC),)


def test_a_standby_is_not_followed(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    monkeypatch.setattr(listener, "_READ", listener._READ.replace("pg_is_in_recovery()", "true"))

    with pytest.raises(psycopg.OperationalError, match="standby"):
        own.poll()

    assert own.fresh_until == 0


def test_a_transaction_that_stays_open_is_told_of_once(committed, own, other_connection, monkeypatch, caplog):
    quiet(own, monkeypatch)
    other_connection.execute("BEGIN")
    other_connection.execute("SELECT pg_current_xact_id()")
    execute("SELECT pg_current_xact_id()")  # something ends after it, so it is not the newest
    began = own.clock()
    for minute in (0, 0, 4, 6, 7):
        monkeypatch.setattr(own, "clock", lambda minute=minute: began + 60 * minute)
        own.poll()
    other_connection.execute("ROLLBACK")

    assert [record.getMessage()[:33] for record in caplog.records] == ["a transaction has been open for 5"]


def test_a_database_that_is_away_is_told_of_once_and_when_it_is_back(committed, own, monkeypatch, caplog):
    caplog.set_level("INFO")
    answers = iter([psycopg.OperationalError("away"), psycopg.OperationalError("away"), None, None])

    def poll():
        if error := next(answers):
            raise error

    monkeypatch.setattr(own, "poll", poll)
    failures = 0
    for _ in range(4):
        failures = 0 if own._followed(failures) else failures + 1

    assert [record.getMessage() for record in caplog.records] == [
        "caches cannot follow the database: after 5 s they ask it each time. away", "caches follow the database again",
    ]  # fmt: skip


def test_a_connection_that_was_lost_is_replaced_and_everything_forgotten(committed, own, other_connection, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    name_of(committed)
    other_connection.execute("SELECT pg_terminate_backend(%s, 5000)", [own._connection.info.backend_pid])

    with pytest.raises(psycopg.OperationalError):
        own.poll()
    other_connection.execute("UPDATE cp_watched SET name = 'meanwhile' WHERE id = %s", [ONE])
    own.poll()

    assert committed.cached(ONE) is MISSING
    assert name_of(committed) == "meanwhile"


def test_who_has_not_looked_for_longer_than_the_log_is_kept_forgets_everything(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    name_of(committed)
    execute("UPDATE cp_watched SET name = 'new' WHERE id = %s", ONE)
    execute("DELETE FROM cp_core_invalidation")

    now = own.clock()
    own.clock = lambda: now + 901
    own.poll()

    assert name_of(committed) == "new"


def test_a_failed_look_does_not_prolong_the_lease(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    ends = own.fresh_until
    execute("ALTER TABLE cp_core_invalidation RENAME TO cp_core_hidden")

    try:
        with pytest.raises(psycopg.errors.UndefinedTable):
            own.poll()
    finally:
        execute("ALTER TABLE cp_core_hidden RENAME TO cp_core_invalidation")

    assert own.fresh_until == ends


def test_the_process_that_writes_forgets_at_once_and_again_at_its_commit(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    name_of(committed)

    with transaction.atomic():
        execute("UPDATE cp_watched SET name = 'new' WHERE id = %s", ONE)
        own.changed("app", ONE)
        assert committed.cached(ONE) is MISSING
        assert name_of(committed) == "one"  # what is committed; and it is kept
        assert committed.cached(ONE)

    assert name_of(committed) == "new"


def test_a_transaction_is_told_what_it_wrote_itself_and_has_not_taken_back(committed, own):
    assert not own.changed_here("app")

    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            own.changed("app", ONE)
            assert own.changed_here("app")
            raise ZeroDivisionError
        assert not own.changed_here("app")

        with transaction.atomic():
            own.changed("app", ONE)
        assert own.changed_here("app")
        assert not own.changed_here("key")

    assert not own.changed_here("app")


def test_in_a_transaction_the_cache_keeps_what_is_committed_only(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    mine = uuid4()

    with transaction.atomic():
        execute("INSERT INTO cp_watched (id, name) VALUES (%s, 'mine')", mine)
        assert name_of(committed, mine) == "mine"
        assert name_of(committed) == "one"
        transaction.set_rollback(True)

    assert committed.cached(ONE) == ("one", ONE)
    assert name_of(committed, mine) is None


def test_what_a_transaction_found_unknown_and_then_made_is_known_to_it(committed, own, monkeypatch):
    quiet(own, monkeypatch)
    own.poll()
    mine = uuid4()

    with transaction.atomic():
        assert name_of(committed, mine) is None
        execute("INSERT INTO cp_watched (id, name) VALUES (%s, 'mine')", mine)
        assert name_of(committed, mine) == "mine"


def sessions(pids):
    return execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s)", pids)[0][0]


def test_stopping_ends_the_thread_and_closes_its_connections(committed, own):
    with transaction.atomic():
        name_of(committed)
    until(lambda: own.fresh_until)
    pids = [own._connection.info.backend_pid, own._own._opened.info.backend_pid]
    assert sessions(pids) == 2

    thread = own._thread
    own.stop()

    assert not thread.is_alive()
    until(lambda: sessions(pids) == 0)


def test_a_thread_that_died_is_started_again_by_the_next_miss(committed, own):
    own.start()
    first = own._thread
    own._stopping.close()
    first.join()

    name_of(committed)

    assert own._thread is not first
    assert own._thread.is_alive()


def test_a_fork_forgets_everything_and_leaves_its_parents_connections_alone(committed, own):
    own.start()
    until(lambda: name_of(committed) and committed.cached(ONE) is not MISSING)
    with transaction.atomic():
        name_of(committed, TWO)
    pids = [own._connection.info.backend_pid, own._own._opened.info.backend_pid]

    pid = os.fork()
    if pid == 0:  # the child: only what its exit code says comes out
        own.begin()
        clean = (
            committed.cached(ONE) is MISSING and own.fresh_until == 0 and own._thread is None
            and not any(committed.stats()[name] for name in ("hits", "misses", "size")) and not own._starting.locked()
        )  # fmt: skip
        os._exit(0 if clean else 1)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert sessions(pids) == 2
    assert committed.cached(ONE) == ("one", ONE)
