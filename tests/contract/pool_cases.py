"""IPPool specs that are accepted, and ones that are refused with the message that a person gets."""

from typing import Any

from podcidr.api import names

Object = dict[str, Any]

V4 = {"cidrs": ["10.64.0.0/16"]}
V6 = {"cidrs": ["fd00:64::/48"]}

GOOD_POOLS: dict[str, Object] = {
    "IPv4 only": {"ipv4": V4},
    "IPv6 only": {"ipv6": V6},
    "both, block as large as the CIDR": {
        "ipv4": {"cidrs": ["10.0.0.0/28"], "blockPrefixLength": 28},
        "ipv6": {"cidrs": ["fd00::/122", "fd00::40/122"], "blockPrefixLength": 122},
    },
    "public addresses": {"ipv4": {"cidrs": ["203.0.113.0/24"]}, "ipv6": {"cidrs": ["2001:db8::/32"]}},
    "every form of reservation": {
        "ipv4": V4,
        "ipv6": V6,
        "reserved": ["10.64.0.9", "10.64.1.0/24", "10.64.2.0-10.64.2.9", "fd00:64::1", "fd00:64::/64", "fd00:64::5-fd00:64::9"],
    },
    "waits switched off": {
        "ipv4": V4,
        "scaling": {"minFreeAddresses": 0, "stabilizationWindowSeconds": 0, "lastBlockDelaySeconds": 0, "minBlocksPerNode": 0},
        "quarantineSeconds": 0,
        "addressCooldownSeconds": 0,
    },
    "selectors": {
        "ipv4": V4,
        "nodeSelector": {"matchLabels": {"topology.kubernetes.io/zone": "a", "empty": ""}},
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "team", "operator": "In", "values": ["x", "y"]},
                {"key": "test", "operator": "DoesNotExist"},
            ]
        },
    },
    "an empty selector": {"ipv4": V4, "nodeSelector": {}},
    "gateway in each block": {"ipv4": {"cidrs": ["10.0.0.0/24"], "blockPrefixLength": 30}, "gateway": "Block"},
}

BAD_POOLS: dict[str, tuple[Object, str]] = {
    "no family": ({}, "spec: Invalid value: has neither ipv4 nor ipv6, so the pool has no addresses: set at least one of them"),
    "overlap": (
        {"ipv4": {"cidrs": ["10.0.0.0/8", "11.0.0.0/16", "10.1.0.0/16"]}},
        'spec.ipv4.cidrs: Invalid value: ["10.0.0.0/8", "10.1.0.0/16"] overlap: keep the larger one only',
    ),
    "overlap, IPv6": (
        {"ipv6": {"cidrs": ["fd00:64:1::/64", "fd00:64::/32"]}},
        'spec.ipv6.cidrs: Invalid value: ["fd00:64:1::/64", "fd00:64::/32"] overlap: keep the larger one only',
    ),
    "twice the same": ({"ipv4": {"cidrs": ["10.0.0.0/8", "10.0.0.0/8"]}}, 'spec.ipv4.cidrs[1]: Duplicate value: "10.0.0.0/8"'),
    "block larger than a CIDR": (
        {"ipv4": {"cidrs": ["10.0.0.0/30", "10.0.1.0/24", "10.0.2.0/29"]}},
        (
        'spec.ipv4.cidrs: Invalid value: a /28 block does not fit into ["10.0.0.0/30", "10.0.2.0/29"]:'
        " raise blockPrefixLength or remove the CIDR"
        ),
    ),
    "block larger than a CIDR, IPv6": (
        {"ipv6": {"cidrs": ["fd00::/126"]}},
        'spec.ipv6.cidrs: Invalid value: a /122 block does not fit into ["fd00::/126"]: raise blockPrefixLength or remove the CIDR',
    ),
    "host bits": (
        {"ipv4": {"cidrs": ["10.64.0.0/16", "10.1.2.3/16"]}},
        'spec.ipv4.cidrs[1]: Invalid value: "10.1.2.3/16": has host bits set: write 10.1.0.0/16',
    ),
    "host bits, IPv6": (
        {"ipv6": {"cidrs": ["fd00:64::1/48"]}},
        'spec.ipv6.cidrs[0]: Invalid value: "fd00:64::1/48": has host bits set: write fd00:64::/48',
    ),
    "not canonical": (
        {"ipv6": {"cidrs": ["FD00:64:0::/48"]}},
        'spec.ipv6.cidrs[0]: Invalid value: "FD00:64:0::/48": is not in its canonical form: write fd00:64::/48',
    ),
    "IPv6 under ipv4": (
        {"ipv4": {"cidrs": ["fd00::/64"]}},
        'spec.ipv4.cidrs[0]: Invalid value: "fd00::/64": is no IPv4 CIDR: move it to ipv6.cidrs',
    ),
    "IPv4 under ipv6": (
        {"ipv6": {"cidrs": ["10.0.0.0/16"]}},
        'spec.ipv6.cidrs[0]: Invalid value: "10.0.0.0/16": is no IPv6 CIDR: move it to ipv4.cidrs',
    ),
    "IPv4 mapped into IPv6": (
        {"ipv6": {"cidrs": ["::ffff:10.0.0.0/112"]}},
        'spec.ipv6.cidrs[0]: Invalid value: "::ffff:10.0.0.0/112": is IPv4 mapped into IPv6: write it as IPv4, in ipv4.cidrs',
    ),
    "no CIDR": (
        {"ipv4": {"cidrs": ["10.0.0.0"]}},
        'spec.ipv4.cidrs[0]: Invalid value: "10.0.0.0": is no CIDR: write an address, a slash and a prefix length, as 10.64.0.0/14',
    ),
    "multicast": (
        {"ipv4": {"cidrs": ["224.0.0.0/8"]}},
        (
        'spec.ipv4.cidrs[0]: Invalid value: "224.0.0.0/8": is no unicast space'
        " (loopback, link-local, multicast or unspecified): use addresses as 10.64.0.0/14"
        ),
    ),
    "no CIDRs": ({"ipv4": {"cidrs": []}}, "spec.ipv4.cidrs: Invalid value: 0: spec.ipv4.cidrs in body should have at least 1 items"),
    "too many CIDRs": (
        {"ipv4": {"cidrs": [f"10.{i}.0.0/16" for i in range(names.MAX_FAMILY_CIDRS + 1)]}},
        "spec.ipv4.cidrs: Too many: 33: must have at most 32 items",
    ),
    "block length out of bounds": (
        {"ipv4": V4 | {"blockPrefixLength": 19}},
        "spec.ipv4.blockPrefixLength: Invalid value: 19: spec.ipv4.blockPrefixLength in body should be greater than or equal to 20",
    ),
    "reserved outside the pool": (
        {"ipv4": V4, "reserved": ["10.64.0.9", "10.65.0.9", "10.0.0.0/8", "10.64.255.0-10.65.0.1"]},
        (
        'spec.reserved: Invalid value: ["10.65.0.9", "10.0.0.0/8", "10.64.255.0-10.65.0.1"]: outside the CIDRs of the pool,'
        " where nothing is to reserve: correct or remove it"
        ),
    ),
    "reserved of a family that the pool has not": (
        {"ipv4": V4, "reserved": ["fd00:64::9"]},
        'spec.reserved: Invalid value: ["fd00:64::9"]: outside the CIDRs of the pool, where nothing is to reserve: correct or remove it',
    ),
    "an interval across two CIDRs": (
        {"ipv4": {"cidrs": ["10.0.0.0/24", "10.0.1.0/24"]}, "reserved": ["10.0.0.250-10.0.1.5"]},
        (
        'spec.reserved: Invalid value: ["10.0.0.250-10.0.1.5"]: outside the CIDRs of the pool,'
        " where nothing is to reserve: correct or remove it"
        ),
    ),
    "reserved malformed": (
        {"ipv4": V4, "reserved": ["10.64.0.1 - 10.64.0.9"]},
        (
        'spec.reserved[0]: Invalid value: "10.64.0.1 - 10.64.0.9": is neither an address, a CIDR nor two addresses joined by a dash'
        " without spaces: write it as 10.64.0.9, 10.64.1.0/24 or 10.64.0.10-10.64.0.20"
        ),
    ),
    "reserved with host bits": (
        {"ipv4": V4, "reserved": ["10.64.0.9/24"]},
        'spec.reserved[0]: Invalid value: "10.64.0.9/24": has host bits set: write 10.64.0.0/24, or 10.64.0.9 for the one address',
    ),
    "too many reserved": (
        {"ipv4": V4, "reserved": [f"10.64.{i}.1" for i in range(256)] + ["10.64.0.2"]},
        "spec.reserved: Too many: 257: must have at most 256 items",
    ),
    "minimum above maximum": (
        {"ipv4": V4, "scaling": {"minFreeAddresses": 100}},
        (
        "spec.scaling.minFreeAddresses: Invalid value: minFreeAddresses 100 is above maxFreeAddresses 96:"
        " lower the first or raise the second"
        ),
    ),
    "low above high": (
        {"ipv4": V4, "scaling": {"highUtilizationPercent": 75}},
        (
        "spec.scaling.lowUtilizationPercent: Invalid value: lowUtilizationPercent 75 is not below highUtilizationPercent 75,"
        " so blocks would come and go for ever: lower the first or raise the second"
        ),
    ),
    "more blocks at least than at most": (
        {"ipv4": V4, "scaling": {"minBlocksPerNode": 3, "maxBlocksPerNode": 2}},
        (
        "spec.scaling.minBlocksPerNode: Invalid value: minBlocksPerNode 3 is above maxBlocksPerNode 2:"
        " lower the first or raise the second"
        ),
    ),
    "no address left by the gateway": (
        {"ipv4": V4 | {"blockPrefixLength": 31}, "gateway": "Block"},
        (
        "spec.gateway: Invalid value: gateway Block takes the first and the last address of each block,"
        " so an IPv4 block has to be /30 or larger: use gateway Pool or None"
        ),
    ),
    "gateway in small letters": (
        {"ipv4": V4, "gateway": "pool"},
        'spec.gateway: Unsupported value: "pool": supported values: "Pool", "Block", "None"',
    ),
    "operator without values": (
        {"ipv4": V4, "nodeSelector": {"matchExpressions": [{"key": "zone", "operator": "In"}]}},
        "spec.nodeSelector.matchExpressions[0]: Invalid value: operator In needs at least one entry in values",
    ),
    "operator with values": (
        {"ipv4": V4, "nodeSelector": {"matchExpressions": [{"key": "zone", "operator": "Exists", "values": ["a"]}]}},
        "spec.nodeSelector.matchExpressions[0]: Invalid value: operator Exists takes no values: remove them",
    ),
    "a negative time": (
        {"ipv4": V4, "quarantineSeconds": -1},
        "spec.quarantineSeconds: Invalid value: -1: spec.quarantineSeconds in body should be greater than or equal to 0",
    ),
}  # fmt: skip
