"""Prefixes as integers: the planner never touches text (parsing 100,000 CIDRs takes 0.4 s, integers none)."""

import enum
import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from .errors import BadValue


class Family(enum.StrEnum):
    """An address family, spelled as in specs, files and metrics."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


BITS = {Family.IPV4: 32, Family.IPV6: 128}


class Prefix(NamedTuple):
    """A block or CIDR: network address as integer and prefix length. Ordered by family, address, length."""

    family: Family
    address: int
    length: int

    @property
    def size(self) -> int:
        """Addresses in it."""
        return int(1 << (BITS[self.family] - self.length))

    @property
    def last(self) -> int:
        """Its highest address."""
        return self.address + self.size - 1

    def holds(self, other: "Prefix") -> bool:
        """Whether the other lies inside (or is the same)."""
        return self.family == other.family and self.address <= other.address and other.last <= self.last

    def overlaps(self, other: "Prefix") -> bool:
        """Whether they share an address: of two prefixes one then holds the other."""
        return self.family == other.family and self.address <= other.last and other.address <= self.last

    def __str__(self) -> str:
        return f"{address_text(self.family, self.address)}/{self.length}"


def address_text(family: Family, address: int) -> str:
    """The address in canonical text (RFC 5952)."""
    if family is Family.IPV4:
        return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"
    return str(ipaddress.IPv6Address(address))


def parse_address(text: str, field: str = "address") -> tuple[Family, int]:
    """Family and integer of an address; refuses what is none."""
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise BadValue(field, text, "not an IP address") from None
    if "%" in text:
        raise BadValue(field, text, "an address with a zone means something else on every node; leave the zone out")
    return (Family.IPV4 if parsed.version == 4 else Family.IPV6), int(parsed)


def parse_prefix(text: str, field: str = "cidr") -> Prefix:
    """The prefix of a CIDR; refuses host bits and names the right network, as host-local does."""
    address, slash, length_text = text.partition("/")
    if not slash:
        raise BadValue(field, text, "a CIDR needs a prefix length, such as /24")
    family, number = parse_address(address, field)
    if not (length_text.isascii() and length_text.isdigit() and int(length_text) <= BITS[family]):
        raise BadValue(field, text, f"the prefix length must be 0 to {BITS[family]}")
    length = int(length_text)
    network = number >> (BITS[family] - length) << (BITS[family] - length)
    if network != number:
        raise BadValue(field, text, f"host bits are set; did you mean {Prefix(family, network, length)}?")
    return Prefix(family, number, length)


def parent(prefix: Prefix) -> Prefix:
    """The prefix of twice the size that holds this one."""
    step = BITS[prefix.family] - prefix.length + 1
    return Prefix(prefix.family, prefix.address >> step << step, prefix.length - 1)


def buddy(prefix: Prefix) -> Prefix:
    """The other half of the parent: the two merge into one route."""
    return Prefix(prefix.family, prefix.address ^ prefix.size, prefix.length)


def merge(prefixes: Iterable[Prefix]) -> set[Prefix]:
    """The fewest prefixes with the same addresses, for prefixes that do not overlap: the node's routes."""
    merged: set[Prefix] = set()
    for prefix in prefixes:
        join(merged, prefix)
    return merged


def join(routes: set[Prefix], prefix: Prefix) -> None:
    """Merge one more prefix into merged ones, in place."""
    while prefix.length and (other := buddy(prefix)) in routes:
        routes.remove(other)
        prefix = parent(prefix)
    routes.add(prefix)


@lru_cache(maxsize=1 << 17)
def block_name(prefix: Prefix) -> str:
    """The IPBlock's name: one name a CIDR, so that CREATE is the lock. `10-64-3-0-28`, IPv6 written out in full."""
    if prefix.family is Family.IPV4:
        return address_text(prefix.family, prefix.address).replace(".", "-") + f"-{prefix.length}"
    groups = ipaddress.IPv6Address(prefix.address).exploded.replace(":", "-")
    return f"{groups}-{prefix.length}"
