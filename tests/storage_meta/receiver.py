"""Where hooks of tests are sent: a real server on this machine, plain or with TLS, that answers as it is told."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from tempfile import TemporaryDirectory
from threading import Event, Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "hooks.example.org"


@dataclass
class Got:
    path: str
    headers: dict
    body: bytes


@dataclass
class Receiver:
    """got: the requests so far. answer: called with each, gives (status, headers, body). open: cleared, it keeps all waiting."""

    port: int = 0
    got: list = field(default_factory=list)
    open: Event = field(default_factory=Event)

    def answer(self, got):
        return 200, {}, b"thanks"

    def url(self, scheme="http", host=NAME, path="/hook"):
        return f"{scheme}://{host}:{self.port}{path}"


def loopback(host, port):
    """A resolver: every name is this machine."""
    return ["127.0.0.1"]


@contextmanager
def receiving(context=None):
    receiver = Receiver()
    receiver.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got = Got(self.path, dict(self.headers), body)
            receiver.got.append(got)
            receiver.open.wait()
            status, headers, text = receiver.answer(got)
            with suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128  # with the usual 5, who comes with many others waits for a second and more

        def get_request(self):
            opened, address = super().get_request()
            if context is None:
                return opened, address
            return context.wrap_socket(opened, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, request, client_address):
            pass  # who hangs up is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def speaking(talk):
    """A server that speaks no HTTP of its own: talk is called with each connection. Yields its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def accept():
        with suppress(OSError):
            while True:
                opened, _ = listening.accept()
                Thread(target=run, args=[opened], daemon=True).start()

    def run(opened):
        with opened, suppress(OSError):
            talk(opened)
            opened.shutdown(socket.SHUT_WR)
            while opened.recv(65536):  # closed before all was read, it would take the answer back
                pass

    Thread(target=accept, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()


@cache
def certificate(name=NAME):
    """A server's TLS context for a name or address, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver of a test")])
    day = timedelta(days=1)
    try:
        known = x509.IPAddress(ip_address(name))
    except ValueError:
        known = x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - day)
        .not_valid_after(datetime.now(UTC) + day)
        .add_extension(x509.SubjectAlternativeName([known]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        file = f"{folder}/both.pem"
        with open(file, "wb") as opened:
            opened.write(pem + private)
        server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client
