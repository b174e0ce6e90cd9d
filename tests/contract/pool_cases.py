"""IPPool specs that are accepted, and ones that are refused with the message that a person gets."""

from typing import Any

from podcidr.api import names

Object = dict[str, Any]

V4 = {"cidrs": ["10.64.0.0/16"]}
V6 = {"cidrs": ["fd00:64::/48"]}

EMPTY_SELECTOR = "is empty, or its labels have no values: write them as label: value, or leave the field out to select all"

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


def _bad_cidr(text: str, why: str, family: int = 4) -> tuple[Object, str]:
    return {f"ipv{family}": {"cidrs": [text]}}, f'spec.ipv{family}.cidrs[0]: Invalid value: "{text}": {why}'


def _bad_reserved(text: str) -> tuple[Object, str]:
    return {"ipv4": V4, "reserved": [text]}, f'spec.reserved[0]: Invalid value: "{text}": {NO_RESERVATION}'


def _wrong_type(spec: Object, field: str, wanted: str, given: str) -> tuple[Object, str]:
    return {"ipv4": V4} | spec, f'spec.{field}: Invalid value: "{given}": spec.{field} in body must be of type {wanted}: "{given}"'


def _out_of_bounds(spec: Object, field: str, value: int, bound: str) -> tuple[Object, str]:
    return {"ipv4": V4} | spec, f"spec.{field}: Invalid value: {value}: spec.{field} in body should be {bound}"


NO_CIDR = "is no CIDR: write an address, a slash and a prefix length, as 10.64.0.0/14"
NO_CIDR6 = NO_CIDR.replace("10.64.0.0/14", "fd00:64::/48")
NO_UNICAST = "is no unicast space (loopback, link-local, multicast or unspecified): use addresses as 10.64.0.0/14"
NO_UNICAST6 = NO_UNICAST.replace("10.64.0.0/14", "fd00:64::/48")
NO_RESERVATION = (
    "is neither an address, a CIDR nor two addresses joined by a dash without spaces:"
    " write it as 10.64.0.9, 10.64.1.0/24 or 10.64.0.10-10.64.0.20"
)

BAD_POOLS |= {
    "prefix length above 32": _bad_cidr("10.64.0.0/33", NO_CIDR),
    "a netmask": _bad_cidr("10.64.0.0/255.255.0.0", NO_CIDR),
    "leading zeros": _bad_cidr("10.064.0.0/16", NO_CIDR),
    "a space": _bad_cidr(" 10.64.0.0/16", NO_CIDR),
    "two in one": _bad_cidr("10.64.0.0/16,10.65.0.0/16", NO_CIDR),
    "digits of another script": _bad_cidr("１０.64.0.0/16", NO_CIDR),
    "an empty text": _bad_cidr("", NO_CIDR),
    "the whole IPv4 space": _bad_cidr("0.0.0.0/0", NO_UNICAST),
    "loopback": _bad_cidr("127.0.0.0/8", NO_UNICAST),
    "link-local": _bad_cidr("169.254.0.0/16", NO_UNICAST),
    "the whole IPv6 space": _bad_cidr("::/0", NO_UNICAST6, 6),
    "link-local, IPv6": _bad_cidr("fe80::/64", NO_UNICAST6, 6),
    "multicast, IPv6": _bad_cidr("ff00::/16", NO_UNICAST6, 6),
    "an IPv6 zone": _bad_cidr("fd00::%eth0/64", NO_CIDR6, 6),
    "IPv6 written out": _bad_cidr("fd00:0064:0000::/48", "is not in its canonical form: write fd00:64::/48", 6),
    "IPv4 in IPv6 notation": _bad_cidr("::10.0.0.0/112", "is not in its canonical form: write ::a00:0/112", 6),
    "a text without end": ({"ipv4": {"cidrs": ["1" * 100]}}, "spec.ipv4.cidrs[0]: Too long: may not be more than 43 bytes"),
    "thousands of CIDRs": (
        {"ipv4": {"cidrs": [f"10.{i // 250}.{i % 250}.0/24" for i in range(5000)]}},
        "spec.ipv4.cidrs: Too many: 5000: must have at most 32 items",
    ),
    "one CIDR without a list": _wrong_type({"ipv4": {"cidrs": "10.64.0.0/16"}}, "ipv4.cidrs", "array", "string"),
    "block length as text": _wrong_type({"ipv4": V4 | {"blockPrefixLength": "28"}}, "ipv4.blockPrefixLength", "integer", "string"),
    "block length of an IPv6 network": _out_of_bounds(
        {"ipv6": V6 | {"blockPrefixLength": 64}}, "ipv6.blockPrefixLength", 64, "greater than or equal to 112"
    ),
    "no address left by the gateway, IPv6": (
        {"ipv6": V6 | {"blockPrefixLength": 127}, "gateway": "Block"},
        (
        "spec.gateway: Invalid value: gateway Block takes the first and the last address of each block,"
        " so an IPv6 block has to be /126 or larger: use gateway Pool or None"
        ),
    ),
    "reserved: a word": _bad_reserved("gateway"),
    "reserved: three ends": _bad_reserved("10.64.0.1-10.64.0.3-10.64.0.5"),
    "reserved: IPv4 mapped into IPv6": _bad_reserved("::ffff:10.64.0.1"),
    "reserved: a zone": _bad_reserved("fd00:64::1%eth0"),
    "a time with a unit": _wrong_type({"quarantineSeconds": "5m"}, "quarantineSeconds", "integer", "string"),
    "a quarantine of years": _out_of_bounds({"quarantineSeconds": 10**8}, "quarantineSeconds", 10**8, "less than or equal to 2592000"),
    "a priority beyond bounds": _out_of_bounds({"priority": 10**7}, "priority", 10**7, "less than or equal to 1000000"),
    "negative headroom": _out_of_bounds(
        {"scaling": {"minFreeAddresses": -1}}, "scaling.minFreeAddresses", -1, "greater than or equal to 0"
    ),
    "more than all": _out_of_bounds(
        {"scaling": {"highUtilizationPercent": 101}}, "scaling.highUtilizationPercent", 101, "less than or equal to 100"
    ),
    "no block for any node": _out_of_bounds(
        {"scaling": {"maxBlocksPerNode": 0}}, "scaling.maxBlocksPerNode", 0, "greater than or equal to 1"
    ),
    "allocation in small letters": (
        {"ipv4": V4, "allocation": "pinned"},
        'spec.allocation: Unsupported value: "pinned": supported values: "Automatic", "Pinned"',
    ),
    "yes for true": _wrong_type({"disabled": "yes"}, "disabled", "boolean", "string"),
    "a selector of nothing": (
        {"ipv4": V4, "nodeSelector": {}},
        f"spec.nodeSelector: Invalid value: {EMPTY_SELECTOR}",
    ),
    "labels without a value": (
        {"ipv4": V4, "namespaceSelector": {"matchLabels": {"vip": None}}},
        f"spec.namespaceSelector: Invalid value: {EMPTY_SELECTOR}",
    ),
    "a selector with empty lists": (
        {"ipv4": V4, "namespaceSelector": {"matchLabels": {}, "matchExpressions": []}},
        f"spec.namespaceSelector: Invalid value: {EMPTY_SELECTOR}",
    ),
    "a selector as text": _wrong_type({"nodeSelector": "rack=a"}, "nodeSelector", "object", "string"),
    "a label value as number": _wrong_type(
        {"nodeSelector": {"matchLabels": {"rack": 5}}}, "nodeSelector.matchLabels.rack", "string", "integer"
    ),
    "a selector's operator in small letters": (
        {"ipv4": V4, "nodeSelector": {"matchExpressions": [{"key": "zone", "operator": "in", "values": ["a"]}]}},
        (
        'spec.nodeSelector.matchExpressions[0].operator: Unsupported value: "in":'
        ' supported values: "In", "NotIn", "Exists", "DoesNotExist"'
        ),
    ),
    "a label value that none can be": (
        {"ipv4": V4, "namespaceSelector": {"matchLabels": {"team": "bad value!"}}},
        (
        'spec.namespaceSelector.matchLabels.team: Invalid value: "bad value!": spec.namespaceSelector.matchLabels.team in body'
        " should match '^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'"
        ),
    ),
}  # fmt: skip
