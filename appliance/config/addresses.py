"""Addresses, names and networks as people write them in the configuration.

IPv6 addresses may stand in brackets; a name follows RFC 1123 section 2.1 (letters, digits, hyphens, and a last label
that is not a number, so that 10.0.0.300 is no name). Nothing is resolved here.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")


def host(text: str) -> str:
    """An IP address without brackets, or a DNS name. ValueError says what is wrong and what to do."""
    try:
        return literal(text)
    except ValueError:
        pass
    if re.fullmatch(r"[^:]+:[0-9]+|\[[^]]*\]:[0-9]+", text):
        raise ValueError("holds a port; write the address alone and the port with a key of its own")
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise ValueError("is neither an IP address nor a host name; write for example 10.0.0.5")
    return text.removesuffix(".")


def literal(text: str) -> str:
    """An IP address in its usual form, without brackets. ValueError says what is wrong and what to do."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") and ":" in text else text
    try:
        return str(ip_address(bare))
    except ValueError:
        raise ValueError("is not an IP address; write for example 10.7.0.31 or fd00::31") from None


def with_port(text: str) -> tuple[str, int]:
    """An IP address and a port, as 10.0.0.5:7778 or [fd00::5]:7778. ValueError says what is wrong and what to do."""
    found = re.fullmatch(r"([^:]+|\[[^]]*\]):([0-9]{1,5})", text)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise ValueError("is not an address with its port; write for example 10.0.0.5:7778 or [fd00::5]:7778")
    return literal(found[1]), int(found[2])


def network(text: str) -> Network:
    """A network or a single address. ValueError says what is wrong and what to do."""
    bare = text.replace("[", "").replace("]", "")
    try:
        return ip_network(bare)
    except ValueError:
        pass
    try:
        whole = ip_network(bare, strict=False)
    except ValueError:
        raise ValueError("is not a network; write for example 10.7.0.0/24 or fd00:7::/64") from None
    raise ValueError(f"has bits of a host set; write {whole} for the network or {bare.split('/')[0]} for one device")


def overlap(one: Network, other: Network) -> bool:
    """Whether an address lies in both."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
