"""What a leader has watched. Its own, in no object: a new leader starts over, and only waits longer for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from podcidr.core.model import AUTOMATIC, Block, Key, Memory, Node, NodeCIDR, Pool, Snapshot
from podcidr.core.plan import Plan, automatic_pools
from podcidr.core.prefix import Prefix
from podcidr.core.window import TargetWindow
from podcidr.kube.clock import Clock, parse_rfc3339

DEFAULT_WINDOW_SECONDS = 300.0
REFUSALS = 3
"""In a row, until a node is left alone: one or two are a plan made on an old version."""
LONGEST_STILL_SECONDS = 60.0


@dataclass(slots=True)
class _Gone:
    since: float
    reported_at: str


@dataclass
class LeaderMemory:
    """Kept up to date by a look at each snapshot; handed to the planner as a value."""

    clock: Clock
    watching_since: float
    targets: TargetWindow = field(default_factory=TargetWindow)
    quarantined_since: dict[str, float] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    confirmed: frozenset[Prefix] = frozenset()
    _gone: dict[str, _Gone] = field(default_factory=dict)
    _refused: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By node: how often in a row, and until when it is left alone."""

    def look(self, nodes: Mapping[str, Node], nodecidrs: Mapping[str, NodeCIDR], blocks: Mapping[str, Block]) -> None:
        """Note what is new: quarantines begun, nodes that went or gave a sign of life."""
        now = self.clock.monotonic()
        present = {block.uid: block for block in blocks.values()}
        if self.unused:  # claims that never entered; one that was adopted since is in a list, and may have been used there
            listed = {entry.prefix for nodecidr in nodecidrs.values() for entry in nodecidr.entries}
            self.unused = {uid for uid in self.unused if uid in present and present[uid].prefix not in listed}
        resting = {uid: block for uid, block in present.items() if block.quarantined}
        self.quarantined_since = {uid: self.quarantined_since.get(uid, now - self._rested_seconds(block)) for uid, block in resting.items()}
        names = {*nodecidrs, *(block.node for block in blocks.values())} - nodes.keys()
        self._refused = {name: tries for name, tries in self._refused.items() if name in nodecidrs}
        self._gone = {name: self._absent(name, nodecidrs.get(name), now) for name in names}

    def _rested_seconds(self, block: Block) -> float:
        """How long a quarantine had lasted when we first saw it, by the operators' own time stamp."""
        if not block.released_at:
            return 0.0
        return max(0.0, (self.clock.wall() - parse_rfc3339(block.released_at)).total_seconds())

    def _absent(self, name: str, nodecidr: NodeCIDR | None, now: float) -> _Gone:
        stamp = nodecidr.report.reported_at if nodecidr and nodecidr.report else ""
        if nodecidr and nodecidr.said_gone:
            return _Gone(float("-inf"), stamp)
        known = self._gone.get(name)
        return known if known and known.reported_at == stamp and known.since > float("-inf") else _Gone(now, stamp)

    def refused(self, nodes: Iterable[str]) -> None:
        """The API server refused to write these NodeCIDRs. One that is always refused must not be tried at full speed: each try
        claims a block first, and takes it from others.
        """
        for node in nodes:
            count = self._refused.get(node, (0, 0.0))[0] + 1
            seconds = min(LONGEST_STILL_SECONDS, 2.0 ** (count - REFUSALS)) if count >= REFUSALS else 0.0
            self._refused[node] = count, self.clock.monotonic() + seconds

    def written(self, nodes: Iterable[str]) -> None:
        """These were written."""
        for node in nodes:
            self._refused.pop(node, None)

    def remember(self, plan: Plan) -> None:
        """Take in what a round found the nodes to need."""
        self.targets.record(plan.targets, plan.needed, self.clock.monotonic())

    def value(self, pools: Mapping[str, Pool]) -> Memory:
        """As the planner reads it."""
        return Memory(
            watching_since=self.watching_since,
            highest=self.targets.highest(_Windows(pools), self.clock.monotonic()),
            needed_at=self.targets.needed_at,
            quarantined_since=self.quarantined_since,
            gone_since={name: gone.since for name, gone in self._gone.items()},
            unused=frozenset(self.unused),
            confirmed=self.confirmed,
            refusing=frozenset(node for node, (_, until) in self._refused.items() if until > self.clock.monotonic()),
        )

    def waits_for_time(self, snapshot: Snapshot, plan: Plan) -> bool:
        """Whether something will become due by time alone: a quarantine, a window, a lost node."""
        highest = snapshot.memory.highest
        shrinkable = any(highest.get(key, 0) > target for key, target in plan.targets.items())
        last_blocks = any(target == 0 for target in plan.targets.values())
        young = self.clock.monotonic() - self.watching_since < max(
            (pool.scaling.stabilization_window_seconds for pool in snapshot.pools.values()), default=0.0
        )
        return bool(self.quarantined_since or self._gone or shrinkable or last_blocks or young or snapshot.held or snapshot.memory.refusing)


class _Windows:
    """Each class's stabilization window: its pool's; the longest of the automatic pools (nodes differ in their first)."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        automatic = [pool.scaling.stabilization_window_seconds for pool in automatic_pools(pools)]
        self._automatic = max(automatic, default=DEFAULT_WINDOW_SECONDS)

    def __call__(self, key: Key) -> float:
        if key.pools == AUTOMATIC:
            return self._automatic
        pool = self._pools.get(key.pools)
        return pool.scaling.stabilization_window_seconds if pool else DEFAULT_WINDOW_SECONDS
