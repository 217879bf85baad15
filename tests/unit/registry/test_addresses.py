"""Which addresses are contacted: judged when they are connected to, whatever a name server says later."""

import ipaddress
import socket
from typing import Any

import pytest

from countersign.registry.addresses import AddressPolicy, GuardedResolver
from countersign.registry.errors import AddressDeniedError

HOST = "registry.example.com"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",  # noqa: S104 - an address to refuse, not to bind
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::127.0.0.1",
    ],
)
def test_addresses_of_the_node_and_of_the_cloud_are_denied(address: str) -> None:
    with pytest.raises(AddressDeniedError, match="is not contacted"):
        AddressPolicy().check(HOST, 443, ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "fd12::1", "93.184.216.34", "2606:2800::1"]
)
def test_public_and_private_addresses_are_contacted(address: str) -> None:
    AddressPolicy().check(HOST, 443, ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("allowed", "host", "port", "contacted"),
    [
        ("localhost", "localhost", 5000, True),
        ("localhost:5000", "localhost", 5000, True),
        ("LOCALHOST:5000", "localhost", 5000, True),
        ("localhost:5000", "localhost", 5001, False),
        ("localhost", "other", 5000, False),
        ("[::1]:5000", "::1", 5000, True),
        ("[::1]", "::1", 5000, True),
        ("", "localhost", 5000, False),
    ],
)
def test_listed_hosts_are_contacted_wherever_they_are(allowed: str, host: str, port: int, contacted: bool) -> None:
    policy = AddressPolicy([allowed])
    address = ipaddress.ip_address("127.0.0.1")
    if contacted:
        policy.check(host, port, address)
    else:
        with pytest.raises(AddressDeniedError):
            policy.check(host, port, address)


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "2130706433",
        "0",
        "0177.0.0.1",
        "127.0.0.1.",
        "127.000.000.001",
        "1.2.3",
        "1.2.3.4.5",
        "::1%",
        "::127.1",
        "1:2",
    ],
)
def test_a_host_that_is_no_name_and_no_address_as_addresses_are_written_is_not_contacted(host: str) -> None:
    """libc takes many of them for an address (inet_aton): none of them may be judged as a name."""
    with pytest.raises(AddressDeniedError, match="is no address as addresses are written"):
        AddressPolicy().check_literal(host, 443)


@pytest.mark.parametrize("host", ["registry.example.com", "1.example.com", "0x7f000001", "a", "10.0.0.1", "fd12::1"])
def test_names_are_judged_when_they_are_resolved(host: str) -> None:
    AddressPolicy().check_literal(host, 443)


@pytest.mark.parametrize("address", ["10.96.0.1", "::ffff:10.96.0.1", "64:ff9b::a60:1", "2002:a60:1::", "fd00:10::7"])
def test_ranges_can_be_denied_whatever_else_is_allowed(address: str) -> None:
    policy = AddressPolicy([HOST], ["10.0.0.0/8", "::/0"], ["10.96.0.0/12", "fd00:10::/64"])
    with pytest.raises(AddressDeniedError, match="is not contacted"):
        policy.check(HOST, 443, ipaddress.ip_address(address))
    policy.check(HOST, 443, ipaddress.ip_address("10.0.0.1"))
    policy.check(HOST, 443, ipaddress.ip_address("fd00:11::7"))


def test_a_range_that_is_none_is_refused() -> None:
    for ranges in (["10.0.0.1/8"], ["registry.example.com"]):
        with pytest.raises(ValueError, match=ranges[0]):
            AddressPolicy(denied_ranges=ranges)


def _answering(*addresses: str) -> Any:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


async def test_a_name_is_refused_if_any_of_its_addresses_is_denied() -> None:
    resolver = GuardedResolver(AddressPolicy(), _answering("93.184.216.34", "169.254.169.254"))
    with pytest.raises(AddressDeniedError, match="link-local"):
        await resolver.resolve(HOST, 443)
    await resolver.close()


async def test_the_addresses_that_were_judged_are_the_ones_that_are_connected_to() -> None:
    resolver = GuardedResolver(AddressPolicy(), _answering("93.184.216.34", "10.0.0.1"))
    results = await resolver.resolve(HOST, 443)
    assert [(result["host"], result["port"]) for result in results] == [("93.184.216.34", 443), ("10.0.0.1", 443)]
    assert all(result["flags"] & socket.AI_NUMERICHOST for result in results)
    await resolver.close()
