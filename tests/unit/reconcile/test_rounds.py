"""What a round must have listed before it claims: the geometry rule, with events that come at bad moments."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from podcidr.api import names
from podcidr.kube.client import KubeClient
from podcidr.kube.errors import Invalid
from podcidr.kube.events import EventRecorder
from podcidr.kube.lease import LeaseHistory
from podcidr.metrics import OperatorMetrics
from podcidr.reconcile.apply import Doubt
from podcidr.reconcile.memory import LONGEST_STILL_SECONDS, REFUSALS
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.rounds import Rounds, Settings
from tests.simulation.fake_api import DirectTransport, FakeApi
from tests.unit.kube.fakes import VirtualClock

CIDR = "10.64.0.0/24"
OTHER = "10.65.0.0/24"


def pool(name: str, length: int, cidrs: list[str], accepted: list[str]) -> dict[str, Any]:
    meta = {"name": name, "finalizers": [names.FINALIZER]}
    spec = {"ipv4": {"cidrs": cidrs, "blockPrefixLength": length}, "allocation": "Automatic"}
    return {"metadata": meta, "spec": spec, "status": {"acceptedCIDRs": accepted}}


class Stand:
    """A leader with caches that only we move on, in a cluster with one node, and a CIDR that two pools name."""

    def __init__(self) -> None:
        self.api, clock = FakeApi(), VirtualClock()
        self.clock = clock
        client = KubeClient(DirectTransport(self.api), clock)
        self.observed = Observed(client, clock, lambda: None)
        metrics = OperatorMetrics()
        events = EventRecorder(client, clock, names.MANAGER_OPERATOR)
        self.rounds = Rounds(client, clock, self.observed, events, metrics, Settings())
        self.rounds.ledger.judge_lease(LeaseHistory("other", 1.0), clock.monotonic())
        self.api.put(names.PLURAL_IPPOOLS, "old", pool("old", 28, [CIDR], [CIDR]))
        self.api.put(names.PLURAL_IPPOOLS, "new", pool("new", 26, [CIDR], []))

    def node_appears(self) -> None:
        ready = [{"type": "Ready", "status": "True"}]
        self.api.put("nodes", "n1", {"metadata": {"name": "n1"}, "status": {"allocatable": {"pods": "10"}, "conditions": ready}})

    def another_leader_moves_the_cidr(self) -> None:
        """It has claimed from the old pool for n2 when the CIDR goes to the new one."""
        spec = {"cidr": "10.64.0.0/28", "pool": "old", "poolUID": "x", "node": "n2", "nodeCIDRUID": "y"}
        self.api.put(names.PLURAL_IPBLOCKS, "10-64-0-0-28", {"metadata": {"name": "10-64-0-0-28"}, "spec": spec})
        self.api.put(names.PLURAL_IPPOOLS, "old", self._edited("old", [OTHER], [OTHER]))
        self.api.put(names.PLURAL_IPPOOLS, "new", self._edited("new", [CIDR], [CIDR]))

    def _edited(self, name: str, cidrs: list[str], accepted: list[str]) -> dict[str, Any]:
        stored = json.loads(json.dumps(self.api.find(names.PLURAL_IPPOOLS, name)))
        stored["spec"]["ipv4"]["cidrs"], stored["status"]["acceptedCIDRs"] = cidrs, accepted
        return dict(stored)

    def pool_event(self, name: str) -> None:
        """What kopf brings."""
        stored = self.api.find(names.PLURAL_IPPOOLS, name)
        assert stored is not None
        self.observed.pools.observe(stored)

    async def round(self) -> None:
        await self.rounds._round()

    def listed(self) -> set[str]:
        """Blocks in the lists of nodes."""
        return {entry["cidr"] for n in self.api.values(names.PLURAL_NODECIDRS) for entry in n["spec"].get("blocks", ())}


@pytest.fixture
def stand() -> Stand:
    return Stand()


async def test_a_cidr_accepted_since_the_ledger_was_listed_is_not_claimed_from_blindly(stand: Stand) -> None:
    await stand.round()
    stand.another_leader_moves_the_cidr()
    stand.pool_event("new")  # its generation is the one we prepared for; of block and old pool we know nothing
    stand.node_appears()
    await stand.observed.nodes.relist()
    for _ in range(3):
        await stand.round()
    assert stand.listed(), "the node has got a block"
    assert "10.64.0.0/26" not in stand.listed(), "it overlaps the other leader's block"


async def test_a_node_whose_patch_is_always_refused_takes_no_blocks_from_others(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.node_appears()
    await stand.round()  # makes the NodeCIDR
    patches = 0

    async def refuse(_name: str, _operations: Any) -> Any:
        nonlocal patches
        patches += 1
        raise Invalid("admission webhook says no", status=422)

    monkeypatch.setattr(stand.rounds._applier._writes, "patch_nodecidr", refuse)
    for _ in range(20):
        await stand.round()
    assert patches == REFUSALS, "no time has passed since"
    assert len(stand.api.values(names.PLURAL_IPBLOCKS)) <= REFUSALS
    monkeypatch.undo()
    stand.clock.now += LONGEST_STILL_SECONDS
    await stand.round()
    assert stand.listed(), "tried again, and written"


async def test_a_node_that_has_seen_a_later_epoch_makes_the_ledger_suspect(stand: Stand) -> None:
    """The API server's data are older than what it told its agent: whatever else was written since is gone from it too."""
    stand.node_appears()
    await stand.round()
    stored = stand.api.find(names.PLURAL_NODECIDRS, "n1")
    assert stored is not None
    seen = {"observedUID": stored["metadata"]["uid"], "observedEpoch": stored["spec"]["epoch"] + 1, "blocks": []}
    stand.api.put(names.PLURAL_NODECIDRS, "n1", {**stored, "status": seen})
    await stand.observed.nodecidrs.relist()
    await stand.round()
    assert "later epoch" in (stand.rounds.ledger.why or "")
    assert not stand.listed(), "nothing is claimed before the nodes have told"


async def test_a_list_older_than_one_before_makes_the_ledger_suspect(stand: Stand) -> None:
    stand.node_appears()
    await stand.round()
    stand.observed.nodecidrs.regressed = True
    await stand.round()
    assert "older version" in (stand.rounds.ledger.why or "")
    assert not stand.listed(), "nothing is claimed before the nodes have told"


async def test_a_doubt_is_followed_by_fresh_lists(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    async def doubt(*_: Any) -> Any:
        stand.rounds.halt()
        raise Doubt("no answer, and none to the read after it")

    stand.node_appears()
    monkeypatch.setattr(stand.rounds._applier, "apply", doubt)
    leading = asyncio.create_task(stand.rounds.run(LeaseHistory("other", 1.0)))
    await stand.clock.advance(60)
    await leading
    assert stand.rounds._relist


async def test_a_list_tells_of_the_moment_when_it_was_asked_for(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a silent node said later, while the list was on its way, may not be in it."""
    relist: Callable[[], Awaitable[Any]] = stand.observed.relist

    async def slow() -> Any:
        stand.clock.now += 7
        return await relist()

    monkeypatch.setattr(stand.observed, "relist", slow)
    began = stand.clock.now
    await stand.round()
    assert stand.rounds._listed_at == began


async def test_who_begins_to_lead_has_watched_nothing_yet(stand: Stand) -> None:
    """Else it would take blocks back by a window of targets that it has not seen."""
    stand.clock.now += 1000
    leading = asyncio.create_task(stand.rounds.run(LeaseHistory("other", 1.0)))
    await asyncio.sleep(0)
    assert stand.rounds.memory.watching_since == stand.clock.now
    leading.cancel()
    with suppress(asyncio.CancelledError):
        await leading


async def test_who_is_asked_is_asked_by_a_question_alone(stand: Stand) -> None:
    stand.node_appears()
    await stand.round()
    await stand.round()  # a block enters
    before = stand.api.find(names.PLURAL_NODECIDRS, "n1")
    stand.rounds.begun_anew()
    for _ in range(3):
        await stand.round()
    after = stand.api.find(names.PLURAL_NODECIDRS, "n1")
    assert before is not None
    assert after is not None
    assert after["spec"] == {**before["spec"], "epoch": before["spec"]["epoch"] + 1, "question": after["spec"]["question"]}
    assert stand.rounds.ledger.why, "it has not answered"


async def test_a_nodecidr_at_its_last_epoch_is_left_alone(stand: Stand) -> None:
    stand.node_appears()
    await stand.round()
    stored = stand.api.find(names.PLURAL_NODECIDRS, "n1")
    assert stored is not None
    stand.api.put(names.PLURAL_NODECIDRS, "n1", {**stored, "spec": {**stored["spec"], "epoch": names.MAX_COUNT}})
    await stand.observed.nodecidrs.relist()
    stand.rounds.ledger.suspect("a test", stand.clock.monotonic())
    before = stand.api.revision
    for _ in range(3):
        await stand.round()
    assert stand.api.revision == before, "not even asked to report"


async def test_what_comes_between_list_and_plan_is_listed_for(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.node_appears()
    await stand.round()  # makes the NodeCIDR
    keep = stand.rounds._keep_pools

    async def keep_and_see() -> None:
        await keep()
        stand.another_leader_moves_the_cidr()
        stand.pool_event("new")
        stand.pool_event("old")

    monkeypatch.setattr(stand.rounds, "_keep_pools", keep_and_see)
    await stand.round()
    monkeypatch.undo()
    await stand.round()
    assert "10.64.0.0/26" not in stand.listed()


async def test_the_ledger_was_listed_for_the_pools_before_it(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.node_appears()
    await stand.round()  # makes the NodeCIDR
    stand.rounds._relist = True
    relist = stand.observed.blocks.relist

    async def relist_and_miss_the_move() -> None:
        await relist()
        monkeypatch.undo()
        stand.another_leader_moves_the_cidr()
        stand.pool_event("new")
        stand.pool_event("old")

    monkeypatch.setattr(stand.observed.blocks, "relist", relist_and_miss_the_move)
    await stand.round()
    assert "10.64.0.0/26" not in stand.listed()


async def test_pools_that_never_rest_keep_no_other_waiting(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody edits a pool in a loop: no list is ever of the pools as they are."""
    stand.node_appears()
    relist: Callable[[], Awaitable[Any]] = stand.observed.relist

    async def relist_and_change() -> Any:
        found = await relist()
        stored = stand.api.find(names.PLURAL_IPPOOLS, "new")
        assert stored is not None
        stand.api.put(names.PLURAL_IPPOOLS, "new", {**stored, "spec": {**stored["spec"], "priority": stand.api.revision}})
        stand.pool_event("new")
        return found

    monkeypatch.setattr(stand.observed, "relist", relist_and_change)
    for _ in range(3):
        await stand.round()
    assert stand.listed()


async def test_who_joins_while_the_pools_are_kept_is_not_waited_for(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.rounds.ledger.judge_lease(None, stand.rounds.clock.monotonic())
    keep = stand.rounds._keep_pools

    async def keep_and_join() -> None:
        await keep()
        stand.node_appears()
        await stand.observed.nodes.relist()

    monkeypatch.setattr(stand.rounds, "_keep_pools", keep_and_join)
    for _ in range(4):
        await stand.round()
    assert stand.listed(), "the node has a block, though its agent has said nothing"
