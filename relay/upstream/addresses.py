"""Which addresses are the public internet's: for what clients ask the relay to fetch.

Source: IANA's IPv4 and IPv6 Special-Purpose Address Registries (iana.org/assignments/iana-ipv4-special-registry and
…/iana-ipv6-special-registry, as of 2025-10), whole, whatever they say about reachability: nobody keeps documents there.
The standard library's ``is_global`` differs from one Python to the next. Besides them: multicast (RFC 5771, RFC 4291
§2.7), and the address at which Azure's hosts answer their virtual machines (learn.microsoft.com, "What is IP address
168.63.129.16?").
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_SPECIAL_IPV4: Final[dict[str, str]] = {
    "0.0.0.0/8": "this network, RFC 791",
    "10.0.0.0/8": "private use, RFC 1918",
    "100.64.0.0/10": "shared address space, RFC 6598",
    "127.0.0.0/8": "loopback, RFC 1122",
    "168.63.129.16/32": "Azure's hosts",
    "169.254.0.0/16": "link-local, RFC 3927; metadata of most clouds",
    "172.16.0.0/12": "private use, RFC 1918",
    "192.0.0.0/24": "IETF protocol assignments, RFC 6890; metadata of Oracle's cloud",
    "192.0.2.0/24": "documentation, RFC 5737",
    "192.31.196.0/24": "AS112, RFC 7535",
    "192.52.193.0/24": "AMT, RFC 7450",
    "192.88.99.0/24": "6to4 relay anycast, RFC 7526",
    "192.168.0.0/16": "private use, RFC 1918",
    "192.175.48.0/24": "AS112, RFC 7534",
    "198.18.0.0/15": "benchmarking, RFC 2544",
    "198.51.100.0/24": "documentation, RFC 5737",
    "203.0.113.0/24": "documentation, RFC 5737",
    "224.0.0.0/4": "multicast, RFC 5771",
    "240.0.0.0/4": "reserved, RFC 1112; limited broadcast, RFC 8190",
}
# Only what lies in 2000::/3 (RFC 4291 §2.4: all that is given out): of the rest nothing is public.
_SPECIAL_IPV6: Final[dict[str, str]] = {
    "2001::/23": "IETF protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID, DRIP, anycast and more",
    "2001:db8::/32": "documentation, RFC 3849",
    "2620:4f:8000::/48": "AS112, RFC 7534",
    "3fff::/20": "documentation, RFC 9637",
}
_GIVEN_OUT: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1

_IPV4: Final = tuple(map(IPv4Network, _SPECIAL_IPV4))
_IPV6: Final = tuple(map(IPv6Network, _SPECIAL_IPV6))


def is_public(address: str) -> bool:
    """Whether packets to ``address``, an IP address with or without a zone, leave for the public internet.

    Raises: ValueError where it is no address.
    """
    ip = ip_address(address.split("%")[0])
    if isinstance(ip, IPv6Address):
        embedded = _embedded(ip)
        if embedded is None:
            return ip in _GIVEN_OUT and not any(ip in network for network in _IPV6)
        ip = embedded
    return not any(ip in network for network in _IPV4)


def _embedded(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this one come to: mapped (RFC 4291 §2.5.5.2), 6to4 (RFC 3056), NAT64."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour
