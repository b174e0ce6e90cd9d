"""The laws, under whatever people, nodes and crashes do, in any order."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from podcidr.core.actions import Claim, Drain, Free, Leave, Undrain
from podcidr.core.model import Key, Pool, Snapshot
from podcidr.core.plan import Plan, plan
from podcidr.core.prefix import Family, Prefix, block_name
from podcidr.core.selectors import LabelSelector
from podcidr.core.usage import usages
from podcidr.core.vacancy import Occupied, Vacancy
from tests.property import build
from tests.property.effort import share
from tests.property.test_twin import difference
from tests.property.world import Wish, World, entries_of

NODES = ("n1", "n2", "n3", "n4")
POOLS = ("first", "dual", "extra", "gold")
AUTOMATIC: tuple[str, ...] = ()
WISHES: list[Wish] = [AUTOMATIC, AUTOMATIC, ("gold",), ("gold", "dual"), ("first",), ("extra", "dual")]
DUAL4, DUAL6 = ["10.0.1.0/27", "10.0.1.32/27"], ["fd00::/124", "fd00::10/124"]
EXTRA4, EXTRA6 = ["10.0.3.0/28", "10.0.3.16/28"], ["fd00::100/123", "fd00::120/123"]
nodes = st.sampled_from(NODES)
pools = st.sampled_from(POOLS)


def first_pools(min_free: int) -> list[Pool]:
    """Small ones, so that scarcity is as common as plenty."""
    scaling = {"minFreeAddresses": min_free, "stabilizationWindowSeconds": 60, "lastBlockDelaySeconds": 120}
    return [
        build.pool("first", ["10.0.0.0/27", "10.0.0.64/27"], priority=5, block4=28, scaling=scaling, quarantineSeconds=30),
        build.pool("dual", DUAL4, DUAL6, block4=29, block6=125, gateway="None", scaling=scaling, quarantineSeconds=30),
        build.pool("extra", EXTRA4, EXTRA6, block4=30, block6=124, scaling=scaling, quarantineSeconds=30),
        build.pool("gold", "10.0.2.0/27", block4=29, gateway="Block", allocation="Pinned", scaling=scaling, quarantineSeconds=30),
    ]


class Cluster(RuleBasedStateMachine):
    """Events in any order; after each, what must never be is looked for in the world itself, not in the planner's own eyes."""

    @initialize(min_free=st.sampled_from([0, 2, 8]), cooldown=st.sampled_from([0.0, 20.0]))
    def begin(self, min_free: int, cooldown: float) -> None:
        self.world = World()
        self.whole = {pool.name: pool for pool in first_pools(min_free)}
        self.world.pools = dict(self.whole)
        for name in NODES[:3]:
            self.world.add_node(name, max_pods=20).cooldown_seconds = cooldown
        self.cooldown = cooldown
        self.disturbed: set[str] = set()
        self.was_scarce = False

    # What people do

    @rule(name=nodes, wish=st.sampled_from(WISHES), count=st.integers(0, 24))
    def scale(self, name: str, wish: Wish, count: int) -> None:
        if name in self.world.agents and name in self.world.nodes:
            self.world.agents[name].want(wish, count, self.world.now)

    @rule(name=pools, disabled=st.booleans())
    def disable(self, name: str, disabled: bool) -> None:
        self.change(name, disabled=disabled)

    @rule(name=pools, chosen=st.booleans())
    def select(self, name: str, chosen: bool) -> None:
        self.change(name, node_selector=LabelSelector() if chosen else LabelSelector.parse({"matchLabels": {"none": "such"}}))

    @rule(name=st.sampled_from(["first", "dual", "extra"]), cut=st.sampled_from([(), (Family.IPV4,), (Family.IPV6,)]), keep=st.booleans())
    def cut(self, name: str, cut: tuple[Family, ...], keep: bool) -> None:
        """A CIDR of one family is removed, the first or the last, or all are there again: pairs of blocks come apart so."""
        spaces = self.whole[name].spaces
        few = {f: replace(space, cidrs=space.cidrs[:1] if keep else space.cidrs[1:]) for f, space in spaces.items() if f in cut}
        self.change(name, spaces={**spaces, **few})

    @rule(name=pools)
    def recreate(self, name: str) -> None:
        """Deleted (its finalizer waits for its blocks), or made again under its name."""
        present = self.world.pools.get(name)
        if present is None:
            self.world.pools[name] = replace(self.whole[name], uid=f"{name}-{self.world.now}")
        elif any(block.pool_uid == present.uid for block in self.world.blocks.values()):
            self.change(name, deleting=True)
        else:
            del self.world.pools[name]

    def change(self, name: str, **values: object) -> None:
        if pool := self.world.pools.get(name):
            self.world.pools[name] = replace(pool, generation=pool.generation + 1, **values)  # type: ignore[arg-type]

    # What nodes do

    @rule(name=nodes)
    def node_joins(self, name: str) -> None:
        self.world.add_node(name, max_pods=20).cooldown_seconds = self.cooldown

    @rule(name=nodes)
    def node_is_deleted(self, name: str) -> None:
        """Only the object: its agent and pods live on, and report."""
        self.disturbed.add(name)
        self.world.nodes.pop(name, None)

    @rule(name=nodes)
    def machine_dies(self, name: str) -> None:
        self.disturbed.add(name)
        self.world.nodes.pop(name, None)
        if agent := self.world.agents.get(name):
            agent.pods, agent.cooling, agent.view = {}, {}, None

    @rule(name=nodes)
    def agent_sees(self, name: str) -> None:
        if name in self.world.agents:
            self.world.agent_sees(name)

    @rule(name=nodes)
    def pods_start(self, name: str) -> None:
        """By the plugin alone, on what the agent has published."""
        if name in self.world.agents:
            self.world.agents[name].assign(self.world.pools, self.world.now)

    @rule(name=nodes, stuck=st.booleans())
    def adds_never_run(self, name: str, stuck: bool) -> None:
        """Of the pods that wait now; or what kept them is mended."""
        if agent := self.world.agents.get(name):
            agent.stuck = {pod for pod, (_, addresses) in agent.pods.items() if not addresses} if stuck else set()

    @rule(names=st.sets(nodes))
    def agents_report(self, names: set[str]) -> None:
        """At the epoch that each has seen, however old."""
        for name in sorted(names & self.world.agents.keys()):
            self.world.agent_reports(name)

    @rule()
    def all_report(self) -> None:
        self.world.agents_report(self.world.agents)

    # What goes wrong

    @rule(writes=st.integers(0, 6))
    def operator_crashes(self, writes: int) -> None:
        self.play(crash_after=writes)

    @rule(name=nodes)
    def nodecidr_is_deleted_by_hand(self, name: str) -> None:
        nodecidr = self.world.nodecidrs.get(name)
        if nodecidr and all(block_name(entry.prefix) in self.world.blocks for entry in nodecidr.entries):
            del self.world.nodecidrs[name]
            self.disturbed.add(name)

    @precondition(lambda self: self.listed())
    @rule(data=st.data())
    def ipblock_is_deleted_by_hand(self, data: st.DataObject) -> None:
        self.world.blocks.pop(block_name(data.draw(st.sampled_from(sorted(self.listed())))), None)

    # What the operator does

    @rule(seconds=st.sampled_from([1, 15, 61, 130, 650]))
    def time_passes(self, seconds: float) -> None:
        """No node lives on for long whose Node is deleted and whose reports do not arrive: that is what lost means."""
        self.world.now += seconds
        if seconds > self.world.lost_node_seconds:
            for name in self.world.agents.keys() - self.world.nodes.keys() - self.world.nodecidrs.keys():
                self.machine_dies(name)
        self.world.agents_report(self.world.agents)

    @rule()
    def operator_plans(self) -> None:
        self.play()

    @rule()
    def held(self) -> None:
        """While the ledger is suspect nothing is given and nothing freed."""
        self.world.held = "the Lease was missing"
        actions = plan(self.world.snapshot(), self.world.now).actions
        assert not [action for action in actions if isinstance(action, Claim | Undrain | Free)]
        self.world.held = None

    def play(self, crash_after: int | None = None) -> None:
        snapshot = self.world.snapshot()
        now = self.world.now
        assert plan(snapshot, now) == plan(reversed_order(snapshot), now), "the order of the input matters"
        assert difference(snapshot, now) is None
        for action in plan(snapshot, now).actions:
            if isinstance(action, Leave):
                held = self.held_by(action.node)
                assert not any(action.prefix.holds(single) for single in held), f"{action}: addresses of it are held"
        done = self.world.round(crash_after)
        if crash_after is None:
            following = plan(self.world.snapshot(), now)
            assert not set(done.actions) & set(following.actions), "applied twice"

    def listed(self) -> set[Prefix]:
        return {entry.prefix for nodecidr in self.world.nodecidrs.values() for entry in nodecidr.entries}

    def held_by(self, name: str) -> list[Prefix]:
        agent = self.world.agents.get(name)
        held = [*agent.in_use, *agent.cooling] if agent else []
        return [Prefix(family, number, 32 if family is Family.IPV4 else 128) for family, number in held]

    @invariant()
    def no_address_twice(self) -> None:
        if hasattr(self, "world"):
            held = [address for name in self.world.agents for address in self.held_by(name)]
            assert len(held) == len(set(held)), sorted(held)

    @invariant()
    def every_address_held_lies_in_a_block_of_its_node(self) -> None:
        """Where nobody deleted Node or NodeCIDR: what an agent has not heard of yet must not have left."""
        for name in self.world.nodecidrs.keys() - self.disturbed if hasattr(self, "world") else ():
            blocks = [entry.prefix for entry in self.world.nodecidrs[name].entries]
            for single in self.held_by(name):
                assert any(block.holds(single) for block in blocks), f"{name} holds {single}, which it no longer lists"

    @invariant()
    def no_two_blocks_overlap(self) -> None:
        if hasattr(self, "world"):
            blocks = [entry.prefix for nodecidr in self.world.nodecidrs.values() for entry in nodecidr.entries]
            blocks += [block.prefix for block in self.world.blocks.values() if block.quarantined]
            for one, other in pairwise(sorted(blocks)):
                assert not one.overlaps(other), (one, other)

    @invariant()
    def every_address_of_a_pool_is_free_claimed_or_quarantined(self) -> None:
        """Conservation: the counts that people see are those of a look at every address, and none has two owners."""
        if not hasattr(self, "world"):
            return
        counted = usages(self.world.pools, self.world.nodecidrs, self.world.blocks)
        for (name, family), usage in counted.items():
            pool = self.world.pools[name]
            states = Counter(state for block in accepted_blocks(pool, family) for state in self.states(pool, block))
            seen = (states["claimed"], states["quarantined"], states["free"], states["reserved"])
            assert (usage.blocks_claimed, usage.blocks_quarantined) >= seen[:2], name
            assert usage.blocks_claimed + usage.blocks_quarantined - usage.blocks_outside == sum(seen[:2]), name
            assert (usage.blocks_total, usage.blocks_free, usage.blocks_reserved) == (sum(seen), *seen[2:]), name

    def states(self, pool: Pool, block: Prefix) -> list[str]:
        """All that hold of a block: it must be exactly one."""
        rows = [row for row in self.world.blocks.values() if row.prefix.overlaps(block)]
        assert len(rows) <= 1, rows
        if rows:
            return ["quarantined" if rows[0].quarantined else "claimed"]
        return ["free" if pool.addresses(block) else "reserved"]

    def teardown(self) -> None:
        """Left alone, every cluster comes to rest, and rests; on the way nobody claims what he has just given back."""
        if not hasattr(self, "world"):
            return
        given: set[tuple[str, str]] = set()
        for _ in range(40):
            self.world.agents_report(self.world.agents)
            planned = self.world.round()
            if not planned.actions:
                break
            self.nothing_flaps(planned, given)
            self.world.now += 31
        else:
            raise AssertionError(f"never at rest: {planned.actions}")
        for name in self.world.nodes:
            self.nobody_waits_in_vain(name)
        for key, target in planned.targets.items():
            self.has_its_target(key, target)

    def nothing_flaps(self, planned: Plan, given: set[tuple[str, str]]) -> None:
        """In scarcity idle nodes give at once, and may have to ask again."""
        if planned.scarce:
            given.clear()
            self.was_scarce = True
        for action in planned.actions if not self.was_scarce else ():
            if isinstance(action, Claim | Undrain):
                pool = action.pool if isinstance(action, Claim) else entries_of(self.world, action.node)[action.prefix].pool
                assert (action.node, pool) not in given, action
            if isinstance(action, Drain) and action.reason.startswith("empty"):
                given.add((action.node, entries_of(self.world, action.node)[action.prefix].pool))

    def served(self, name: str, wish: Wish) -> list[Pool]:
        """Pools of which a pod of the node may get an address."""
        pools = [pool for pool in self.world.pools.values() if (pool.name in wish if wish else not pool.pinned)]
        return [pool for pool in pools if pool.usable and pool.node_selector.matches(self.world.nodes[name].labels)]

    def nobody_waits_in_vain(self, name: str) -> None:
        """A pod waits only if no pool of its has in each family an address on the node or a free block.

        Nor has another node an idle one that nobody there needs.
        """
        agent = self.world.agents[name]
        for wish in {wish for pod, (wish, addresses) in agent.pods.items() if not addresses and pod not in agent.stuck}:
            for pool in self.served(name, wish):
                assert not all(self.vacant(name, pool, each) or self.has_room(pool, each) for each in pool.spaces), (name, wish, pool.name)
                # One address of each family or none: where another family is full too, an idle block would not help.
                if len(pool.spaces) == 1:
                    assert not (idle := self.idle_elsewhere(name, pool)), (name, wish, pool.name, idle)

    def vacant(self, name: str, pool: Pool, family: Family) -> int:
        """Free addresses of the node's Active blocks, by the world's own count."""
        mine = [
            e.prefix for e in self.world.nodecidrs[name].entries if e.pool == pool.name and e.prefix.family is family and not e.draining
        ]
        return sum(pool.addresses(block) - sum(block.holds(single) for single in self.held_by(name)) for block in mine)

    def idle_elsewhere(self, name: str, pool: Pool) -> list[str]:
        """Blocks of the pool, of one family, that other nodes hold, nobody uses, and nobody who waits there needs."""
        found = []
        for other in self.world.nodecidrs.values():
            held = self.held_by(other.name)
            entries = [entry for entry in other.entries if entry.pool_uid == pool.uid]
            free = {e.prefix: pool.addresses(e.prefix) - sum(e.prefix.holds(single) for single in held) for e in entries}
            waiting = self.waiting_for(other.name, pool)
            for entry in entries if other.name != name else ():
                is_needed = sum(free.values()) - free[entry.prefix] < waiting and not entry.draining
                if not is_needed and not any(entry.prefix.holds(single) for single in held):
                    found.append(f"{other.name}: {entry.prefix}")
        return found

    def waiting_for(self, name: str, pool: Pool) -> int:
        """Pods without an address that may have one of the pool."""
        pods = self.world.agents[name].pods.values() if name in self.world.agents and name in self.world.nodes else ()
        return sum(not addresses and pool in self.served(name, wish) for wish, addresses in pods)

    def has_its_target(self, key: Key, target: int) -> None:
        """Or nothing more can be claimed."""
        listed = self.served(key.node, (key.pools,) if key.pools else ()) if key.node in self.world.nodes else []
        pools = [pool for pool in listed if key.family in pool.spaces]
        active = [entry for entry in self.world.nodecidrs[key.node].entries if not entry.draining and entry.prefix.family is key.family]
        have = sum(pool.addresses(entry.prefix) for entry in active for pool in pools if pool.name == entry.pool)
        taken = have - sum(self.vacant(key.node, pool, key.family) for pool in pools)
        pods = sum(max(0, min(self.vacant(key.node, pool, each) for each in pool.spaces)) for pool in listed)
        can_grow = any(all(self.has_room(pool, each) for each in pool.spaces) for pool in pools)
        assert min(have, taken + pods) >= target or not can_grow, (key, have, taken, pods, target)

    def has_room(self, pool: Pool, family: Family) -> bool:
        """By trying every block of the pool."""
        return any("free" in self.states(pool, block) for block in accepted_blocks(pool, family))


def accepted_blocks(pool: Pool, family: Family) -> list[Prefix]:
    """All that may be claimed, reserved or not."""
    space = pool.spaces[family]
    step = 1 << ((32 if family is Family.IPV4 else 128) - space.block_length)
    cidrs = [cidr for cidr in space.cidrs if cidr in pool.accepted]
    return [Prefix(family, address, space.block_length) for cidr in cidrs for address in range(cidr.address, cidr.last + 1, step)]


def reversed_order(snapshot: Snapshot) -> Snapshot:
    """The same objects, told in another order."""
    kinds = ("pools", "nodes", "nodecidrs", "blocks")
    changed: Any = {kind: dict(reversed(list(getattr(snapshot, kind).items()))) for kind in kinds}
    return replace(snapshot, **changed)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=share(300), stateful_step_count=50, deadline=None, derandomize=True)


NODE_EVENTS = ["see", "start", "start", "report", "report", "0 pods", "5 pods", "5 pods"]
EVENTS = [*((event, "n1") for event in NODE_EVENTS), ("see", "n2"), ("report", "n2"), ("5 pods", "n2")]
EVENTS += [("plan", "")] * 6 + [("disable", ""), ("enable", ""), ("wait", "")]


@settings(max_examples=share(300), deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 40.0]))
def test_no_block_leaves_before_its_agent_has_heard_and_said_so(random: Random, cooldown: float) -> None:
    """Two nodes, three small blocks, no window, no quarantine: only the epochs of list and report stand between two owners.

    Long random walks: the orders that matter are six or eight steps deep, and short examples never get there.
    """
    world = World()
    scaling = {"minFreeAddresses": 0, "minBlocksPerNode": 0, "stabilizationWindowSeconds": 0, "lastBlockDelaySeconds": 0}
    pool = build.pool("first", ["10.0.0.0/30", "10.0.0.8/29"], block4=30, gateway="None", scaling=scaling, quarantineSeconds=0)
    world.pools["first"] = pool
    for name in ("n1", "n2"):
        world.add_node(name).cooldown_seconds = cooldown
    world.settle()
    walked: list[tuple[str, str]] = []
    for _ in range(80):
        walked.append(random.choice(EVENTS))
        step(world, pool, *walked[-1])
        for agent in world.agents.values():
            listed = [entry.prefix for entry in world.nodecidrs[agent.name].entries]
            for _, address in (*agent.in_use, *agent.cooling):
                assert any(block.address <= address <= block.last for block in listed), walked


def step(world: World, pool: Pool, event: str, name: str) -> None:
    """One thing happens."""
    match event.split():
        case ["see"]:
            world.agent_sees(name)
        case ["start"]:  # the plugin alone: the agent has not counted yet
            world.agents[name].assign(world.pools, world.now)
        case ["report"]:
            world.agent_reports(name)
        case [count, "pods"]:
            world.agents[name].want(AUTOMATIC, int(count), world.now)
        case ["plan"]:
            world.round()
        case ["wait"]:
            world.now += 21
        case _:
            world.pools["first"] = replace(pool, generation=world.pools["first"].generation + 1, disabled=event == "disable")


counts = st.lists(st.integers(0, 40), min_size=3, max_size=3)


@settings(max_examples=share(60), deadline=None, derandomize=True)
@given(counts, counts, st.sampled_from([0, 2, 8]), st.sampled_from([100, 80]), st.integers(25, 28))
def test_demand_that_holds_still_is_met_and_never_grows_after_it_shrank(
    before: list[int], after: list[int], min_free: int, percent: int, length: int
) -> None:
    """Plenty for all of them (/25) or for some only (/28)."""
    world = World()
    scaling = {"stabilizationWindowSeconds": 60, "minFreeAddresses": min_free, "highUtilizationPercent": percent}
    cidrs = [f"10.0.{index}.0/{length}" for index in range(2)]
    world.pools["first"] = build.pool("first", cidrs, block4=29, gateway="None", scaling=scaling, quarantineSeconds=30)
    for name, count in zip(NODES, before, strict=False):
        world.add_node(name).want(AUTOMATIC, count, world.now)
    shrunk: set[str] = set()
    scarce = False
    for turn in range(80):
        if turn == 20:
            for name, count in zip(NODES, after, strict=False):
                world.agents[name].want(AUTOMATIC, count, world.now)
        world.now += 7
        world.agents_report()
        planned = world.round()
        scarce = scarce or bool(planned.scarce)
        for action in planned.actions if turn > 21 else ():
            # In scarcity idle nodes give at once, and may have to ask again.
            assert scarce or not (isinstance(action, Claim | Undrain) and action.node in shrunk), action
            shrunk |= {action.node} if isinstance(action, Drain) else set()
    assert planned.actions == (), planned.actions
    free = Vacancy(world.pools["first"], Family.IPV4, Occupied(world.snapshot())).best(())
    for key, target in planned.targets.items():
        pool, entries = world.pools["first"], world.nodecidrs[key.node].entries
        assert free is None or sum(pool.addresses(entry.prefix) for entry in entries if not entry.draining) >= target
    assert free is None or not any(agent.pending for agent in world.agents.values())


def test_demand_that_holds_still_never_grows_after_it_shrank() -> None:
    world = World()
    world.pools["first"] = build.pool("first", "10.0.0.0/24", scaling={"stabilizationWindowSeconds": 60})
    agent = world.add_node("n1")
    agent.want(AUTOMATIC, 100, world.now)
    world.settle()
    agent.want(AUTOMATIC, 20, world.now)
    kinds: list[type] = []
    for _ in range(60):
        world.now += 7
        world.agents_report()
        kinds += [type(action) for action in world.round().actions]
    assert Drain in kinds
    assert not {Claim, Undrain} & set(kinds)
    assert len(world.nodecidrs["n1"].entries) == 2


@settings(max_examples=share(100), deadline=None, derandomize=True)
@given(counts, counts, st.lists(st.integers(0, 9), min_size=3, max_size=3))
def test_in_scarcity_nobody_keeps_what_he_does_not_need(before: list[int], after: list[int], stuck: list[int]) -> None:
    """Eight blocks of eight for three nodes; pods come, stop, and leave some behind whose ADD never runs.

    As long as a pod waits nobody holds an empty block that his own pods that wait could do without; and who gave one asks for none.
    """
    world = World()
    world.pools["first"] = build.pool("first", "10.0.0.0/26", block4=29, gateway="None", quarantineSeconds=30)
    for name, count, left in zip(NODES, before, stuck, strict=False):
        agent = world.add_node(name)
        agent.want(AUTOMATIC, count, world.now)
        agent.stuck = set(range(1_000, 1_000 + left))
        agent.pods |= dict.fromkeys(agent.stuck, (AUTOMATIC, ()))
    gave: set[str] = set()
    for turn in range(60):
        if turn == 20:
            for name, count in zip(NODES, after, strict=False):
                world.agents[name].want(AUTOMATIC, count, world.now)
        world.now += 7
        world.agents_report()
        planned = world.round()
        gave = gave if planned.scarce and turn > 21 else set()
        for action in planned.actions:
            assert not (isinstance(action, Claim | Undrain) and action.node in gave), action
            gave |= {action.node} if isinstance(action, Drain) else set()
    assert planned.actions == (), planned.actions
    if any(not addresses and pod not in agent.stuck for agent in world.agents.values() for pod, (_, addresses) in agent.pods.items()):
        for agent in world.agents.values():
            blocks = [entry.prefix for entry in world.nodecidrs[agent.name].entries]
            used = {block: sum(block.address <= number <= block.last for _, number in agent.in_use) for block in blocks}
            free = {block: world.pools["first"].addresses(block) - used[block] for block in blocks}
            assert not [block for block in blocks if not used[block] and sum(free.values()) - free[block] >= agent.pending], (agent, blocks)
