"""A whole cluster as values: what the API, the operator and the agents would do with a plan, on a clock that stands still.

Faithful where safety rests on it: uid and epoch are tested, an agent obeys only what it has seen, a crash may come
between any two steps of a round. Caches are never behind here; that is the models' subject.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from podcidr.core.actions import Action, Adopt, Claim, CreateNodeCIDR, DeleteNodeCIDR, Free, Leave
from podcidr.core.model import AUTOMATIC, Block, Demand, Entry, Key, Memory, Node, NodeCIDR, Pool, Report, Snapshot, Usage, unusable
from podcidr.core.plan import Plan, automatic_pools, plan
from podcidr.core.prefix import Family, Prefix, block_name
from podcidr.core.window import TargetWindow
from podcidr.reconcile.edits import NodeEdit, edits

Address = tuple[Family, int]
Wish = tuple[str, ...]
"""What a pod asks for: the pools it names (none = automatic). It gets one address of every family of one of them, or none."""


class Crash(Exception):
    """The operator died between two writes."""


@dataclass
class Agent:
    """One node's agent and plugin: pods take the lowest free address of the blocks that the agent has published."""

    name: str
    cooldown_seconds: float = 0.0
    view: NodeCIDR | None = None
    pods: dict[int, tuple[Wish, tuple[Address, ...]]] = field(default_factory=dict)
    cooling: dict[Address, float] = field(default_factory=dict)
    stuck: set[int] = field(default_factory=set)
    """Pods that are bound here and whose ADD never runs: they wait, whatever there is."""
    burst: int = 0
    host_network_pods: int = 0

    def want(self, wish: Wish, count: int, now: float) -> None:
        """Pods come or go until so many ask for this; the youngest go first."""
        mine = [pod for pod, (asked, _) in self.pods.items() if asked == wish]
        for pod in mine[count:]:
            _, addresses = self.pods.pop(pod)
            if self.cooldown_seconds:
                self.cooling |= dict.fromkeys(addresses, now + self.cooldown_seconds)
        following = max(self.pods, default=0) + 1
        for pod in range(following, following + count - len(mine)):
            self.pods[pod] = (wish, ())

    @property
    def in_use(self) -> list[Address]:
        return [address for _, addresses in self.pods.values() for address in addresses]

    @property
    def pending(self) -> int:
        return sum(not addresses for _, addresses in self.pods.values())

    def assign(self, pools: dict[str, Pool], now: float) -> None:
        """The plugin: pods that wait take addresses of Active blocks of the view."""
        self.cooling = {address: until for address, until in self.cooling.items() if until > now}
        if self.view is None:
            return
        taken = {*self.in_use, *self.cooling}
        for pod, (wish, addresses) in sorted(self.pods.items()):
            listed = [pools[name] for name in wish or self.view.pools if name in pools]
            for pool in listed if not (addresses or pod in self.stuck) else ():
                found = [next(self._free(pool, family, taken), None) for family in sorted(pool.spaces)]
                if None not in found:
                    self.pods[pod] = (wish, tuple(address for address in found if address))
                    taken.update(self.pods[pod][1])
                    break

    def _free(self, pool: Pool, family: Family, taken: set[Address]) -> Iterator[Address]:
        assert self.view
        for entry in sorted(self.view.entries):
            if entry.draining or entry.pool != pool.name or entry.prefix.family != family:
                continue
            barred = unusable(pool, entry.prefix)
            for number in range(entry.prefix.address, entry.prefix.last + 1):
                if (family, number) not in taken and number not in barred:
                    yield family, number

    def report(self, shapes: Iterable[Prefix], pools: dict[str, Pool], stamp: str) -> Report | None:
        """What it counts, at the uid and epoch that it has seen. `shapes`: blocks by which it counts what it holds."""
        if self.view is None:
            return None
        blocks = {entry.prefix: Usage() for entry in self.view.entries}
        known = sorted(shapes, key=lambda prefix: -prefix.length)
        for address in self.in_use:
            prefix = _block_around(address, known)
            blocks[prefix] = blocks.get(prefix, Usage())._replace(in_use=blocks.get(prefix, Usage()).in_use + 1)
        for address in self.cooling:
            prefix = _block_around(address, known)
            blocks[prefix] = blocks.get(prefix, Usage())._replace(cooling=blocks.get(prefix, Usage()).cooling + 1)
        return Report(self.view.uid, self.view.epoch, blocks, self._demand(pools), self.host_network_pods, stamp)

    def _demand(self, pools: dict[str, Pool]) -> tuple[Demand, ...]:
        """Each list of pools in every family that one of them serves: a pod may need both."""
        assert self.view
        found = []
        for wish in sorted({wish for wish, _ in self.pods.values()}):
            names = wish or self.view.pools
            families = sorted({family for name in names if name in pools for family in pools[name].spaces})
            waiting = sum(asked == wish and not addresses for asked, addresses in self.pods.values())
            found += [Demand(names, family, waiting, self.burst) for family in families]
        return tuple(found)


def _block_around(address: Address, shapes: list[Prefix]) -> Prefix:
    family, number = address
    single = Prefix(family, number, 32 if family is Family.IPV4 else 128)
    return next((prefix for prefix in shapes if prefix.holds(single)), single)


@dataclass
class World:
    """API objects, agents, one leader's memory."""

    pools: dict[str, Pool] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    nodecidrs: dict[str, NodeCIDR] = field(default_factory=dict)
    blocks: dict[str, Block] = field(default_factory=dict)
    agents: dict[str, Agent] = field(default_factory=dict)
    now: float = 10_000.0
    watching_since: float = 0.0
    held: str | None = None
    lost_node_seconds: float = 600.0
    window: TargetWindow = field(default_factory=TargetWindow)
    quarantined_since: dict[str, float] = field(default_factory=dict)
    gone_since: dict[str, tuple[float, str]] = field(default_factory=dict)
    confirmed: frozenset[Prefix] = frozenset()
    unused: frozenset[str] = frozenset()
    released: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each IPBlock in quarantine: since when and for how long, as the pool's spec then had it."""
    _made: int = 0

    def add_node(self, name: str, *, max_pods: int | None = None, labels: dict[str, str] | None = None) -> Agent:
        """A Node, and the agent on it."""
        self.nodes[name] = Node(name, labels or {}, max_pods, ready=True)
        return self.agents.setdefault(name, Agent(name))

    def snapshot(self) -> Snapshot:
        """As the leader would hand it to the planner."""
        self._look()
        memory = Memory(
            watching_since=self.watching_since,
            highest=self.window.highest(self._window_seconds, self.now),
            needed_at=self.window.needed_at,
            quarantined_since=self.quarantined_since,
            gone_since={name: since for name, (since, _) in self.gone_since.items()},
            unused=self.unused,
            confirmed=self.confirmed,
        )
        return Snapshot(
            dict(self.pools), dict(self.nodes), dict(self.nodecidrs), dict(self.blocks), memory, (), self.held, self.lost_node_seconds
        )

    def _look(self) -> None:
        resting = [block.uid for block in self.blocks.values() if block.quarantined]
        self.quarantined_since = {uid: self.quarantined_since.get(uid, self.now) for uid in resting}
        gone = {*self.nodecidrs, *(block.node for block in self.blocks.values())} - self.nodes.keys()
        self.gone_since = {name: self._absent(name) for name in gone}

    def _absent(self, name: str) -> tuple[float, str]:
        nodecidr = self.nodecidrs.get(name)
        stamp = nodecidr.report.reported_at if nodecidr and nodecidr.report else ""
        seen = self.gone_since.get(name)
        return seen if seen and seen[1] == stamp else (self.now, stamp)

    def _window_seconds(self, key: Key) -> float:
        automatic = [pool.scaling.stabilization_window_seconds for pool in automatic_pools(self.pools)]
        if key.pools == AUTOMATIC:
            return max(automatic, default=300.0)
        return self.pools[key.pools].scaling.stabilization_window_seconds if key.pools in self.pools else 300.0

    # Rounds

    def round(self, crash_after: int | None = None) -> Plan:
        """Observe, plan, apply. With `crash_after` the leader dies after so many writes, and another begins."""
        decided = plan(self.snapshot(), self.now)
        self.window.record(decided.targets, decided.needed, self.now)
        self.confirmed = frozenset(prefix for violation in decided.suspects for prefix in violation.prefixes) | frozenset(
            prefix for violation in decided.violations for prefix in violation.prefixes
        )
        try:
            self.apply(decided.actions, crash_after)
        except Crash:
            self.window, self.watching_since = TargetWindow(), self.now
            self.quarantined_since, self.gone_since, self.confirmed = {}, {}, frozenset()
        return decided

    def agents_report(self, names: Iterable[str] | None = None) -> None:
        """Agents see the present list, assign, and report; those of nodes that exist, unless named."""
        for name in sorted(self.nodes if names is None else names):
            self.agent_sees(name)
            self.agent_reports(name)

    def agent_sees(self, name: str) -> None:
        """Publishes the list: Draining blocks are out of the file from here on."""
        if name in self.nodecidrs:
            self.agents[name].view = self.nodecidrs[name]

    def agent_reports(self, name: str) -> None:
        """Pods are served by what is published, then counted. The report tests the uid."""
        agent = self.agents[name]
        agent.assign(self.pools, self.now)
        self._made += 1
        report = agent.report({block.prefix for block in self.blocks.values() if block.node == name}, self.pools, str(self._made))
        nodecidr = self.nodecidrs.get(name)
        if nodecidr and report and report.uid == nodecidr.uid:
            self.nodecidrs[name] = replace(nodecidr, report=report)

    def settle(self, rounds: int = 12) -> list[Action]:
        """Rounds and reports until nothing more is planned; the actions of all of them."""
        done: list[Action] = []
        for _ in range(rounds):
            self.agents_report()
            actions = self.round().actions
            if not actions:
                return done
            done += actions
        raise AssertionError(f"not settled after {rounds} rounds: {actions}")

    # What the operator and the API do with actions

    def apply(self, actions: Iterable[Action], crash_after: int | None = None) -> None:
        """All writes of a round in their order."""
        actions = list(actions)
        for count, write in enumerate(self._writes(actions)):
            if crash_after is not None and count >= crash_after:
                raise Crash
            write()

    def _writes(self, actions: list[Action]) -> Iterator[Callable[[], None]]:
        for action in actions:
            if isinstance(action, CreateNodeCIDR):
                yield partial(self._create_nodecidr, action)
        for edit in edits(actions, dict(self.nodecidrs)).values():
            yield from (partial(self._secure, claim, edit) for claim in edit.claims)
            yield from (partial(self._secure, adopt, edit) for adopt in edit.adopts)
            yield partial(self._patch, edit)
            for leave in edit.leaves:
                yield partial(self._quarantine, leave)
        for action in actions:
            if isinstance(action, Leave) and action.node not in self.nodecidrs:
                yield partial(self._quarantine, action)
            if isinstance(action, Free):
                yield partial(self._free, action)
            if isinstance(action, DeleteNodeCIDR):
                yield partial(self._delete_nodecidr, action)

    def _uid(self) -> str:
        self._made += 1
        return f"uid-{self._made}"

    def _create_nodecidr(self, action: CreateNodeCIDR) -> None:
        assert action.node not in self.nodecidrs, action
        self.nodecidrs[action.node] = NodeCIDR(action.node, self._uid(), 1, action.pools)

    def _secure(self, action: Claim | Adopt, edit: NodeEdit) -> None:
        name = block_name(action.prefix)
        block = self.blocks.get(name)
        if block is None:
            self.blocks[name] = Block(name, self._uid(), action.prefix, action.pool, action.pool_uid, action.node, edit.decided.uid)
        else:  # CREATE would have failed for a claim
            assert isinstance(action, Adopt), action
            assert block.node == action.node, action
            self.blocks[name] = replace(block, quarantined=False, touches=block.touches + 1, resource_version=block.resource_version + 1)

    def _patch(self, edit: NodeEdit) -> None:
        present = self.nodecidrs[edit.decided.name]
        assert (present.uid, present.epoch) == (edit.decided.uid, edit.decided.epoch)
        pools = next((tuple(op["value"]) for op in edit.operations() if op["path"] == "/spec/pools"), present.pools)
        self.nodecidrs[edit.decided.name] = replace(present, epoch=edit.epoch, pools=pools, entries=tuple(edit.entries()))

    def _quarantine(self, action: Leave) -> None:
        block = self.blocks.get(block_name(action.prefix))
        if block and block.node == action.node:
            self.blocks[block.name] = replace(block, quarantined=True, resource_version=block.resource_version + 1)
            pool = self.pools.get(block.pool)
            self.released[block.name] = (self.now, pool.quarantine_seconds if pool else 300.0)

    def _free(self, action: Free) -> None:
        block = self.blocks.pop(block_name(action.prefix))
        assert (block.uid, block.resource_version) == (action.uid, action.resource_version)
        since, seconds = self.released[block.name]
        assert self.now - since >= seconds, f"{action}: it rested {self.now - since} s of {seconds}"

    def _delete_nodecidr(self, action: DeleteNodeCIDR) -> None:
        assert not self.nodecidrs.pop(action.node).entries, action


def entries_of(world: World, node: str) -> dict[Prefix, Entry]:
    """What the node lists, by block."""
    return {entry.prefix: entry for entry in world.nodecidrs[node].entries}
