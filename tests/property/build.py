"""Values for tests, by way of the API's JSON: what a test writes is what a person would."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from podcidr.api import convert
from podcidr.core.actions import BlockAction
from podcidr.core.model import Block, Entry, Memory, Node, NodeCIDR, Pool, Report, Snapshot, Usage
from podcidr.core.plan import Plan, plan
from podcidr.core.prefix import Prefix, block_name, parse_prefix

Used = Mapping[str, int | tuple[int, int]]
"""Addresses in use by block, or (in use, cooling)."""


def pool(name: str = "default", ipv4: str | list[str] | None = None, ipv6: str | list[str] | None = None, **spec: Any) -> Pool:
    """An IPPool; all of its CIDRs are accepted unless `accepted` says which. `block4`/`block6`: block lengths."""
    accepted = spec.pop("accepted", None)
    meta = {"name": name, "uid": spec.pop("uid", f"{name}-uid"), "generation": spec.pop("generation", 1), "resourceVersion": "1"}
    meta["creationTimestamp"] = spec.pop("created", "")
    if spec.pop("deleting", False):
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    blocks = {"ipv4": spec.pop("block4", 28), "ipv6": spec.pop("block6", 122)}
    cidrs = {"ipv4": _listed(ipv4), "ipv6": _listed(ipv6)}
    for family, texts in cidrs.items():
        if texts:
            spec[family] = {"cidrs": texts, "blockPrefixLength": blocks[family]}
    status = {"acceptedCIDRs": [*cidrs["ipv4"], *cidrs["ipv6"]] if accepted is None else accepted}
    return convert.pool({"metadata": meta, "spec": spec, "status": status})


def _listed(cidrs: str | list[str] | None) -> list[str]:
    return [cidrs] if isinstance(cidrs, str) else list(cidrs or ())


def prefix(text: str) -> Prefix:
    """A prefix from its text."""
    return parse_prefix(text)


def node(name: str = "n1", **values: Any) -> Node:
    """A Ready Node."""
    return Node(name, ready=True, **values)


def entry(text: str, pool: Pool, *, draining: bool = False) -> Entry:
    """A block in a list, of a pool."""
    return Entry(parse_prefix(text), pool.name, pool.uid, pool.generation, draining)


def nodecidr(name: str, entries: list[Entry], *, epoch: int = 5, pools: tuple[str, ...] = ("default",), **values: Any) -> NodeCIDR:
    """A NodeCIDR without report."""
    return NodeCIDR(name, f"{name}-uid", epoch, pools, tuple(entries), **values)


def block(text: str, owner: str, pool: Pool, **values: Any) -> Block:
    """An IPBlock of the node's present NodeCIDR."""
    cidr = parse_prefix(text)
    values.setdefault("nodecidr_uid", f"{owner}-uid")
    return Block(block_name(cidr), f"block-{cidr}", cidr, pool.name, pool.uid, owner, **values)


def report(of: NodeCIDR, used: Used | None = None, **values: Any) -> Report:
    """What the agent says: blocks in use, or (in use, cooling)."""
    counted = {parse_prefix(text): Usage(*(n if isinstance(n, tuple) else (n, 0))) for text, n in (used or {}).items()}
    values.setdefault("epoch", of.epoch)
    return Report(of.uid, blocks=counted, **values)


def listing(name: str, pool: Pool, used: Used, *, draining: tuple[str, ...] = (), **values: Any) -> NodeCIDR:
    """A NodeCIDR that lists these blocks of one pool and reports their use at its present epoch."""
    reported = {key: values.pop(key) for key in ("demand", "host_network_pods", "reported_at") if key in values}
    bare = nodecidr(name, [entry(text, pool, draining=text in draining) for text in used], **values)
    return replace(bare, report=report(bare, used, **reported))


def snapshot(pools: list[Pool], nodes: list[Node], nodecidrs: list[NodeCIDR], blocks: list[Block] | None = None, **values: Any) -> Snapshot:
    """Without `blocks`: an IPBlock for each listed one. A leader that has watched for long, unless memory says else."""
    if blocks is None:
        by_name = {pool.name: pool for pool in pools}
        blocks = [
            Block(block_name(e.prefix), f"block-{e.prefix}", e.prefix, e.pool, e.pool_uid, n.name, n.uid)
            for n in nodecidrs
            for e in n.entries
            if e.pool in by_name
        ]
    memory = {key: values.pop(key) for key in list(values) if key in Memory.__dataclass_fields__}
    return Snapshot(
        {pool.name: pool for pool in pools},
        {node.name: node for node in nodes},
        {nodecidr.name: nodecidr for nodecidr in nodecidrs},
        {block.name: block for block in blocks},
        Memory(**memory),
        **values,
    )


NOW = 100_000.0


def actions(*args: Any, now: float = NOW, **values: Any) -> list[tuple[str, ...]]:
    """The plan in short: ("Claim", node, block), ("SetPools", node) …"""
    return short(plan(snapshot(*args, **values), now))


def short(planned: Plan) -> list[tuple[str, ...]]:
    """A plan's actions as words."""
    blocks = [(str(action.prefix),) if isinstance(action, BlockAction) else () for action in planned.actions]
    return [(type(action).__name__, action.node, *block) for action, block in zip(planned.actions, blocks, strict=True)]
