"""IPPool.status as a value: counts, conditions, forecast. Pure; written by the keeper."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from podcidr.api import names
from podcidr.core.acceptance import Refusal
from podcidr.core.barred import Bar
from podcidr.core.model import Pool
from podcidr.core.prefix import Family, Prefix
from podcidr.core.usage import PoolUsage, saturated

NEAR_EXHAUSTION_PERCENT = 90
"""Blocks not free, of all."""


@dataclass(frozen=True)
class PoolView:
    """What a pool's status is made from."""

    pool: Pool
    usage: Mapping[Family, PoolUsage]
    accepted: tuple[Prefix, ...] = ()
    refused: tuple[Refusal, ...] = ()
    waiting: tuple[Prefix, ...] = ()
    waiting_for: tuple[str, ...] = ()
    """Ready nodes whose agents have not reported yet: new CIDRs wait for them."""
    foreign: tuple[str, ...] = ()
    """Nodes whose own addresses lie in the pool: blocks that hold one are not claimed."""
    services: tuple[Prefix, ...] = ()
    """Service CIDRs over the pool: blocks there are not claimed."""
    holders: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of a pool that drains: by node, blocks held and addresses in use or cooling."""
    seconds_to_exhaustion: int | None = None

    @property
    def claimed(self) -> int:
        """Blocks that nodes hold or that rest."""
        return sum(usage.blocks_claimed + usage.blocks_quarantined for usage in self.usage.values())


def pool_status(view: PoolView, old: Mapping[str, Any], now_text: str) -> dict[str, Any]:
    """The whole status; what no longer applies is null, so that a merge patch removes it."""
    status: dict[str, Any] = {
        "observedGeneration": view.pool.generation,
        "acceptedCIDRs": [str(cidr) for cidr in view.accepted],
        "conditions": conditions(view, old.get("conditions", ()), now_text),
        "forecast": {"secondsToExhaustion": view.seconds_to_exhaustion} if view.seconds_to_exhaustion is not None else None,
    }
    for family in Family:
        status[family] = _family(view.usage[family]) if family in view.usage else None
    return {key: value for key, value in status.items() if value is not None or key in old}


def _family(usage: PoolUsage) -> dict[str, Any]:
    return {
        "capacity": saturated(usage.capacity),
        "reserved": saturated(usage.reserved),
        "blocks": {
            "total": saturated(usage.blocks_total),
            "claimed": usage.blocks_claimed,
            "quarantined": usage.blocks_quarantined,
            "free": saturated(usage.blocks_free),
        },
        "addresses": {"inUse": usage.in_use, "cooling": usage.cooling, "free": saturated(usage.free)},
        "utilizationPercent": usage.utilization_percent,
    }


def conditions(view: PoolView, old: Iterable[Mapping[str, Any]], now_text: str) -> list[dict[str, Any]]:
    """All four; a transition time changes only with the status."""
    known = {condition["type"]: condition for condition in old}
    fresh = [_accepted(view), *_exhaustion(view), _drained(view)]
    for condition in fresh:
        before = known.get(condition["type"], {})
        same = before.get("status") == condition["status"]
        condition["lastTransitionTime"] = before["lastTransitionTime"] if same else now_text
        condition["observedGeneration"] = view.pool.generation
    return fresh


def _condition(kind: str, status: bool, reason: str, message: str) -> dict[str, Any]:
    text = names.STATUS_TRUE if status else names.STATUS_FALSE
    return {"type": kind, "status": text, "reason": reason, "message": message[: names.MAX_MESSAGE]}


def _accepted(view: PoolView) -> dict[str, Any]:
    if view.pool.invalid:
        return _condition(names.CONDITION_ACCEPTED, False, names.REASON_INVALID, view.pool.invalid)
    if view.refused:
        message = "; ".join(str(refusal) for refusal in view.refused)
        return _condition(names.CONDITION_ACCEPTED, False, names.REASON_CIDR_OVERLAP, message)
    if view.waiting:
        cidrs = ", ".join(str(cidr) for cidr in view.waiting)
        message = (
            f"{cidrs}: the cluster has pods, so nodes must first tell which of these addresses they use; waiting for the "
            f"agents of {_some(view.waiting_for)}"
        )
        return _condition(names.CONDITION_ACCEPTED, False, names.REASON_IMPORT_PENDING, message)
    warnings = []
    if view.services:
        overlaps = _some(tuple(f"Service CIDR {cidr}" for cidr in view.services))
        warnings.append(f"{overlaps} overlaps the pool: blocks in it are not claimed, for Services have its addresses; use other space")
    if view.foreign:
        warnings.append(f"own addresses of {_some(view.foreign)} lie in the pool: blocks that hold one are not claimed; reserve them")
    if owners := sum((Counter(usage.barred_by) for usage in view.usage.values()), Counter()):
        warnings.append(f"{_barred(view, owners)}: restart the pods that have their addresses (podcidr show blocks), or append a CIDR")
    if outside := _outside(view):
        warnings.append(outside)
    if warnings:
        others = names.REASON_BLOCKS_BARRED if owners else names.REASON_CIDR_DRAINING
        reason = names.REASON_SERVICE_CIDR if view.services else names.REASON_ADDRESSES_IN_USE if view.foreign else others
        return _condition(names.CONDITION_ACCEPTED, True, reason, "; ".join(warnings))
    if reserved := [family for family, usage in view.usage.items() if not usage.capacity]:
        message = f"all CIDRs are in use, but every {' and '.join(reserved)} address of them is reserved: reserve less, or append a CIDR"
        return _condition(names.CONDITION_ACCEPTED, True, names.REASON_ACCEPTED, message)
    message = "all CIDRs are in use until the pool, being deleted, is empty" if view.pool.deleting else "all CIDRs are in use"
    return _condition(names.CONDITION_ACCEPTED, True, names.REASON_ACCEPTED, message)


def _outside(view: PoolView) -> str:
    """What is left of CIDRs that were removed."""
    blocks = sum(usage.blocks_outside for usage in view.usage.values())
    addresses = sum(usage.addresses_outside for usage in view.usage.values())
    held = f"{blocks} blocks outside the CIDRs of the spec are still held or rest, with {addresses} addresses in use or cooling"
    return f"{held}: they drain; restart the pods that have them to be done sooner (podcidr show blocks)" if blocks else ""


def _barred(view: PoolView, owners: Counter[Bar]) -> str:
    """How many blocks of the pool are not claimed, for whose sake."""
    count = sum(usage.blocks_barred for usage in view.usage.values())
    whose = [
        f"{n} blocks of pool {bar.pool} (uid {bar.pool_uid}, {'gone' if bar.gone else 'which no longer has the CIDR'})"
        for bar, n in sorted(owners.items())
    ]
    return f"{saturated(count)} blocks are not claimed before those that lie there have gone: {_some(tuple(whose))}"


def _some(nodes: tuple[str, ...]) -> str:
    more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
    return ", ".join(nodes[:5]) + more


def _exhaustion(view: PoolView) -> Iterable[dict[str, Any]]:
    """By the fullest family: a pod needs an address of each."""
    full = [family for family, usage in view.usage.items() if usage.blocks_total and not usage.blocks_free]
    near = [family for family, usage in view.usage.items() if usage.claimed_percent >= NEAR_EXHAUSTION_PERCENT]
    if not view.accepted:
        for kind in (names.CONDITION_NEAR_EXHAUSTION, names.CONDITION_EXHAUSTED):
            yield _condition(kind, False, names.REASON_NOTHING_ACCEPTED, "no CIDR of the pool is in use")
        return
    remedy = f"append a CIDR to the pool, or {_other_remedy(view)}"
    if near:
        message = f"{', '.join(near)}: at most {100 - NEAR_EXHAUSTION_PERCENT} % of the blocks are free{_pace(view, full)}; {remedy}"
        yield _condition(names.CONDITION_NEAR_EXHAUSTION, True, names.REASON_FEW_BLOCKS_FREE, message)
    else:
        yield _condition(names.CONDITION_NEAR_EXHAUSTION, False, names.REASON_BLOCKS_FREE, "enough blocks are free")
    if full:
        message = f"{', '.join(full)}: no block is free; {remedy}"
        yield _condition(names.CONDITION_EXHAUSTED, True, names.REASON_NO_BLOCK_FREE, message)
    else:
        yield _condition(names.CONDITION_EXHAUSTED, False, names.REASON_BLOCKS_FREE, "blocks are free")


def _other_remedy(view: PoolView) -> str:
    if any(usage.blocks_barred for usage in view.usage.values()):
        return "restart the pods of earlier pools whose blocks lie in it: the condition Accepted names them"
    return "lower maxFreeAddresses" if view.claimed else "reserve less of it"


def _pace(view: PoolView, full: list[Family]) -> str:
    """The forecast in words, coarse: a message that changed every minute would be written every minute."""
    seconds = view.seconds_to_exhaustion
    if seconds is None or full:
        return ""
    if seconds < 3600:
        return ", and at the pace of the last hours the last one goes within the hour"
    return f", and at the pace of the last hours the last one goes in about {round(seconds / 3600)} h" if seconds < 3 * 86_400 else ""


def _drained(view: PoolView) -> dict[str, Any]:
    if not (view.pool.disabled or view.pool.deleting):
        return _condition(names.CONDITION_DRAINED, False, names.REASON_ENABLED, "the pool is enabled")
    if view.claimed:
        reason = names.REASON_DELETION_WAITS if view.pool.deleting else names.REASON_BLOCKS_CLAIMED
        return _condition(names.CONDITION_DRAINED, False, reason, _holders(view))
    return _condition(names.CONDITION_DRAINED, True, names.REASON_EMPTY, "no node holds a block of the pool")


def _holders(view: PoolView) -> str:
    """Who keeps the pool from being empty, the fullest node first, and what helps."""
    resting = sum(usage.blocks_quarantined for usage in view.usage.values())
    fullest = sorted(view.holders.items(), key=lambda item: (-item[1][1], item[0]))
    held = _some(tuple(f"{node} ({blocks} blocks, {taken} addresses in use or cooling)" for node, (blocks, taken) in fullest))
    parts = [
        f"held by {held}" if held else "",
        f"{resting} blocks rest until their quarantine is over" if resting else "",
        "restart the pods that have its addresses to be done sooner" if any(taken for _, taken in view.holders.values()) else "",
    ]
    return "; ".join(filter(None, parts)) or f"{view.claimed} claimed blocks are in no list yet"


def changed_conditions(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Conditions whose status or reason is another: worth an Event and a write at once."""
    before = {condition["type"]: (condition["status"], condition.get("reason")) for condition in old}
    return [condition for condition in new if before.get(condition["type"]) != (condition["status"], condition["reason"])]
