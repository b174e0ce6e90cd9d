"""The law of apply: a plan that is carried out twice, by a leader that hung or by two of them, is carried out once.

The real applier and caches on the API server in memory, which the contract tests hold to the real one.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from podcidr.core.plan import plan
from podcidr.kube.client import KubeClient
from podcidr.kube.resources import IPBLOCKS, IPPOOLS, NODECIDRS, NODES
from podcidr.reconcile.apply import Applier
from podcidr.reconcile.memory import LeaderMemory
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.writes import Writes
from tests.property.effort import share
from tests.simulation.fake_api import DirectTransport, FakeApi

POOL = {
    "ipv4": {"cidrs": ["10.0.0.0/26"], "blockPrefixLength": 29},
    "gateway": "None",
    "quarantineSeconds": 30,
    "scaling": {"minFreeAddresses": 4, "stabilizationWindowSeconds": 0},
}


@dataclass
class HandClock:
    """Moved by hand; a sleep is over at once. Each look at the wall is a second later, so that no write repeats another's stamp."""

    now: float = 1_000.0
    looks: int = 0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> datetime:
        self.looks += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now + self.looks)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    def random(self) -> float:
        return 0.5


@dataclass
class Leader:
    """One process: caches, memory and applier of its own."""

    api: FakeApi
    clock: HandClock

    def __post_init__(self) -> None:
        self.client = KubeClient(DirectTransport(self.api), self.clock)
        self.observed = Observed(self.client, self.clock, lambda: None)
        self.memory = LeaderMemory(self.clock, 0.0)
        self.applier = Applier(Writes(self.client, self.clock, self.observed))

    async def decide(self) -> Any:
        """Snapshot and plan, of fresh lists."""
        await self.observed.relist()
        self.memory.look(self.observed.nodes.items, self.observed.nodecidrs.items, self.observed.blocks.items)
        snapshot = self.observed.snapshot(self.memory.value(self.observed.pools.items), None, 60.0)
        decided = plan(snapshot, self.clock.now)
        self.memory.remember(decided)
        return snapshot, decided


def ledger(api: FakeApi) -> dict[str, Any]:
    """All that decides who holds an address."""
    kinds = (NODECIDRS, IPBLOCKS)
    return {f"{kind.plural}/{name}": stored.value for kind in kinds for name, stored in api.objects.get(kind.plural, {}).items()}


class Cluster:
    """People and nodes, by what they write to the API server."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.api = FakeApi()
        self.leader = Leader(self.api, self.clock)
        self.client = self.leader.client

    async def begin(self) -> None:
        await self.client.create(IPPOOLS, {"metadata": {"name": "first"}, "spec": POOL})
        await self.client.merge_patch(IPPOOLS, "first", {"status": {"acceptedCIDRs": ["10.0.0.0/26"]}}, subresource="status")
        for name in ("n1", "n2"):
            await self.client.create(NODES, {"metadata": {"name": name}})

    async def happen(self, what: str, name: str, number: int) -> None:
        match what:
            case "report":
                await self.report(name, number)
            case "pool":
                await self.client.merge_patch(IPPOOLS, "first", {"spec": {"disabled": number % 2 == 0}})
            case "node" if name in self.api.objects["nodes"]:
                await self.client.delete(NODES, name)
            case "node":
                await self.client.create(NODES, {"metadata": {"name": name}})
            case "list lost" if name in self.api.objects.get("nodecidrs", {}):
                del self.api.objects["nodecidrs"][name]
            case "row lost" if rows := self.api.objects.get("ipblocks"):
                del rows[sorted(rows)[number % len(rows)]]
            case "time":
                self.clock.now += number * 3

    async def report(self, name: str, number: int) -> None:
        """So many addresses in use of the first blocks, at the present epoch or the one before."""
        stored = self.api.objects.get("nodecidrs", {}).get(name)
        if stored is None:
            return
        meta, spec = stored.value["metadata"], stored.value["spec"]
        used = [{"cidr": block["cidr"], "inUse": min(8, max(0, number - 8 * i)), "cooling": 0} for i, block in enumerate(spec["blocks"])]
        demand = [{"name": "first-ipv4", "pools": spec["pools"], "family": "ipv4", "pending": max(0, number - 8 * len(used)), "burst": 0}]
        status = {
            "observedUID": meta["uid"],
            "observedEpoch": spec["epoch"] - (number % 5 == 4),
            "reportedAt": f"2026-01-01T00:00:00.{self.api.revision:06}Z",
            "blocks": used,
            "demand": demand,
        }
        await self.client.merge_patch(NODECIDRS, name, {"status": status}, subresource="status")


happenings = st.tuples(
    st.sampled_from(["report", "report", "report", "pool", "node", "list lost", "row lost", "time", "time"]),
    st.sampled_from(["n1", "n2"]),
    st.integers(0, 30),
)


async def carried_out_twice(events: list[tuple[str, str, int]], seen: Counter[str]) -> None:
    cluster = Cluster()
    await cluster.begin()
    plans: list[tuple[Any, Any]] = []
    for event in [("time", "", 0), *events]:
        await cluster.happen(*event)
        hung = Leader(cluster.api, cluster.clock)
        hung.memory = cluster.leader.memory
        snapshot, decided = await cluster.leader.decide()
        await hung.observed.relist()
        first = await cluster.leader.applier.apply(decided.actions, snapshot)
        assert set(first.done) == set(decided.actions), first.refused
        after = ledger(cluster.api)
        second = await hung.applier.apply(decided.actions, snapshot)
        assert ledger(cluster.api) == after, f"{event}: {second.done} was done twice"
        seen.update(type(action).__name__ for action in first.done)
        plans.append((snapshot, decided))
        await woken_late(cluster, *plans[-1 - event[2] % len(plans)])


async def woken_late(cluster: Cluster, snapshot: Any, decided: Any) -> None:
    """What a leader writes whose plan was carried out rounds ago: it may claim, which nothing lists; it takes nothing away."""
    before = ledger(cluster.api)
    await Leader(cluster.api, cluster.clock).applier.apply(decided.actions, snapshot)
    after = ledger(cluster.api)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after.keys() - before.keys() if after[name]["spec"].get("blocks")]


def test_a_plan_carried_out_twice_is_carried_out_once() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=share(60), deadline=None, derandomize=True)
    @given(st.lists(happenings, min_size=10, max_size=30))
    def walk(events: list[tuple[str, str, int]]) -> None:
        asyncio.run(carried_out_twice(events, seen))

    walk()
    assert seen.keys() >= {"CreateNodeCIDR", "Claim", "Drain", "Undrain", "Leave", "Free", "Adopt", "DeleteNodeCIDR", "SetPools"}
