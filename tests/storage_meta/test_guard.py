from __future__ import annotations

from ipaddress import ip_address
from threading import Event

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from storage_meta import guard
from storage_meta.errors import InvalidArgument

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "192.0.1.1",
    "223.255.255.254",
    "2606:4700::6810:85e5",
    "2a00:1450:4001::1",
]

INSIDE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",  # noqa: S104
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "ff0e::1", "fec0::1", "100::1",
    "2001::1", "2001:10::1", "2001:db8::1", "3fff::1", "5f00::1", "64:ff9b:1::1.1.1.1", "4000::1", "e000::1",
]  # fmt: skip


def wrapped(ipv4):
    """Every IPv6 address that ends at an IPv4 address."""
    number = int(ip_address(ipv4))
    return [
        f"::ffff:{ipv4}",
        f"64:ff9b::{ipv4}",
        f"::{ipv4}",
        f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1",
    ]


def opened(settings, **keys):
    settings.CONTROLPLANE = {**settings.CONTROLPLANE, **keys}


@pytest.mark.parametrize("text", PUBLIC)
def test_addresses_of_the_public_internet_are_allowed(text):
    assert guard.is_allowed(ip_address(text))


@pytest.mark.parametrize("text", INSIDE)
def test_addresses_inside_are_not(text):
    assert not guard.is_allowed(ip_address(text))


@pytest.mark.parametrize("inside", [text for text in INSIDE if ":" not in text])
def test_nor_are_they_when_they_are_wrapped_in_ipv6(inside):
    assert [text for text in wrapped(inside) if guard.is_allowed(ip_address(text))] == []


@pytest.mark.parametrize("public", [text for text in PUBLIC if ":" not in text])
def test_what_wraps_a_public_address_is_judged_by_it(public):
    assert all(guard.is_allowed(ip_address(text)) for text in wrapped(public))


@given(st.ip_addresses(v=4))
def test_no_wrapping_is_judged_otherwise_than_the_address_within(address):
    assert {guard.is_public(ip_address(text)) for text in wrapped(str(address))} == {guard.is_public(address)}


@given(st.ip_addresses())
def test_nothing_is_public_that_python_calls_private(address):
    assert not (guard.is_public(address) and guard.embedded(address) is None and not address.is_global)


def test_the_operators_networks_are_allowed_in_every_wrapping(settings):
    opened(settings, STORAGE_HOOK_NETWORKS=("10.1.0.0/16", "fd00:7::/32"))

    assert all(guard.is_allowed(ip_address(text)) for text in ["10.1.2.3", *wrapped("10.1.2.3"), "fd00:7::1"])
    assert not any(guard.is_allowed(ip_address(text)) for text in ["10.2.0.1", *wrapped("10.2.0.1"), "fd00:8::1"])


def test_a_network_that_is_none_is_said_to_the_operator(settings):
    opened(settings, STORAGE_HOOK_NETWORKS=("10.1.0.1/16",))

    with pytest.raises(ImproperlyConfigured, match="STORAGE_HOOK_NETWORKS"):
        guard.is_allowed(ip_address("10.1.2.3"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"STORAGE_HOOK_NETWORKS": ("10.1.0.1/16",)}, "STORAGE_HOOK_NETWORKS"),
        ({"STORAGE_HOOK_NETWORKS": ("here",)}, "STORAGE_HOOK_NETWORKS"),
        ({"STORAGE_HOOK_PORTS": ("443",)}, "STORAGE_HOOK_PORTS"),
        ({"STORAGE_HOOK_PORTS": "443"}, "STORAGE_HOOK_PORTS"),
        ({"STORAGE_HOOK_PORTS": (0,)}, "STORAGE_HOOK_PORTS"),
        ({"STORAGE_HOOK_NETWORKS": "10.1.0.0/16"}, None),
        ({"STORAGE_HOOK_PORTS": (80, 443), "STORAGE_HOOK_HTTP": True}, None),
        ({}, None),
    ],
)
def test_what_the_operator_opens_is_checked_before_anything_is_sent(settings, keys, said):
    opened(settings, **keys)

    found = [error for error in checks.run_checks() if error.id == "cp_storage_meta.E003"]

    assert [said in error.msg for error in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://example.org", "example.org", 443, "/", "example.org"),
        ("https://Example.ORG/a/b?c=d&e", "example.org", 443, "/a/b?c=d&e", "example.org"),
        ("https://example.org:443/", "example.org", 443, "/", "example.org"),
        ("https://example.org:8443/x", "example.org", 8443, "/x", "example.org:8443"),
        ("https://8.8.8.8/x", "8.8.8.8", 443, "/x", "8.8.8.8"),
        ("https://[2606:4700::1]:8443/x", "2606:4700::1", 8443, "/x", "[2606:4700::1]:8443"),
        ("https://xn--bcher-kva.example/?", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
        ("https://a_b.example.org/%C3%A9", "a_b.example.org", 443, "/%C3%A9", "a_b.example.org"),
    ],
)
def test_an_address_is_taken_apart(url, host, port, path, authority):
    target = guard.target_of(url)

    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "empty"),
        (None, "empty"),
        (7, "empty"),
        ("http://example.org/", "not https"),
        ("ftp://example.org/", "not https"),
        ("file:///etc/passwd", "not https"),
        ("gopher://example.org:443/", "not https"),
        ("//example.org/", "not https"),
        ("example.org", "not https"),
        ("https://", "no host"),
        ("https:///path", "no host"),
        ("https://:443/", "no host"),
        ("https://-a.example/", "no host"),
        ("https://a..example/", "no host"),
        ("https://.example/", "no host"),
        ("https://example.org./", "no host"),
        ("https://" + "a" * 64 + ".example/", "no host"),
        ("https://" + ".".join(["a" * 60] * 5) + "/", "no host"),
        ("https://2130706433/", "no host"),
        ("https://0x7f000001/", "no host"),
        ("https://0177.0.0.1/", "no host"),
        ("https://127.1/", "no host"),
        ("https://1.2.3.0x4/", "no host"),
        ("https://1.2.3.4.5/", "no host"),
        ("https://[fe80::1%25eth0]/", "no host"),
        ("https://a%2eexample/", "no host"),
        ("https://[::1/", "cannot be read"),
        ("https://example.org:x/", "cannot be read"),
        ("https://example.org:99999/", "cannot be read"),
        ("https://example.org:22/", "port 22"),
        ("https://example.org:80/", "port 80"),
        ("https://example.org:0/", "port 0"),
        ("https://user@example.org/", "user or password"),
        ("https://user:word@example.org/", "user or password"),
        ("https://example.org@10.0.0.1/", "user or password"),
        ("https://example.org#@10.0.0.1/", "fragment"),
        ("https://example.org/#x", "fragment"),
        ("https://example.org\\@10.0.0.1/", "beyond ASCII"),
        ("https://bücher.example/", "beyond ASCII"),
        ("https://example.org/é", "beyond ASCII"),
        ("https://example.org/ x", "beyond ASCII"),
        ("https://exam\tple.org/", "beyond ASCII"),
        ("https://example.org/\r\nX-Evil: 1", "beyond ASCII"),
        ("https://example.org/\x00", "beyond ASCII"),
        ("https://example.org/\ud800", "beyond ASCII"),
        ("https://example.org/" + "x" * 2000, "2,000 characters"),
    ],
)
def test_addresses_no_hook_may_have_are_refused_with_the_reason(url, why):
    with pytest.raises(InvalidArgument, match=why):
        guard.target_of(url)


@given(st.text())
def test_no_text_is_more_than_refused(text):
    for url in (text, f"https://{text}", f"https://example.org{text}", f"https://[{text}]/"):
        try:
            target = guard.target_of(url)
        except InvalidArgument:
            continue
        assert target.port in (443, 8443)


def test_the_operator_opens_ports_and_plain_http(settings):
    opened(settings, STORAGE_HOOK_PORTS=(80, 9000), STORAGE_HOOK_HTTP=True)

    assert guard.target_of("http://example.org/").port == 80
    assert guard.target_of("https://example.org:9000/").port == 9000
    with pytest.raises(InvalidArgument, match="80 or 9000"):
        guard.target_of("https://example.org/")


def addresses(*given_, url="https://hooks.example.org/"):
    return guard.addresses(guard.target_of(url), lambda host, port: given_, 5)


def test_a_name_is_as_public_as_the_worst_of_its_addresses():
    assert addresses("8.8.8.8", "2606:4700::1") == [ip_address("8.8.8.8"), ip_address("2606:4700::1")]
    for inside in ("127.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0"):
        with pytest.raises(InvalidArgument, match="not on the public internet") as refused:
            addresses("8.8.8.8", inside)
        assert inside not in refused.value.message


@pytest.mark.parametrize("answer", [(), ("",), ("not an address",), ("8.8.8.8/32",)])
def test_an_answer_without_an_address_is_no_address(answer):
    with pytest.raises(OSError, match="has no address"):
        addresses(*answer)


def test_an_address_in_figures_is_judged_as_well():
    with pytest.raises(InvalidArgument, match="not on the public internet"):
        guard.check("https://127.0.0.1/")
    with pytest.raises(InvalidArgument, match="not on the public internet"):
        guard.check("https://[::ffff:169.254.169.254]/")
    guard.check("https://8.8.8.8/")


def test_a_name_that_nobody_knows_may_be_kept():
    def nobody(host, port):
        raise OSError("Name or service not known")

    guard.check("https://hooks.example.org/", nobody)

    with pytest.raises(OSError, match="not known"):
        guard.addresses(guard.target_of("https://hooks.example.org/"), nobody, 5)


def test_a_resolver_that_takes_too_long_is_left_to_itself():
    never = Event()

    with pytest.raises(TimeoutError, match="not resolved in time"):
        guard.addresses(guard.target_of("https://hooks.example.org/"), lambda host, port: never.wait() and [], 0.01)
    never.set()


def test_the_name_is_resolved_once():
    asked = []

    def resolve(host, port):
        asked.append((host, port))
        return ["8.8.8.8"]

    guard.addresses(guard.target_of("https://hooks.example.org:8443/"), resolve, 5)

    assert asked == [("hooks.example.org", 8443)]


def test_the_machines_resolver_gives_addresses_once_each():
    assert guard.by_system("127.0.0.1", 443) == ["127.0.0.1"]
    assert guard.by_system("::1", 443) == ["::1"]
