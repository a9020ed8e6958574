from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from catalog.errors import ImportRefused
from catalog.importing import parse, read, reading
from tests.catalog.importing.files import chat, dump


def refused(match):
    return pytest.raises(ImportRefused, match=match)


@contextmanager
def serving(answer):
    """The address of a server on the loopback whose every GET is answered by `answer(handler)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def says(status, body=b"", **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_a_number_stays_the_text_it_was_written_as():
    text = '{"m": {"litellm_provider": "openai", "input_cost_per_token": 4.2000000000000006e-08, "max_tokens": 8192}}'

    [model] = parse(text.encode(), "p.json").entries.values()

    assert model.rates == {"input_cost_per_token": "4.2000000000000006e-08"}
    assert model.columns["max_tokens"] == 8192


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{\n  "a": {"litellm_provider": "openai"},\n  "b": {"litellm_prov', "line 3, column 9: Unterminated string"),
        ('{\n  "a": {"litellm_provider": "openai"', "line 2, column 37: Expecting ',' delimiter"),
        ('{\n  "a": {"litellm_provider": "openai"},', "line 2, column 39: Expecting property name"),
        ('{\n  "a"', "line 2, column 6: Expecting ':'"),
        ('{"a": {}, }', "line 1, column 11: Expecting property name"),
        ('{"a": {}}\n}', "line 2, column 1: Extra data"),
        ('{"a": {"b": 01}}', "line 1, column 14"),
        ('{"a": tru}', "line 1, column 7: Expecting value"),
        ("[]", "line 1, column 1: Expecting an object"),
        ("", "line 1, column 1: Expecting an object"),
        ("<html>", "line 1, column 1: Expecting an object"),
    ],
)
def test_what_is_no_json_object_is_refused_with_line_and_column(text, where):
    with refused(where) as caught:
        parse(text.encode(), "p.json")

    assert caught.value.code == "import_unreadable"


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_file_that_was_cut_off_anywhere_is_refused_with_its_place(cut):
    whole = dump({f"m{n}": chat() for n in range(3)})

    with refused(r"p\.json is no JSON: line \d+, column \d+"):
        parse(whole[:cut], "p.json")


def test_bytes_that_are_no_text_are_refused_with_their_line():
    with refused("line 2 has the byte 0xff"):
        parse(b'{"a":\n"\xff"}', "p.json")


def test_a_byte_order_mark_and_windows_ends_do_no_harm():
    text = json.dumps({"m": chat()}, indent=1).replace("\n", "\r\n")

    assert set(parse(b"\xef\xbb\xbf" + text.encode(), "p.json").entries) == {"m"}


def test_a_file_of_more_than_64_mib_is_refused():
    with refused("larger than 64 MiB"):
        parse(b" " * (reading.MAX_BYTES + 1), "p.json")


def test_a_file_that_is_nested_too_deeply_is_refused():
    with refused("nested too deeply"):
        parse(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "p.json")


def test_a_file_without_a_model_is_refused():
    with refused("no model") as caught:
        parse(b'{"sample_spec": {}}', "p.json")

    assert caught.value.code == "import_invalid"


def test_what_is_no_model_is_kept_apart():
    parsed = parse(
        dump({"sample_spec": {"mode": "one of"}, "fallback_generalizations": {"rules": [1]}, "m": chat()}), "p.json"
    )

    assert set(parsed.entries) == {"m"}
    assert parsed.meta == {"sample_spec": {"mode": "one of"}, "fallback_generalizations": {"rules": [1]}}


def test_a_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "prices.json"
    path.write_bytes(dump({"m": chat()}))

    parsed = read(path)

    assert (parsed.name, parsed.bytes, set(parsed.entries)) == ("prices.json", path.stat().st_size, {"m"})


def test_a_path_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path, "a\x00b"):
        with refused("cannot be read") as caught:
            read(path)
        assert caught.value.code == "import_unreadable"


def test_a_file_is_fetched_over_http():
    with serving(says(200, dump({"m": chat()}))) as address:
        parsed = read(f"{address}/dir/prices.json?ref=main")

    assert (parsed.name, set(parsed.entries)) == ("prices.json", {"m"})


@pytest.mark.parametrize(
    "answer",
    [
        says(404),
        says(500),
        says(302, Location="file:///etc/hostname"),
        says(302, Location="ftp://127.0.0.1/x"),
        says(200, b"{", **{"Content-Length": "500"}),
    ],
)
def test_an_answer_that_is_no_file_is_refused_and_no_other_scheme_is_followed(answer):
    with serving(answer) as address, refused("cannot be read|is no JSON") as caught:
        read(f"{address}/prices.json")

    assert caught.value.code == "import_unreadable"


def test_an_address_where_nobody_answers_is_refused():
    with refused("cannot be read"):
        read("http://127.0.0.1:1/prices.json")
