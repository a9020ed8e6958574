from __future__ import annotations

import json
from datetime import UTC, datetime
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_meta import sending, signing
from storage_meta.sending import Client
from tests.storage_meta.receiver import NAME, certificate, loopback, receiving, speaking


@pytest.fixture
def here(settings):
    """This machine may be told: its network, plain http and every port."""
    settings.CONTROLPLANE = {
        **settings.CONTROLPLANE,
        "STORAGE_HOOK_NETWORKS": ("127.0.0.0/8",),
        "STORAGE_HOOK_HTTP": True,
        "STORAGE_HOOK_PORTS": range(65536),
    }


@pytest.fixture
def receiver(here):
    with receiving() as opened:
        yield opened


def post(url, body=b"{}", headers=None, *, client=None):
    return (client or Client(loopback)).post(url, body, headers or {})


def test_a_post_arrives_as_it_was_given(receiver):
    answer = post(receiver.url(path="/a/b?c=d"), b'{"a": 1}', {"Content-Type": "application/json", "X-Other": "7"})

    assert (answer.status, answer.ok, answer.body, answer.error) == (200, True, "thanks", "")
    assert answer.seconds > 0
    [got] = receiver.got
    assert (got.path, got.body) == ("/a/b?c=d", b'{"a": 1}')
    assert got.headers == {
        "Host": f"{NAME}:{receiver.port}",
        "Content-Type": "application/json",
        "X-Other": "7",
        "Content-Length": "8",
        "Connection": "close",
    }


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_success(receiver, status):
    receiver.answer = lambda got: (status, {}, b"")

    assert post(receiver.url()).ok


@pytest.mark.parametrize("status", [400, 401, 404, 410, 429, 500, 503, 599])
def test_another_status_is_a_failure(receiver, status):
    receiver.answer = lambda got: (status, {}, b"why")

    answer = post(receiver.url())

    assert (answer.status, answer.ok, answer.error, answer.body) == (status, False, f"It answered {status}.", "why")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_nobody_follows_it(receiver, status):
    receiver.answer = lambda got: (status, {"Location": receiver.url(path="/there")}, b"")

    answer = post(receiver.url())

    assert not answer.ok
    assert "redirect" in answer.error
    assert len(receiver.got) == 1


def test_no_proxy_of_the_environment_is_used(receiver, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert post(receiver.url()).ok


def test_under_tls_the_name_is_asked_for_and_the_judged_address_is_called(here):
    server, client = certificate()
    asked = []
    server.sni_callback = lambda opened, name, context: asked.append(name)

    with receiving(server) as receiver:
        answer = post(receiver.url("https"), client=Client(loopback, client))

        assert answer.ok, answer.error
        assert asked == [NAME]
        assert receiver.got[0].headers["Host"] == f"{NAME}:{receiver.port}"


def test_a_certificate_of_another_name_or_of_nobody_we_trust_ends_it(here):
    server, client = certificate()

    with receiving(server) as receiver:
        other = post(receiver.url("https", host="other.example.org"), client=Client(loopback, client))
        unknown = post(receiver.url("https"), client=Client(loopback))

        assert "CERTIFICATE_VERIFY_FAILED" in other.error
        assert "CERTIFICATE_VERIFY_FAILED" in unknown.error
        assert (other.status, unknown.status) == (None, None)
        assert receiver.got == []


def test_a_certificate_may_be_of_an_address(here):
    server, client = certificate("127.0.0.1")

    with receiving(server) as receiver:
        assert post(receiver.url("https", host="127.0.0.1"), client=Client(loopback, client)).ok


def test_what_is_inside_is_not_called(receiver, settings):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, "STORAGE_HOOK_NETWORKS": ()}

    answer = post(receiver.url())

    assert (answer.status, answer.ok) == (None, False)
    assert "not on the public internet" in answer.error
    assert receiver.got == []


def test_a_name_that_changes_its_address_is_not_asked_again(receiver):
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    assert post(receiver.url(), client=Client(lambda host, port: next(answers))).ok
    assert next(answers) == ["10.0.0.1"]


def test_one_address_inside_ends_it_even_behind_a_good_one(receiver):
    answer = post(receiver.url(), client=Client(lambda host, port: ["127.0.0.1", "10.0.0.1"]))

    assert "not on the public internet" in answer.error
    assert receiver.got == []


def test_the_next_address_is_tried_where_one_does_not_answer(receiver):
    assert post(receiver.url(), client=Client(lambda host, port: ["127.0.0.2", "127.0.0.1"])).ok


def test_of_a_long_answer_the_beginning_is_kept(receiver):
    receiver.answer = lambda got: (200, {}, ("é" * 500_000).encode())

    answer = post(receiver.url())

    assert answer.ok
    assert answer.body == "é" * 2048


def test_an_answer_is_kept_as_text_that_can_be_stored(receiver):
    receiver.answer = lambda got: (500, {}, b"a\x00b\xff\xed\xa0\x80")

    body = post(receiver.url()).body

    assert "\x00" not in body
    assert body.startswith("a�b�")
    body.encode()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("  7 ", 7),
        ("99999999999999", 999_999_999),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Wed, 99 Oct 2015", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_both_forms(receiver, said, seconds):
    receiver.answer = lambda got: (503, {"Retry-After": said.encode().decode("latin-1")}, b"")

    assert post(receiver.url()).retry_after_s == seconds


@given(st.text(max_size=40))
def test_no_retry_after_raises(text):
    headers = sending.Message()
    headers["Retry-After"] = text.replace("\r", "").replace("\n", "")

    found = sending._retry_after(headers)

    assert found is None or found >= 0


def test_nobody_who_listens_is_a_failure(here):
    with speaking(lambda opened: None) as port:
        pass

    answer = post(f"http://{NAME}:{port}/")

    assert answer.status is None
    assert answer.error.startswith("There was no answer: ")


def test_an_unknown_name_is_a_failure(here):
    def nobody(host, port):
        raise OSError("Name or service not known")

    assert "not known" in post("https://hooks.example.org/", client=Client(nobody)).error


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\xff" * 100,
    ],
)
def test_what_is_no_http_is_a_failure(here, said):
    def talk(opened):
        opened.recv(65536)
        opened.sendall(said)

    with speaking(talk) as port:
        answer = post(f"http://{NAME}:{port}/")

    assert not answer.ok
    assert answer.status is None
    assert answer.error


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 1000\r\n\r\nhalf",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
        b"\r\nhalf",
        b"Content-Length: -3\r\n\r\nhalf",
        b"Content-Length: x\r\n\r\nhalf",
    ],
)
def test_a_status_counts_where_the_rest_breaks_off(here, rest):
    def talk(opened):
        opened.recv(65536)
        opened.sendall(b"HTTP/1.1 200 OK\r\n" + rest)

    with speaking(talk) as port:
        answer = post(f"http://{NAME}:{port}/")

    assert answer.ok, answer.error
    assert answer.body == "half"


def test_who_answers_byte_by_byte_has_no_more_time_than_others(here):
    over = Event()

    def talk(opened):
        opened.recv(65536)
        while not over.wait(0.01):
            opened.sendall(b"H")

    with speaking(talk) as port:
        answer = post(f"http://{NAME}:{port}/", client=Client(loopback, timeout_s=0.2))
    over.set()

    assert answer.status is None
    assert "within 0.2 s" in answer.error


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_who_never_answers_is_left(here, scheme):
    over = Event()

    with speaking(lambda opened: over.wait()) as port:
        answer = post(f"{scheme}://{NAME}:{port}/", client=Client(loopback, timeout_s=0.1))
    over.set()

    assert "within 0.1 s" in answer.error


def test_a_certificate_that_is_asked_of_a_plain_server_is_a_failure(receiver):
    assert "There was no answer" in post(receiver.url("https")).error


def test_headers_that_are_none_are_a_failure(receiver):
    assert not post(receiver.url(), headers={"X": "a\r\nY: b"}).ok
    assert receiver.got == []


def test_each_secret_signs(receiver):
    secrets = [signing.new_secret(), signing.new_secret()]
    headers = signing.headers("evt", datetime(2026, 1, 1, tzinfo=UTC), json.dumps({}), secrets)

    assert headers["webhook-id"] == "evt"
    assert headers["webhook-timestamp"] == "1767225600"
    assert len(set(headers["webhook-signature"].split())) == 2
