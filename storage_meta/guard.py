"""Where hooks may be sent: the public internet, and what the operator names beyond it.

Addresses of hooks are written by tenants, and the worker that calls them stands inside the operator's network. So the name is
resolved once, every address it has is judged, and the connection is made to an address that was judged: a name that answers
otherwise the next moment gains nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from controlplane.core.conf import conf
from storage_meta.errors import InvalidArgument

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""The addresses of a name, as text, for a port. Raises OSError where it has none."""

MAX_URL = 2000
DEFAULT_PORTS = {"https": 443, "http": 80}
LOOKED_UP_AT_SAVE_S = 3.0

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# The special-purpose registries of IANA. `is_global` follows them at its own pace: on Python 3.11 it takes 192.0.0.8, multicast
# and all that wraps an IPv4 address for public. What is in neither is refused by `is_global` as well.
_SPECIAL: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "3fff::/20",
    )
)
_UNICAST = IPv6Network("2000::/3")  # all that is given out; fc00::/7, fe80::/10, ff00::/8, 64:ff9b:1::/48 lie outside
_LAST_32_BITS = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
_6TO4 = IPv6Network("2002::/16")


@dataclass(frozen=True, slots=True)
class Target:
    """An address of a hook, taken apart. host: lower case, IPv6 without brackets; path: with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def target_of(url: str) -> Target:
    """Read the address of a hook. Raises InvalidArgument for one that no hook may have, whatever its name resolves to."""
    if not isinstance(url, str) or not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise _refused("The address is empty, or has spaces or characters beyond ASCII. Percent-encode them.")
    if len(url) > MAX_URL:
        raise _refused(f"The address has more than {MAX_URL:,} characters. Use a shorter one.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _refused("The address cannot be read. Write it as https://host/path.") from None
    if parts.scheme not in DEFAULT_PORTS or (parts.scheme == "http" and not conf.STORAGE_HOOK_HTTP):
        raise _refused("The address is not https. Begin it with https://.")
    if "@" in parts.netloc:
        raise _refused("The address carries a user or password. Leave them out; what is sent is signed.")
    if "#" in url:
        raise _refused("The address has a fragment, which no server gets. Leave out # and what follows.")
    if not _is_host(host):
        raise _refused("The address names no host. Write it as https://host/path.")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if port not in conf.STORAGE_HOOK_PORTS:
        allowed = " or ".join(map(str, conf.STORAGE_HOOK_PORTS))
        raise _refused(f"The address has port {port}, and hooks may use {allowed} alone. Use one of these.")
    return Target(parts.scheme, host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def addresses(target: Target, resolve: Resolve, timeout_s: float) -> list[Address]:
    """The addresses of a target, in the order they were given, all of them allowed. The name is resolved once.

    Raises InvalidArgument where one of them is not public: an attacker would mix one in and wait for it to be chosen.
    OSError where the name is unknown; TimeoutError where nobody knows in time. The message names no address: whoever wrote
    the name would learn of the inside of the network.
    """
    try:
        found = [ip_address(text.partition("%")[0]) for text in _in_time(target, resolve, timeout_s)]
    except (UnicodeError, ValueError) as error:  # no IP address came back
        raise OSError(f"{target.host} has no address") from error
    if not found:
        raise OSError(f"{target.host} has no address")
    if not all(is_allowed(address) for address in found):
        raise _refused(
            f"{target.host} is not on the public internet. Name a host that is, or let the operator add its network to "
            "STORAGE_HOOK_NETWORKS."
        )
    return found


def check(url: str, resolve: Resolve | None = None) -> None:
    """Raise InvalidArgument for an address that hooks may not have, before it is kept.

    A name that does not resolve now is let through: it is asked again at each attempt, as every name is.
    """
    target = target_of(url)
    try:
        addresses(target, resolve or by_system, LOOKED_UP_AT_SAVE_S)
    except OSError:
        return


def is_allowed(address: Address) -> bool:
    """Whether hooks may be sent there: the public internet, or a network of STORAGE_HOOK_NETWORKS."""
    inner = embedded(address) or address
    return is_public(address) or any(address in network or inner in network for network in _networks())


def is_public(address: Address) -> bool:
    """Whether an address, or the IPv4 address within it, is one of the public internet."""
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not any(address in network for network in _SPECIAL)


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this IPv6 address ends at: mapped, NAT64, 6to4, or `::a.b.c.d`."""
    if isinstance(address, IPv4Address):
        return None
    if address in _6TO4:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    if any(address in network for network in _LAST_32_BITS):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def faults() -> list[str]:
    """What is wrong with STORAGE_HOOK_NETWORKS and STORAGE_HOOK_PORTS, as sentences."""
    found = []
    try:
        _networks()
    except ImproperlyConfigured as error:
        found.append(str(error))
    ports = conf.STORAGE_HOOK_PORTS
    if isinstance(ports, str) or not all(isinstance(port, int) and 0 < port < 65536 for port in ports):
        found.append(f"STORAGE_HOOK_PORTS: {ports!r:.80} has what is no port.")
    return found


def by_system(host: str, port: int) -> list[str]:
    """Addresses as the resolver of the machine gives them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _in_time(target: Target, resolve: Resolve, timeout_s: float) -> Sequence[str]:
    """Resolvers know no time limit, so one that takes too long is left to itself."""
    answer: SimpleQueue[Sequence[str] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(resolve(target.host, target.port))
        except Exception as error:
            answer.put(error)

    Thread(target=ask, name="cp-hook-resolve", daemon=True).start()
    try:
        found = answer.get(timeout=max(timeout_s, 0))
    except Empty:
        raise TimeoutError(f"{target.host} was not resolved in time") from None
    if isinstance(found, Exception):
        raise found
    return found


def _is_host(host: str) -> bool:
    """A name, or an IP address as it is usually written: resolvers also take 0x7f.1 and 2130706433, people do not mean them."""
    if ":" in host:
        return _is_ip(host) and "%" not in host
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _is_ip(host)
    return _HOST.fullmatch(host) is not None


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _networks() -> tuple[Network, ...]:
    given = conf.STORAGE_HOOK_NETWORKS
    return _read((given,) if isinstance(given, str) else tuple(given))


@lru_cache(maxsize=8)
def _read(networks: tuple[str, ...]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(text) for text in networks)
    except ValueError as error:
        raise ImproperlyConfigured(f"STORAGE_HOOK_NETWORKS: {error}. Write networks as 10.1.0.0/16.") from None


def _refused(message: str) -> InvalidArgument:
    return InvalidArgument(message=message)
