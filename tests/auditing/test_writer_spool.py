from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditing.writer.spool import Spool, SpoolFull, frame, read

ROWS = [b'e{"id": "1"}', b'r{"model": "gpt"}', b"e" + b"x" * 300, b'e{"id": "4"}']
WHOLE = b"".join(map(frame, ROWS))
ASCII = st.binary(min_size=1, max_size=300).map(lambda some: some.hex().encode())


@pytest.fixture
def make_spool(tmp_path):
    made = []

    def make(name="controlplane", **limits):
        made.append(Spool(tmp_path / "spool", name, **limits))
        return made[-1]

    yield make
    for each in made:
        each.release()


def files(tmp_path):
    return sorted((tmp_path / "spool").iterdir())


def test_frames_are_read_as_they_were_written():
    assert read(WHOLE) == (ROWS, 0)
    assert read(b"") == ([], 0)


@given(st.lists(ASCII, max_size=8), st.integers(0, 3000))
def test_a_file_cut_anywhere_gives_its_whole_frames_and_is_not_damaged(rows, cut):
    data = b"".join(map(frame, rows))[:cut]

    found, damaged = read(data)

    assert damaged == 0
    assert found == rows[: len(found)]
    assert len(b"".join(map(frame, found))) <= len(data)
    assert len(found) == len(rows) or len(data) < len(b"".join(map(frame, rows[: len(found) + 1])))


@given(st.lists(ASCII, min_size=2, max_size=8), st.data())
def test_a_changed_byte_costs_one_frame_and_is_noticed(rows, data):
    whole = bytearray(b"".join(map(frame, rows)))
    at = data.draw(st.integers(0, len(b"".join(map(frame, rows[:-1]))) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))

    found, damaged = read(bytes(whole))

    assert damaged == 1
    assert len(found) == len(rows) - 1
    assert [row for row in rows if row in found] == [row for row in rows if row in found]


def test_zeros_at_the_end_are_no_damage():
    assert read(WHOLE + b"\0" * 4096) == (ROWS, 0)


def test_a_file_of_something_else_is_damaged():
    assert read(b"hello, this is no spool at all" * 100) == ([], 1)
    assert read(b"\xff" * 1000) == ([], 1)


def test_rows_are_delivered_in_their_order_and_the_file_goes(make_spool, tmp_path):
    spool = make_spool()
    spool.append(ROWS[:2])
    spool.append(ROWS[2:])

    segment = spool.next()

    assert segment.payloads == ROWS
    assert (segment.rows, spool.look()[0]) == (4, len(WHOLE))
    spool.done(segment)
    assert (files(tmp_path), spool.next(), spool.waiting) == ([], None, False)


def test_the_folder_and_its_files_are_this_users_alone(make_spool, tmp_path):
    (tmp_path / "spool").mkdir(mode=0o755)
    make_spool().append(ROWS)

    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in files(tmp_path)] == [0o600]


def test_what_is_appended_during_a_delivery_comes_after_it(make_spool):
    spool = make_spool()
    spool.append(ROWS[:1])
    first = spool.next()
    spool.append(ROWS[1:])
    spool.done(first)

    assert spool.next().payloads == ROWS[1:]


def test_a_long_spool_has_many_files(make_spool, tmp_path):
    spool = make_spool(segment=100)
    for row in ROWS * 3:
        spool.append([row])

    assert len(files(tmp_path)) > 2
    found = []
    while segment := spool.next():
        found += segment.payloads
        spool.done(segment)
    assert found == ROWS * 3


def test_a_full_spool_refuses_all_or_nothing_and_has_room_again(make_spool):
    spool = make_spool(cap=len(WHOLE) + 10)
    spool.append(ROWS)

    with pytest.raises(SpoolFull, match="may have"):
        spool.append(ROWS[:1])
    assert spool.next().payloads == ROWS
    spool.done(spool.next())
    spool.append(ROWS)


def test_the_files_of_other_processes_count_towards_the_cap(make_spool):
    make_spool().append(ROWS)

    with pytest.raises(SpoolFull):
        make_spool(cap=len(WHOLE) + 10).append(ROWS)


def test_without_a_folder_there_is_no_spool():
    with pytest.raises(SpoolFull, match="STATE_DIR"):
        Spool(None, "controlplane").append(ROWS)


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SpoolFull, match="cannot be written"):
        Spool(tmp_path / "file", "controlplane").append(ROWS)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_keeps_what_was_there(make_spool):
    spool = make_spool()
    spool.append(ROWS)
    [segment] = spool._mine()
    kept, segment.file = segment.file, os.open("/dev/full", os.O_RDWR)

    with pytest.raises(SpoolFull, match="cannot be written"):
        spool.append(ROWS[:1])
    os.close(segment.file)
    segment.file = kept

    assert spool.next().payloads == ROWS


def test_a_living_process_keeps_its_files_and_an_ended_one_leaves_them(make_spool, tmp_path):
    mine, other = make_spool(), make_spool()
    mine.append(ROWS)

    assert other.adopt() == 0
    mine.release()
    assert other.adopt() == 4
    assert other.adopt() == 0
    assert other.next().payloads == ROWS
    other.done(other.next())
    assert files(tmp_path) == []


def test_a_killed_process_leaves_its_files_with_a_torn_frame(make_spool, tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from auditing.writer.spool import Spool, frame\n"
        "spool = Spool(Path(sys.argv[1]), 'controlplane')\n"
        "spool.append([b'e1', b'e2'])\n"
        "os.write(spool._active.file, b'')\n"
        "os.pwrite(spool._active.file, frame(b'e3')[:-1], spool._active.size)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "spool")], check=False)
    spool = make_spool()

    assert spool.adopt() == 2
    assert (spool.next().payloads, spool.next().damaged) == ([b"e1", b"e2"], 0)


def test_a_file_of_another_database_is_left(make_spool):
    made = [make_spool("production"), make_spool("production-2"), make_spool("test_production/1")]
    for spool in made:
        spool.append(ROWS)
        spool.release()

    assert [make_spool(name).adopt() for name in ("production", "production-2", "test_production/1")] == [4, 4, 4]


def test_a_damaged_file_is_delivered_but_for_the_damage_and_kept_aside(make_spool, tmp_path, caplog):
    spool = make_spool()
    spool.append(ROWS)
    spool.release()
    [file] = files(tmp_path)
    whole = bytearray(file.read_bytes())
    whole[len(frame(ROWS[0])) + 10] ^= 1
    file.write_bytes(whole)

    assert spool.adopt() == 3
    segment = spool.next()
    assert segment.payloads == [ROWS[0], *ROWS[2:]]
    spool.done(segment)

    [aside] = files(tmp_path)
    assert (aside.suffix, aside.read_bytes()) == (".damaged", bytes(whole))
    assert spool.look()[2] == 1
    assert "kept as" in caplog.text
