from __future__ import annotations

import base64
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.db import connection

from auditing import anchors, merkle
from auditing.errors import AnchorFailed, InvalidAnchoring
from auditing.sealing import seal
from tests.factories import AuditLogFactory

pytestmark = pytest.mark.django_db(transaction=True)

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
SEED = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def anchored(settings, tmp_path):
    """Set AUDIT_ANCHORS; returns the path of a file among them."""

    def choose(*places, **keys):
        settings.CONTROLPLANE = {
            **settings.CONTROLPLANE, "AUDIT_SIGNING_KEY": SEED, "AUDIT_ANCHORS": places or (str(tmp_path / "anchors"),), **keys,
        }  # fmt: skip
        return tmp_path / "anchors"

    return choose


@contextmanager
def receiver(answers):
    """A server at 127.0.0.1 that answers with these codes in turn; gives its address and what was posted to it."""
    got, who = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            who.append(self.headers["Authorization"])
            got.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            wrong = (
                who[-1] != f"Basic {base64.b64encode(b'ada:hunter2').decode()}" or self.path != "/secret-path?token=x"
            )
            self.send_response(401 if wrong else answers.pop(0) if answers else 200)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://ada:hunter2@127.0.0.1:{server.server_port}/secret-path?token=x", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read(note):
    """Size and root of a note, whose signature is checked as C2SP says."""
    text, _, signature = note.partition("\n\n")
    origin, size, root = text.splitlines()
    dash, name, data = signature.strip().split(" ")
    public = Ed25519PrivateKey.from_private_bytes(base64.b64decode(SEED)).public_key()
    raw = base64.b64decode(data)
    assert (dash, name, origin) == ("—", "controlplane/audit", "controlplane/audit")
    assert raw[:4] == anchors.signer().id
    public.verify(raw[4:], (text + "\n").encode())
    return int(size), base64.b64decode(root)


def test_a_note_stays_what_it_is(anchored):
    anchored()

    note = anchors.signer().note(3, bytes(32))

    assert read(note) == (3, bytes(32))
    assert note == (
        "controlplane/audit\n3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— controlplane/audit "
        "hxgRLHot5kvpDlBEABhic/t9m6sTMCKBKWp6+WLK2k4bCQ23j6pcOfM1vntjN8uXVRT9CYd8K2qCQQMe8N4VqEkVWgs=\n"
    )
    assert anchors.signer().verifier == "controlplane/audit+8718112c+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"


def test_what_was_signed_cannot_be_altered(anchored):
    anchored()
    note = anchors.signer().note(3, bytes(32))

    with pytest.raises(InvalidSignature):
        read(note.replace("\n3\n", "\n4\n"))
    name, key_id, public = anchors.signer().verifier.split("+", 2)
    assert (name, key_id) == ("controlplane/audit", anchors.signer().id.hex())
    Ed25519PublicKey.from_public_bytes(base64.b64decode(public)[1:])


def test_an_anchor_is_the_root_over_all_checkpoints(anchored):
    path = anchored()
    assert anchors.anchor() == 0  # nothing was sealed
    AuditLogFactory()
    runs = [seal(AT, force=True) for _ in range(2)]

    assert anchors.anchor() == 1
    runs.append(seal(AT, force=True))
    assert anchors.anchor() == 1

    first, second = path.read_text().split("\n\ncontrolplane")
    assert read(first + "\n") == (2, merkle.root([run.checkpoint.hash for run in runs[:2]]))
    assert read("controlplane" + second) == (3, merkle.root([run.checkpoint.hash for run in runs]))


def test_the_same_anchor_is_not_written_twice(anchored):
    path = anchored()
    seal(AT, force=True)
    anchors.anchor()
    before = path.read_text()

    assert anchors.anchor() == 0
    assert path.read_text() == before


def test_a_place_that_fails_does_not_stop_the_others_and_gets_the_next_one(anchored, tmp_path):
    seal(AT, force=True)
    with receiver([500, 302]) as (address, got):
        path = anchored(str(tmp_path / "missing" / "anchors"), address, f"file://{tmp_path / 'anchors'}")

        with pytest.raises(AnchorFailed) as first:
            anchors.anchor()
        with pytest.raises(AnchorFailed) as second:
            anchors.anchor()
        (tmp_path / "missing").mkdir()
        assert anchors.anchor() == 2

    assert first.value.code == "anchor_failed"
    assert first.value.failed[1] == "http://127.0.0.1: answered 500"
    assert second.value.failed[1] == "http://127.0.0.1: answered 302"
    assert "No such file" in first.value.message
    assert "hunter2" not in str(first.value) + str(second.value)
    assert {read(note) for note in got} == {read(path.read_text())}
    assert path.read_text() == (tmp_path / "missing" / "anchors").read_text()


def test_an_address_gets_what_is_new_alone(anchored):
    seal(AT, force=True)
    with receiver([]) as (address, got):
        anchored(address)
        taken = [anchors.anchor(), anchors.anchor(), seal(AT, force=True) and anchors.anchor()]

    assert taken == [1, 0, 1]
    assert [read(note)[0] for note in got] == [1, 2]


def test_nobody_answering_is_told_in_a_sentence(anchored):
    seal(AT, force=True)
    with receiver([]) as (address, _):
        anchored(address)

    with pytest.raises(AnchorFailed, match=r"http://127\.0\.0\.1: .*refused"):
        anchors.duty(AT)


def test_no_transaction_is_open_while_an_anchor_is_sent(anchored):
    seal(AT, force=True)
    seen = []
    with receiver([]) as (address, got):
        anchored(address)
        connection.ensure_connection()
        anchors.anchor()
        seen.append(connection.connection.info.transaction_status.name)

    assert (seen, len(got)) == (["IDLE"], 1)


def test_a_note_that_was_cut_short_does_not_spoil_the_next(anchored):
    path = anchored()
    path.write_text("controlplane/audit\n7\nAAAA")
    seal(AT, force=True)

    anchors.anchor()

    assert read(path.read_text().partition("\n\n")[2])[0] == 1


def test_without_places_nothing_is_sent_and_no_key_is_needed(settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "AUDIT_ANCHORS": ()}
    seal(AT, force=True)

    assert anchors.anchor() == 0


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"AUDIT_SIGNING_KEY": ""}, "invalid_signing_key"),
        ({"AUDIT_SIGNING_KEY": "no base64!"}, "invalid_signing_key"),
        ({"AUDIT_SIGNING_KEY": base64.b64encode(b"short").decode()}, "invalid_signing_key"),
        ({"AUDIT_ORIGIN": "two words"}, "invalid_origin"),
        ({"AUDIT_ORIGIN": "a+b"}, "invalid_origin"),
        ({"AUDIT_ORIGIN": ""}, "invalid_origin"),
    ],
)
def test_settings_that_cannot_sign_are_refused(anchored, keys, code):
    anchored(**keys)
    seal(AT, force=True)

    with pytest.raises(InvalidAnchoring) as caught:
        anchors.anchor()

    assert caught.value.code == code
    assert "short" not in caught.value.message
