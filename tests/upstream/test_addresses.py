"""Addresses of IANA's special-purpose registries, by the RFC that took each away; and what they embed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from relay.upstream.addresses import is_public

# Every block of the two registries (2025-10), and what is named beside them in issue 10 point 9.
BLOCKS = [
    *["0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"],
    *["192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32"],
    *["192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32"],
    *["192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4"],
    *["255.255.255.255/32", "224.0.0.0/4", "168.63.129.16/32", "100.100.100.200/32"],
    *["::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32", "2001:1::1/128"],
    *["2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28"],
    *["2001:20::/28", "2001:30::/28", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20", "5f00::/16", "fc00::/7"],
    *["fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128"],
]
# The addresses next to some of the blocks.
PUBLIC = [
    *["1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"],
    *["168.63.129.15", "168.63.129.17", "169.253.255.255", "172.15.255.255", "172.32.0.0", "191.255.255.255"],
    *["192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "198.17.255.255", "198.20.0.0"],
    *["203.0.112.255", "203.0.114.0", "223.255.255.255", "8.8.8.8"],
    *[
        "2000::",
        "2001:200::",
        "2001:db7::1",
        "2001:db9::",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "3ffe::",
        "3fff:1000::",
    ],
]


@pytest.mark.parametrize("block", BLOCKS)
def test_no_address_of_a_special_block_is_public(block: str) -> None:
    network = ip_network(block)
    for address in (network[0], network[-1], network[network.num_addresses // 2]):
        assert not is_public(str(address))
        assert not is_public(f"{address}%eth0")


@pytest.mark.parametrize("address", PUBLIC)
def test_what_lies_beside_them_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "168.63.129.16", "192.0.0.192", "10.0.0.1", "127.0.0.1", "192.88.99.1"])
def test_an_embedded_address_is_judged_as_itself(address: str) -> None:
    number = int(ip_address(address))
    for embedding in (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80 | 1):
        assert is_public(str(ip_address(embedding))) is (address == "8.8.8.8")


@pytest.mark.parametrize("address", ["::8.8.8.8", "::ffff:0:8.8.8.8", "4000::1", "1fff::1"])
def test_what_was_never_given_out_is_not_public(address: str) -> None:
    """IPv4-compatible (deprecated, RFC 4291 §2.5.5.1), IPv4-translated (RFC 2765), outside of 2000::/3."""
    assert not is_public(address)
