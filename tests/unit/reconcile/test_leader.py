"""A leader whose caches are behind: what it writes tests what it was decided on, and what it must know it reads anew."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from podcidr.core.actions import Adopt, Claim, Free
from podcidr.core.model import Block, NodeCIDR
from podcidr.core.prefix import parse_prefix
from podcidr.kube.client import KubeClient, Object
from podcidr.kube.errors import Conflict, Invalid
from podcidr.kube.events import EventRecorder
from podcidr.kube.resources import IPBLOCKS, IPPOOLS, NODECIDRS, NODES
from podcidr.kube.transport import BetweenReads, Reply
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.rounds import Rounds, Settings
from podcidr.reconcile.writes import Writes
from tests.simulation.fake_api import DirectTransport, FakeApi
from tests.unit.kube.fakes import VirtualClock

CIDR, NAME = parse_prefix("10.0.0.0/28"), "10-0-0-0-28"
POOL = {"ipv4": {"cidrs": ["10.0.0.0/24"], "blockPrefixLength": 28}, "gateway": "None"}


class Recorded(DirectTransport):
    """Notes what is asked of the server: `GET ippools`, `POST ipblocks` …"""

    def __init__(self, api: FakeApi) -> None:
        super().__init__(api)
        self.asked: list[str] = []

    async def request(
        self, method: str, path: str, *, body: bytes | None, content_type: str | None, timeout_seconds: float, accept: str | None = None
    ) -> Reply:
        plural = next(kind for kind in ("ippools", "ipblocks", "nodecidrs", "nodes", "") if f"/{kind}" in path)
        self.asked.append(f"{method} {plural}")
        return await super().request(method, path, body=body, content_type=content_type, timeout_seconds=timeout_seconds)

    def stream(
        self, path: str, *, timeout_seconds: float, idle_seconds: float, between_reads: BetweenReads | None = None
    ) -> AsyncGenerator[bytes, None]:
        raise AssertionError("nothing is watched here: the caches are as old as their last list")


@dataclass
class Server:
    """An API server, people who write to it, and a leader that has listed once."""

    api: FakeApi = field(default_factory=FakeApi)
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        self.people = KubeClient(DirectTransport(self.api), self.clock)
        self.transport = Recorded(self.api)
        client = KubeClient(self.transport, self.clock)
        self.observed = Observed(client, self.clock, lambda: None)
        self.writes = Writes(client, self.clock, self.observed)
        events, metrics = EventRecorder(client, self.clock, "podcidr-operator", instance="o1"), OperatorMetrics(CollectorRegistry())
        self.rounds = Rounds(client, self.clock, self.observed, events, metrics, Settings())

    async def begin(self) -> None:
        await self.people.create(IPPOOLS, {"metadata": {"name": "default", "finalizers": ["podcidr.io/ledger"]}, "spec": POOL})
        await self.people.merge_patch(IPPOOLS, "default", {"status": {"acceptedCIDRs": ["10.0.0.0/24"]}}, subresource="status")
        for name in ("n1", "n2"):
            await self.people.create(NODES, {"metadata": {"name": name}})
            body = {"metadata": {"name": name, "finalizers": ["podcidr.io/ledger"]}, "spec": {"epoch": 1, "pools": ["default"]}}
            await self.people.create(NODECIDRS, body)
        await self.observed.relist()
        await self.rounds._prepare()
        self.transport.asked.clear()

    def claim(self) -> Claim:
        pool = self.observed.pools.items["default"]
        return Claim("n1", "", CIDR, pool.name, pool.uid, pool.generation)

    async def claimed(self) -> Block:
        return await self.writes.create_block(self.claim(), self.nodecidr("n1").uid)

    def nodecidr(self, name: str) -> NodeCIDR:
        return self.observed.nodecidrs.items[name]

    def stored(self, plural: str, name: str) -> Object | None:
        stored = self.api.objects.get(plural, {}).get(name)
        return stored.value if stored else None


@pytest.fixture
async def server() -> Server:
    server = Server()
    await server.begin()
    return server


class TestWrites:
    async def test_a_block_that_was_written_since_is_not_freed(self, server: Server) -> None:
        block = await server.claimed()
        touched = await server.writes.touch_block(block)
        with pytest.raises(Conflict):
            await server.writes.free(Free("n1", "", CIDR, block.uid, block.resource_version))
        with pytest.raises(Conflict):
            await server.writes.free(Free("n1", "", CIDR, "another", touched.resource_version))
        assert server.stored("ipblocks", NAME)
        await server.writes.free(Free("n1", "", CIDR, touched.uid, touched.resource_version))
        assert not server.stored("ipblocks", NAME)

    async def test_a_block_that_was_written_since_is_not_quarantined(self, server: Server) -> None:
        block = await server.claimed()
        await server.writes.touch_block(block)
        with pytest.raises(Conflict):
            await server.writes.quarantine(block)

    async def test_a_touch_makes_every_other_decision_on_the_block_fail(self, server: Server) -> None:
        block = await server.claimed()
        once = await server.writes.touch_block(block)
        twice = await server.writes.touch_block(once)
        assert block.resource_version < once.resource_version < twice.resource_version

    async def test_a_nodecidr_that_a_block_entered_stays(self, server: Server) -> None:
        decided = server.nodecidr("n1")
        entry = {"cidr": str(CIDR), "pool": "default", "poolUID": "u", "poolGeneration": 1, "state": "Active"}
        await server.people.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2, "blocks": [entry]}})
        with pytest.raises(Conflict):
            await server.writes.delete_nodecidr(decided)
        assert server.stored("nodecidrs", "n1")

    async def test_not_even_one_that_is_marked_already(self, server: Server) -> None:
        await server.people.delete(NODECIDRS, "n1")
        decided = await server.writes.read_nodecidr("n1")
        assert decided
        entry = {"cidr": str(CIDR), "pool": "default", "poolUID": "u", "poolGeneration": 1, "state": "Active"}
        await server.people.merge_patch(NODECIDRS, "n1", {"spec": {"epoch": 2, "blocks": [entry]}})
        with pytest.raises((Conflict, Invalid)):
            await server.writes.delete_nodecidr(decided)
        assert server.stored("nodecidrs", "n1")

    async def test_pools_are_read_as_they_are_now(self, server: Server) -> None:
        await server.people.merge_patch(IPPOOLS, "default", {"spec": {"disabled": True}})
        assert not server.observed.pools.items["default"].disabled, "nothing is watched"
        assert (await server.writes.read_pools())["default"].disabled


class TestReads:
    async def test_pools_are_listed_before_blocks(self, server: Server) -> None:
        """The geometry rule: a block that was made between the two lists is in the second."""
        await server.observed.relist()
        assert server.transport.asked.index("GET ippools") < server.transport.asked.index("GET ipblocks")
        assert server.transport.asked.count("GET ipblocks") == 1

    async def test_blocks_are_listed_before_the_first_claim_from_a_pool_generation(self, server: Server) -> None:
        """Somebody else has claimed all that the cache holds for free, by blocks of the geometry before."""
        await server.people.merge_patch(IPPOOLS, "default", {"spec": {"ipv4": {"cidrs": ["10.0.0.0/28"]}}})
        spec = {"cidr": "10.0.0.0/28", "pool": "gone", "poolUID": "g", "node": "n9", "nodeCIDRUID": "x"}
        await server.people.create(IPBLOCKS, {"metadata": {"name": NAME}, "spec": spec})
        server.observed.pools.observe(await server.people.get(IPPOOLS, "default"))
        await server.rounds._round()
        asked = server.transport.asked
        assert "GET ipblocks" in asked
        assert "POST ipblocks" not in asked

    async def test_a_pool_whose_blocks_the_cache_lacks_keeps_its_finalizer(self, server: Server) -> None:
        pool = server.observed.pools.items["default"]
        spec = {"cidr": "10.0.0.0/28", "pool": "default", "poolUID": pool.uid, "node": "n1", "nodeCIDRUID": "x"}
        await server.people.create(IPBLOCKS, {"metadata": {"name": NAME}, "spec": spec})
        await server.people.delete(IPPOOLS, "default")
        server.observed.pools.observe(await server.people.get(IPPOOLS, "default"))
        await server.rounds.keeper.keep()
        assert (server.stored("ippools", "default") or {})["metadata"]["finalizers"] == ["podcidr.io/ledger"]
        await server.people.delete(IPBLOCKS, NAME)
        await server.observed.blocks.relist()
        await server.rounds.keeper.keep()
        assert server.stored("ippools", "default") is None

    async def test_a_violation_that_only_the_caches_show_drains_nothing(self, server: Server) -> None:
        """The block went from one node to the other; the watch of NodeCIDRs has brought it, that of IPBlocks not."""
        await server.claimed()
        await server.people.delete(IPBLOCKS, NAME)
        pool = server.observed.pools.items["default"]
        row = {"cidr": str(CIDR), "pool": pool.name, "poolUID": pool.uid, "node": "n2", "nodeCIDRUID": server.nodecidr("n2").uid}
        await server.people.create(IPBLOCKS, {"metadata": {"name": NAME}, "spec": row})
        entry = {"cidr": str(CIDR), "pool": pool.name, "poolUID": pool.uid, "poolGeneration": 1, "state": "Active"}
        await server.people.merge_patch(NODECIDRS, "n2", {"spec": {"epoch": 2, "blocks": [entry]}})
        await server.observed.nodecidrs.relist()
        assert server.observed.blocks.items[NAME].node == "n1"
        await server.rounds._round()
        assert [e["state"] for e in (server.stored("nodecidrs", "n2") or {})["spec"]["blocks"]] == ["Active"]


async def test_adopting_what_is_claimed_writes_to_it(server: Server) -> None:
    block = await server.claimed()
    await server.observed.relist()
    snapshot = server.rounds._snapshot()
    await server.rounds._applier.apply([Adopt("n1", "", CIDR, "default", server.claim().pool_uid, 1)], snapshot)
    with pytest.raises(Conflict):
        await server.writes.quarantine(block)
