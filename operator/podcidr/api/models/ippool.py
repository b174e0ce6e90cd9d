"""IPPool: a space of addresses that nodes get blocks of. Written by people."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from podcidr.api import names
from podcidr.api.models.selector import LabelSelector
from podcidr.api.models.shape import (
    CIDR_LENGTH,
    INTERVAL_LENGTH,
    LIST_ATOMIC,
    LIST_SET,
    CIDRText,
    Condition,
    Count,
    Metadata,
    Shape,
    list_map,
    rule,
    rules,
)
from podcidr.api.models.usage import FamilyUsage, Forecast

DAY = 86_400
MAX_HEADROOM = 65_536


def _cidr_rules(family: int, example: str) -> dict[str, JsonValue]:
    """For one CIDR. Each later rule lets pass what an earlier one refused, so that a person gets one message."""
    known = f"!isCIDR(self) || cidr(self).ip().family() != {family}"
    return rules(
        rule(
            "isCIDR(self)",
            f"is no CIDR: write an address, a slash and a prefix length, as {example}",
            computed="self.lowerAscii().startsWith('::ffff:') ? 'is IPv4 mapped into IPv6: write it as IPv4, in ipv4.cidrs'"
            f" : 'is no CIDR: write an address, a slash and a prefix length, as {example}'",
        ),
        rule(
            f"!isCIDR(self) || cidr(self).ip().family() == {family}",
            f"is no IPv{family} CIDR: move it to ipv{10 - family}.cidrs",
        ),
        rule(
            f"{known} || string(cidr(self).masked()) == self",
            "is not in its canonical form: no host bits, IPv6 shortened",
            computed="(cidr(self) == cidr(self).masked() ? 'is not in its canonical form: write %s'"
            " : 'has host bits set: write %s').format([string(cidr(self).masked())])",
        ),
        rule(
            f"{known} || cidr(self).masked().ip().isGlobalUnicast()",
            f"is no unicast space (loopback, link-local, multicast or unspecified): use addresses as {example}",
        ),
    )


# a.containsCIDR(b) for every ordered pair finds each overlap: CIDRs either nest or are disjoint.
NO_OVERLAP = rule(
    "self.all(a, !isCIDR(a) || self.all(b, a == b || !isCIDR(b) || !cidr(a).containsCIDR(cidr(b))))",
    "CIDRs of one pool must not overlap: keep the larger of two",
    computed="'%s overlap: keep the larger one only'.format([self.filter(a, isCIDR(a) && self.exists(b, a != b"
    " && isCIDR(b) && (cidr(a).containsCIDR(cidr(b)) || cidr(b).containsCIDR(cidr(a)))))])",
)


def _family_rules(family: int) -> dict[str, JsonValue]:
    """For one family of a pool."""
    too_small = f"isCIDR(c) && cidr(c).ip().family() == {family} && cidr(c).prefixLength() > self.blockPrefixLength"
    return rules(
        rule(
            f"!self.cidrs.exists(c, {too_small})",
            "a block is larger than a CIDR: raise blockPrefixLength or remove the CIDR",
            computed="'a /%d block does not fit into %s: raise blockPrefixLength or remove the CIDR'"
            f".format([self.blockPrefixLength, self.cidrs.filter(c, {too_small})])",
            field=".cidrs",
        )
    )


IMMUTABLE_LENGTH = rules(
    rule(
        "self == oldSelf",
        "is immutable: blocks of two lengths overlap; make a new pool for another length",
        computed="'is immutable (the pool was made with %d), for blocks of two lengths overlap:"
        " make a new pool for another length'.format([oldSelf])",
    )
)


class IPv4Space(Shape):
    """IPv4 addresses of a pool."""

    model_config = ConfigDict(json_schema_extra=_family_rules(4))

    cidrs: list[Annotated[str, Field(max_length=CIDR_LENGTH, json_schema_extra=_cidr_rules(4, "10.64.0.0/14"))]] = Field(
        description="The space, as CIDRs in canonical form. More may be added; one that is removed drains.",
        min_length=1,
        max_length=names.MAX_FAMILY_CIDRS,
        json_schema_extra=LIST_SET | rules(NO_OVERLAP),
    )
    block_prefix_length: int = Field(
        default=28,
        description="Prefix length of the blocks that nodes get: 28 means 16 addresses. Immutable.",
        ge=20,
        le=32,
        json_schema_extra=IMMUTABLE_LENGTH,
    )


class IPv6Space(Shape):
    """IPv6 addresses of a pool."""

    model_config = ConfigDict(json_schema_extra=_family_rules(6))

    cidrs: list[Annotated[str, Field(max_length=CIDR_LENGTH, json_schema_extra=_cidr_rules(6, "fd00:64::/48"))]] = Field(
        description="The space, as CIDRs in canonical form. More may be added; one that is removed drains.",
        min_length=1,
        max_length=names.MAX_FAMILY_CIDRS,
        json_schema_extra=LIST_SET | rules(NO_OVERLAP),
    )
    block_prefix_length: int = Field(
        default=122,
        description="Prefix length of the blocks that nodes get: 122 means 64 addresses. Immutable.",
        ge=112,
        le=128,
        json_schema_extra=IMMUTABLE_LENGTH,
    )


SCALING_RULES = rules(
    rule(
        "self.minFreeAddresses <= self.maxFreeAddresses",
        "minFreeAddresses must not be above maxFreeAddresses",
        computed="'minFreeAddresses %d is above maxFreeAddresses %d: lower the first or raise the second'"
        ".format([self.minFreeAddresses, self.maxFreeAddresses])",
        field=".minFreeAddresses",
    ),
    rule(
        "self.lowUtilizationPercent < self.highUtilizationPercent",
        "lowUtilizationPercent must be below highUtilizationPercent",
        computed="'lowUtilizationPercent %d is not below highUtilizationPercent %d, so blocks would come and go for ever:"
        " lower the first or raise the second'.format([self.lowUtilizationPercent, self.highUtilizationPercent])",
        field=".lowUtilizationPercent",
    ),
    rule(
        "!has(self.minBlocksPerNode) || !has(self.maxBlocksPerNode) || self.minBlocksPerNode <= self.maxBlocksPerNode",
        "minBlocksPerNode must not be above maxBlocksPerNode",
        computed="'minBlocksPerNode %d is above maxBlocksPerNode %d: lower the first or raise the second'"
        ".format([self.minBlocksPerNode, self.maxBlocksPerNode])",
        field=".minBlocksPerNode",
    ),
)


class Scaling(Shape):
    """When a node gets a block more, and when it gives one back."""

    model_config = ConfigDict(json_schema_extra=SCALING_RULES)

    min_free_addresses: int = Field(
        default=8, description="Free addresses that a node keeps at least for pods to come.", ge=0, le=MAX_HEADROOM
    )
    max_free_addresses: int = Field(
        default=96, description="Free addresses that a node keeps at most, however fast its pods come.", ge=0, le=MAX_HEADROOM
    )
    high_utilization_percent: int = Field(
        default=100, description="A node grows when more than this share of its addresses is in use or asked for.", ge=1, le=100
    )
    low_utilization_percent: int = Field(
        default=75, description="A node gives a block back only if the rest is then used up to this share at most.", ge=0, le=99
    )
    min_blocks_per_node: int | None = Field(
        default=None,
        description="Blocks that a node keeps even if idle. Absent: 1, and 0 in a Pinned pool.",
        ge=0,
        le=names.MAX_NODE_BLOCKS,
    )
    max_blocks_per_node: int | None = Field(
        default=None,
        description="Blocks that a node gets at most. Absent: as many as the node's allocatable pods need.",
        ge=1,
        le=names.MAX_NODE_BLOCKS,
    )
    stabilization_window_seconds: int = Field(
        default=300, description="A node shrinks to the highest need of this time, as in HorizontalPodAutoscaler.", ge=0, le=DAY
    )
    last_block_delay_seconds: int = Field(
        default=3600, description="An idle node keeps its last block this long, where minBlocksPerNode is 0.", ge=0, le=30 * DAY
    )


def _reserved_rules() -> dict[str, JsonValue]:
    """For one reserved entry. The order of an interval's ends is the operator's to check: CEL can't compare addresses."""
    interval = "self.split('-', 2).size() == 2 && self.split('-', 2).all(end, isIP(end))"
    return rules(
        rule(
            f"isIP(self) || isCIDR(self) || {interval}",
            "is neither an address, a CIDR nor two addresses joined by a dash without spaces:"
            " write it as 10.64.0.9, 10.64.1.0/24 or 10.64.0.10-10.64.0.20",
        ),
        rule(
            f"!({interval}) || ip(self.split('-', 2)[0]).family() == ip(self.split('-', 2)[1]).family()",
            "joins an IPv4 and an IPv6 address: both ends must be of one family",
        ),
        rule(
            "!isCIDR(self) || cidr(self) == cidr(self).masked()",
            "has host bits set: clear them, or reserve the one address without a prefix length",
            computed="'has host bits set: write %s, or %s for the one address'"
            ".format([string(cidr(self).masked()), string(cidr(self).ip())])",
        ),
    )


def _covered(test: str) -> str:
    """CEL: some CIDR `c` of the pool, of either family, passes the test."""
    return " || ".join(f"(has(self.{f}) && self.{f}.cidrs.exists(c, isCIDR(c) && {test}))" for f in ("ipv4", "ipv6"))


# A malformed entry is refused by its own rule; here it passes, so that a person gets one message.
ENDS = "r.split('-', 2)"
OUTSIDE = (
    f"(isCIDR(r) ? !({_covered('cidr(c).containsCIDR(r)')})"
    f" : {ENDS}.all(end, isIP(end)) && !({_covered(f'{ENDS}.all(end, cidr(c).containsIP(end))')}))"
)

SPEC_RULES = rules(
    rule(
        "has(self.ipv4) || has(self.ipv6)",
        "has neither ipv4 nor ipv6, so the pool has no addresses: set at least one of them",
    ),
    *(
        rule(
            f"!has(oldSelf.{family}) || has(self.{family})",
            f"{family} was set and can't be removed while its addresses may be in use: put it back, or disable the pool and make a new one",
        )
        for family in ("ipv4", "ipv6")
    ),
    rule(
        f"!has(self.reserved) || !self.reserved.exists(r, {OUTSIDE})",
        "a reserved entry lies outside the pool's CIDRs: correct or remove it",
        computed="'%s: outside the CIDRs of the pool, where nothing is to reserve: correct or remove it'"
        f".format([self.reserved.filter(r, {OUTSIDE})])",
        field=".reserved",
    ),
    rule(
        "self.gateway != 'Block' || !has(self.ipv4) || self.ipv4.blockPrefixLength <= 30",
        "gateway Block takes the first and the last address of each block, so an IPv4 block has to be /30 or larger:"
        " use gateway Pool or None",
        field=".gateway",
    ),
    rule(
        "self.gateway != 'Block' || !has(self.ipv6) || self.ipv6.blockPrefixLength <= 126",
        "gateway Block takes the first and the last address of each block, so an IPv6 block has to be /126 or larger:"
        " use gateway Pool or None",
        field=".gateway",
    ),
)


class IPPoolSpec(Shape):
    """The space and how it is shared out."""

    model_config = ConfigDict(json_schema_extra=SPEC_RULES)

    ipv4: IPv4Space | None = Field(default=None, description="IPv4 addresses of the pool. Once set it can't be removed.")
    ipv6: IPv6Space | None = Field(default=None, description="IPv6 addresses of the pool. Once set it can't be removed.")
    reserved: list[Annotated[str, Field(max_length=INTERVAL_LENGTH, json_schema_extra=_reserved_rules())]] = Field(
        default=[],
        description="Addresses that pods never get: addresses, CIDRs, or first-last.",
        max_length=names.MAX_RESERVED,
        json_schema_extra=LIST_ATOMIC,
    )
    gateway: Literal["Pool", "Block", "None"] = Field(
        default="Pool",
        description="Gateway that pods are given. Pool: the first address of the pool's CIDR (for ptp). Block: the first"
        " of the block (for bridge). None: no gateway, prefix length 32 or 128 (for Cilium, Calico).",
    )
    allocation: Literal["Automatic", "Pinned"] = Field(
        default="Automatic",
        description="Automatic: serves every selected node. Pinned: serves only namespaces that name the pool in their"
        f" annotation {names.ANNOTATION_POOLS}.",
    )
    node_selector: LabelSelector | None = Field(default=None, description="Nodes that may hold blocks. Absent: all.")
    namespace_selector: LabelSelector | None = Field(
        default=None, description="Namespaces that may use the pool, whether they name it or not. Absent: all."
    )
    priority: int = Field(
        default=0, description="Of pools that fit, the one with the higher priority is first; then by name.", ge=-(10**6), le=10**6
    )
    disabled: bool = Field(
        default=False, description="Drains the pool: no new blocks, no new addresses; what is in use stays until it ends."
    )
    scaling: Scaling = Field(
        default=Scaling(),
        description="When a node gets a block more, and when it gives one back.",
    )
    quarantine_seconds: int = Field(
        default=300, description="A released block rests this long, until routes to its old node are gone.", ge=0, le=30 * DAY
    )
    address_cooldown_seconds: int = Field(
        default=120,
        description="A released address rests this long, until connections to its old pod are gone. A pod takes the value"
        " along when it starts: a change is for pods that start after it.",
        ge=0,
        le=DAY,
    )


class IPPoolStatus(Shape):
    """How full the pool is."""

    observed_generation: Count = Field(default=0, description="Generation of the spec that the counts are of.")
    accepted_cidrs: list[CIDRText] = Field(
        default=[],
        description="CIDRs that are used. One that overlaps an accepted CIDR of another pool is not.",
        max_length=2 * names.MAX_FAMILY_CIDRS,
        json_schema_extra=LIST_SET,
    )
    ipv4: FamilyUsage | None = Field(default=None, description="How full the IPv4 space is.")
    ipv6: FamilyUsage | None = Field(default=None, description="How full the IPv6 space is.")
    forecast: Forecast | None = Field(default=None, description="What the trend of the last hours leads to.")
    conditions: list[Condition] = Field(
        default=[],
        description="Accepted: the CIDRs are used. NearExhaustion, Exhausted: few or no blocks are free. Drained: a"
        " disabled pool is empty.",
        max_length=names.MAX_CONDITIONS,
        json_schema_extra=list_map("type"),
    )


NAME_RULES = rules(
    rule(
        f"self.metadata.name.size() <= {names.MAX_POOL_NAME}",
        f"metadata.name is longer than {names.MAX_POOL_NAME} characters: choose a shorter one",
    )
)


class IPPool(Shape):
    """An IPPool is a space of addresses that nodes get blocks of, and says how full it is."""

    model_config = ConfigDict(json_schema_extra=NAME_RULES)

    metadata: Metadata
    spec: IPPoolSpec = Field(description="The space and how it is shared out.")
    status: IPPoolStatus | None = Field(default=None, description="How full the pool is; written by the operator.")
