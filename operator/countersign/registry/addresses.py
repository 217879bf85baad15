"""Which addresses a registry may have.

A pod's author writes the image's host, so without this rule the gate could be made to talk to the node, to itself or
to the cloud's metadata service. The check is made on the very addresses that are then connected to: names are resolved
here, once, and literals are checked before the request.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from aiohttp.abc import AbstractResolver, ResolveResult

from countersign.registry.errors import AddressDeniedError

RESOLVER_THREADS: Final = 64
"""Made only when needed; more than one namespace's bound of requests in flight (fairness.py, Traffic)."""

GetAddrInfo = Callable[..., list[tuple[Any, Any, int, str, tuple[Any, ...]]]]
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Metadata and control services of clouds that lie outside the link-local range.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "fd00:ec2::254",  # AWS, IPv6
        "fd20:ce::254",  # Google Cloud, IPv6
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure WireServer
        "192.0.0.192",  # Oracle Cloud
    )
)
# Prefixes whose addresses carry an IPv4 address that a gateway or the kernel will contact instead.
_TRANSLATED: Final = (
    ipaddress.IPv6Network("64:ff9b::/96"),  # NAT64, RFC 6052
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 of one's own, RFC 8215; a /96 in it, as all but few have it
    ipaddress.IPv6Network("::/96"),  # IPv4-compatible, RFC 4291, section 2.5.5.1
)
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")  # RFC 1122, section 3.2.1.3


class AddressPolicy:
    """Refuses loopback, link-local, unspecified, multicast, broadcast and metadata addresses.

    `allowed_hosts` lists `host` or `host:port` as they stand in image references (IPv6 in brackets); for these every
    address is accepted. `allowed_ranges` lists CIDR ranges in which every address is accepted. Private ranges
    (RFC 1918, RFC 4193) are where clusters keep their registries: they are allowed. `denied_ranges` lists CIDR ranges
    in which none is, whatever allows it: where the API server, Services or a management network are.
    """

    def __init__(
        self,
        allowed_hosts: Iterable[str] = (),
        allowed_ranges: Iterable[str] = (),
        denied_ranges: Iterable[str] = (),
    ) -> None:
        """Raises ValueError for what is no CIDR range."""
        self._allowed = frozenset(host.lower() for host in allowed_hosts)
        self._ranges = tuple(ipaddress.ip_network(text) for text in allowed_ranges)
        self._denied = tuple(ipaddress.ip_network(text) for text in denied_ranges)

    def check_literal(self, host: str, port: int) -> None:
        """Judge a host that may be an IP address (no brackets). Raises AddressDeniedError."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            # libc takes 127.1 or 2130706433 for an address (inet_aton), and an HTTP client may not resolve it at all.
            if ":" in host or host.replace(".", "").isdigit():
                raise AddressDeniedError(f"{host[:100]} is no address as addresses are written") from None
            return  # a name: judged when it is resolved
        self.check(host, port, address)

    def check(self, host: str, port: int, address: IPAddress) -> None:
        """Judge an address that the host has. Raises AddressDeniedError."""
        if any(one in denied for one in (address, *_embedded(address)) for denied in self._denied):
            raise AddressDeniedError(
                f"{host} has the address {address}, which is not contacted: the gate's settings deny its range"
            )
        kind = _denied_kind(address)
        if kind is None or self._lists(host, port) or any(address in allowed for allowed in self._ranges):
            return
        raise AddressDeniedError(
            f"{host} has the {kind} address {address}, which is not contacted; "
            f"if a registry really is there, have the cluster's admins allow it"
        )

    def _lists(self, host: str, port: int) -> bool:
        shown = f"[{host}]" if ":" in host else host
        return shown.lower() in self._allowed or f"{shown}:{port}".lower() in self._allowed


class GuardedResolver(AbstractResolver):
    """Resolves names with the system's resolver and hands out only addresses that the policy accepts.

    One bad address among good ones refuses the name: an attacker's DNS server must not be able to try until it fits.
    It has threads of its own, because a name whose DNS server never answers holds one for many seconds.
    """

    def __init__(self, policy: AddressPolicy, getaddrinfo: GetAddrInfo = socket.getaddrinfo) -> None:
        self._policy = policy
        self._getaddrinfo = getaddrinfo
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of the host. Raises AddressDeniedError, or OSError if it does not resolve."""
        ask = partial(self._getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        results: list[ResolveResult] = []
        for answer_family, _, protocol, _, address in found:
            # A scope (fe80::1%eth0) only belongs to link-local addresses, which are refused unless the host is listed.
            numeric = str(address[0])
            self._policy.check(host, port, ipaddress.ip_address(numeric.partition("%")[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=numeric,
                    port=port,
                    family=answer_family,
                    proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Let the threads end; one that is still waiting for an answer is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _embedded(address: IPAddress) -> tuple[IPAddress, ...]:
    """The IPv4 address that is meant by an IPv6 address, if one is."""
    if not isinstance(address, ipaddress.IPv6Address) or address.is_unspecified or address.is_loopback:
        return ()
    found = address.ipv4_mapped or address.sixtofour
    if found is None and any(address in network for network in _TRANSLATED):
        found = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return (found,) if found is not None else ()


def _denied_kind(address: IPAddress) -> str | None:
    for embedded in _embedded(address):
        return _denied_kind(embedded)
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified or address in _THIS_NETWORK or address == ipaddress.IPv4Address(0xFFFFFFFF):
        return "unspecified"
    return "metadata" if address in _METADATA else None
