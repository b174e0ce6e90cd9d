"""Bad and odd input besides bad specs (pool_cases): who gets which message. docs/pools.md shows these tables; tests hold them true."""

from dataclasses import dataclass, field
from typing import Any

from tests.contract.pool_cases import V4

Object = dict[str, Any]
NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)

BAD_NAMES: dict[str, str] = {
    "pool-ü": f'metadata.name: Invalid value: "pool-ü": {NAME_RULE}',
    "日本": f'metadata.name: Invalid value: "日本": {NAME_RULE}',
    "Default": f'metadata.name: Invalid value: "Default": {NAME_RULE}',
    "p" * 64: "<nil>: Invalid value: metadata.name is longer than 63 characters: choose a shorter one",
}
"""Names that no pool can have."""

UNKNOWN_FIELDS: dict[str, tuple[Object, str]] = {
    "a field that there is not": ({"ipv4": V4, "blockLength": 28}, 'unknown field "spec.blockLength"'),
    "a field of somebody else's kind": ({"ipv4": V4, "blockSize": 26}, 'unknown field "spec.blockSize"'),
    "the right field in the wrong place": ({"ipv4": V4, "cidrs": ["10.64.0.0/16"]}, 'unknown field "spec.cidrs"'),
    "a quota within a pool (a pool of its own is the quota: docs/adr/0008)": (
        {"ipv4": V4, "quotas": [{"maxAddresses": 30}]},
        'unknown field "spec.quotas"',
    ),
    "underscores": ({"ipv4": V4, "node_selector": {}}, 'unknown field "spec.node_selector"'),
    "labels without matchLabels": ({"ipv4": V4, "nodeSelector": {"labels": {"a": "b"}}}, 'unknown field "spec.nodeSelector.labels"'),
}
"""kubectl asks the server to be strict; a client that does not gets a warning instead."""


@dataclass(frozen=True)
class Change:
    """A write of an object that exists: `d`, a pool of both families with default block lengths, node `n1`'s NodeCIDR, an IPBlock."""

    method: str
    path: str
    body: Any
    message: str


POOLS, NODECIDRS, IPBLOCKS = (f"/apis/podcidr.io/v1alpha1/{kind}" for kind in ("ippools", "nodecidrs", "ipblocks"))
BLOCK = {"cidr": "10.64.3.0/28", "pool": "d", "poolUID": "p1", "node": "n1", "nodeCIDRUID": "c1"}
GONE = "was set and can't be removed while its addresses may be in use: put it back, or disable the pool and make a new one"
OTHER_LENGTH = "for blocks of two lengths overlap: make a new pool for another length"

BAD_CHANGES: dict[str, Change] = {
    "a family is removed": Change("PATCH", f"{POOLS}/d", {"spec": {"ipv4": None}}, f"spec: Invalid value: ipv4 {GONE}"),
    "the IPv6 family is removed": Change("PATCH", f"{POOLS}/d", {"spec": {"ipv6": None}}, f"spec: Invalid value: ipv6 {GONE}"),
    "another block length": Change(
        "PATCH", f"{POOLS}/d", {"spec": {"ipv4": {"blockPrefixLength": 26}}},
        f"spec.ipv4.blockPrefixLength: Invalid value: 26: is immutable (the pool was made with 28), {OTHER_LENGTH}",
    ),
    "the last CIDR is removed": Change(
        "PATCH", f"{POOLS}/d", {"spec": {"ipv4": {"cidrs": []}}},
        "spec.ipv4.cidrs: Invalid value: 0: spec.ipv4.cidrs in body should have at least 1 items",
    ),
    "somebody else was faster": Change(
        "PATCH", f"{POOLS}/d", {"metadata": {"resourceVersion": "1"}, "spec": {"priority": 3}},
        'Operation cannot be fulfilled on ippools.podcidr.io "d": the object has been modified; please apply your changes to the'
        " latest version and try again",
    ),
    "a NodeCIDR deleted by hand": Change(
        "DELETE", f"{NODECIDRS}/n1", None,
        'nodecidrs.podcidr.io "n1" is forbidden: ValidatingAdmissionPolicy \'podcidr-nodecidr-goes-last\' with binding'
        " 'podcidr-nodecidr-goes-last' denied request: only the operator deletes a NodeCIDR: delete Node n1 and it goes by itself",
    ),
    "a NodeCIDR edited by hand": Change(
        "PATCH", f"{NODECIDRS}/n1", {"spec": {"pools": ["d"]}},
        "spec: Invalid value: spec changed, but epoch did not grow: write one above 1",
    ),
    "an epoch at its end": Change(
        "PATCH", f"{NODECIDRS}/n1", {"spec": {"epoch": 9007199254740991}},
        "spec: Invalid value: epoch is more than 1000000 above the last one (0 at creation), and there is no way back: raise it by 1",
    ),
    "an epoch that falls": Change(
        "PATCH", f"{NODECIDRS}/n3", {"spec": {"epoch": 6}},
        "spec: Invalid value: spec changed, but epoch did not grow: write one above 7",
    ),
    "a NodeCIDR made at the end": Change(
        "POST", NODECIDRS,
        {"apiVersion": "podcidr.io/v1alpha1", "kind": "NodeCIDR", "metadata": {"name": "n2"}, "spec": {"epoch": 9007199254740990}},
        "spec: Invalid value: epoch is more than 1000000 above the last one (0 at creation), and there is no way back: raise it by 1",
    ),
    "a report of an epoch that never was": Change(
        "PATCH", f"{NODECIDRS}/n1/status", {"status": {"observedEpoch": 9007199254740991}},
        "<nil>: Invalid value: status.observedEpoch is more than 1000000 above spec.epoch, which no agent can have seen:"
        " write the epoch seen",
    ),
    "an IPBlock made by hand": Change(
        "POST", IPBLOCKS, {"apiVersion": "podcidr.io/v1alpha1", "kind": "IPBlock", "metadata": {"name": "mine"}, "spec": BLOCK},
        "<nil>: Invalid value: metadata.name mine is not the one of CIDR 10.64.3.0/28: write it as 10-64-3-0-28 for 10.64.3.0/28,"
        " IPv6 with all zeros written out",
    ),
    "an IPBlock given to another node": Change(
        "PATCH", f"{IPBLOCKS}/10-64-9-0-28", {"spec": {"node": "n2"}},
        "spec: Invalid value: spec is immutable: a block changes hands only when its IPBlock is deleted and claimed again",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class OddPool:
    """A pool that the API server takes and the operator does not, or not wholly: its condition Accepted says why."""

    spec: Object
    status: str
    reason: str
    message: str


def _v4(*cidrs: str) -> Object:
    return {"ipv4": {"cidrs": list(cidrs)}}


ACCEPTED = ("True", "Accepted", "all CIDRs are in use")
GOOD_POOL = {"ipv4": {"cidrs": ["10.64.0.0/24"]}}
"""Made first, as `good`: it has to go on serving its node, whatever comes after it."""
NODE_ADDRESS, SERVICE_CIDR = "10.77.0.5", "10.78.0.0/24"

ODD_POOLS: dict[str, OddPool] = {
    "same": OddPool(
        _v4("10.64.0.0/24"), "False", "CIDROverlap",
        "CIDR 10.64.0.0/24 overlaps 10.64.0.0/24 of IPPool good; remove it here or there",
    ),
    "around": OddPool(
        _v4("10.64.0.0/16"), "False", "CIDROverlap",
        "CIDR 10.64.0.0/16 overlaps 10.64.0.0/24 of IPPool good; remove it here or there",
    ),
    "inside": OddPool(
        _v4("10.64.0.128/26", "10.76.0.0/24"), "False", "CIDROverlap",
        "CIDR 10.64.0.128/26 overlaps 10.64.0.0/24 of IPPool good; remove it here or there",
    ),
    "turned": OddPool(
        {"ipv4": {"cidrs": ["10.75.0.0/24"]}, "reserved": ["10.75.0.9-10.75.0.3"]}, "False", "Invalid",
        "spec.reserved: '10.75.0.9-10.75.0.3': the ends are the wrong way round; did you mean 10.75.0.3-10.75.0.9?",
    ),
    "badkey": OddPool(
        {"ipv4": {"cidrs": ["10.74.0.0/24"]}, "nodeSelector": {"matchLabels": {"rack a": "x"}}}, "False", "Invalid",
        "spec.nodeSelector: matchLabels[rack a] is 'rack a', which no label can be called; write it as zone or example.com/zone",
    ),
    "nskey": OddPool(
        {"ipv4": {"cidrs": ["10.73.0.0/24"]}, "namespaceSelector": {"matchLabels": {"team a": "x"}}},
        "False", "Invalid",
        "spec.namespaceSelector: matchLabels[team a] is 'team a', which no label can be called; write it as zone or example.com/zone",
    ),
    "onnode": OddPool(
        _v4("10.77.0.0/24"), "True", "AddressesInUse",
        "own addresses of n1 lie in the pool: blocks that hold one are not claimed; reserve them",
    ),
    "onservices": OddPool(
        _v4("10.78.0.0/16"), "True", "ServiceCIDROverlap",
        "Service CIDR 10.78.0.0/24 overlaps the pool: blocks in it are not claimed, for Services have its addresses; use other space",
    ),
    "giant": OddPool({"ipv6": {"cidrs": ["2000::/3"]}}, *ACCEPTED),
    "nowhere": OddPool(_v4("10.79.0.0/24") | {"nodeSelector": {"matchLabels": {"rack": "none"}}}, *ACCEPTED),
    "full": OddPool(
        {"ipv4": {"cidrs": ["10.80.0.0/28"]}, "reserved": ["10.80.0.0/28"], "allocation": "Pinned"}, "True", "Accepted",
        "all CIDRs are in use, but every ipv4 address of them is reserved: reserve less, or append a CIDR",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class BadPin:
    """A namespace whose pods fail, with this message."""

    annotations: dict[str, str]
    message: str
    labels: dict[str, str] = field(default_factory=dict)


PIN_POOLS: dict[str, Object] = {
    "open": {"ipv4": {"cidrs": ["10.81.0.0/24"]}, "namespaceSelector": {"matchLabels": {"open": "yes"}}},
    "off": {"ipv4": {"cidrs": ["10.82.0.0/24"]}, "allocation": "Pinned", "disabled": True},
    "vip": {"ipv4": {"cidrs": ["10.83.0.0/24"]}, "allocation": "Pinned", "namespaceSelector": {"matchLabels": {"vip": "yes"}}},
    "broken": {"ipv4": {"cidrs": ["10.84.0.0/24"]}, "allocation": "Pinned", "reserved": ["10.84.0.9-10.84.0.3"]},
}
OURS, CALICOS = "podcidr.io/pools", "cni.projectcalico.org/ipv4pools"

CHANGE = f"change annotation {OURS}"
NO_POOL = f"which does not exist; create the IPPool or {CHANGE}"
TURNED = "spec.reserved: '10.84.0.9-10.84.0.3': the ends are the wrong way round; did you mean 10.84.0.3-10.84.0.9?"
NO_ARRAY = 'is no JSON array (Expecting \',\' delimiter: line 1 column 7 (char 6)); write it as ["a", "b"] or as a,b'

BAD_PINS: dict[str, BadPin] = {
    "unknown": BadPin({OURS: "nosuch"}, f'namespace unknown pins pool "nosuch", {NO_POOL}'),
    "second": BadPin({OURS: "open,nosuch"}, f'namespace second pins pool "nosuch", {NO_POOL}', {"open": "yes"}),
    "case": BadPin({OURS: "Open"}, f'namespace case pins pool "Open", {NO_POOL}'),
    "disabled": BadPin(
        {OURS: "off"}, f'namespace disabled pins pool "off", which is disabled; set spec.disabled of IPPool off to false or {CHANGE}'
    ),
    "forbidden": BadPin(
        {OURS: "vip"},
        f'namespace forbidden pins pool "vip", which does not select it; adapt spec.namespaceSelector of IPPool vip, label it or {CHANGE}',
    ),
    "invalid": BadPin(
        {OURS: "broken"}, f'namespace invalid pins pool "broken", which is invalid ({TURNED}); correct the IPPool or {CHANGE}'
    ),
    "torn": BadPin({OURS: '["vip"'}, f"namespace torn: annotation {OURS} {NO_ARRAY}"),
    "numbers": BadPin({OURS: "[1]"}, f'namespace numbers: annotation {OURS} must be a JSON array of pool names, such as ["a", "b"]'),
    "comma": BadPin({OURS: "vip,"}, f"namespace comma: annotation {OURS} has an empty pool name; remove the surplus comma or quotes"),
    "empty": BadPin({OURS: ""}, f"namespace empty: annotation {OURS} names no pool; name one, or remove it"),
    "calico": BadPin(
        {CALICOS: '["default-ipv4-ippool"]'},
        'namespace calico pins pool "default-ipv4-ippool", which does not exist; create the IPPool or'
        f" change annotation {CALICOS}",
    ),
    "unselected": BadPin(
        {},
        "no automatic pool selects namespace unselected (refused by: open); adapt spec.namespaceSelector of one of them,"
        f" label the namespace, or pin a pool with annotation {OURS}",
    ),
}  # fmt: skip
