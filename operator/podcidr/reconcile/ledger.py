"""When the ledger itself is suspected (deleted by hand, etcd restored from a backup): nothing is claimed before the nodes have told.

Every Ready node is asked by raising its NodeCIDR's epoch: a report counted at that epoch or a later one is newer than the
suspicion, if it repeats the question that was written with it: an epoch of before a restore may be the same. Until a node has told,
its list is left as it is: the agent may go by a later one that is lost, and must not be brought to an older one by our going past it.
A node that tells of such a later one gets its list back Draining. What specs and reports then show in use is adopted. Silent nodes are
waited for three minutes at most: after a restore an agent's watch may tell nothing for 150 s, until it is begun anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from podcidr.core.model import Node, NodeCIDR
from podcidr.kube.lease import LeaseHistory

STALE_LEASE_SECONDS = 60.0
WAIT_SECONDS = 180.0


@dataclass
class LedgerWatch:
    """Whether claims are held back, and for whose report."""

    why: str | None = None
    since: float = 0.0
    silent: tuple[str, ...] = ()
    """Nodes that had not reported when the wait ended."""
    _asked: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def suspect(self, why: str, now: float) -> None:
        """Begin to hold claims back (or begin anew)."""
        self.why, self.since, self.silent = why, now, ()
        self._asked.clear()

    def judge_lease(self, previous: LeaseHistory | None, now: float) -> None:
        """A Lease that is missing or old: nobody guarded the ledger for a while."""
        if previous is None:
            self.suspect("the Lease was missing", now)
        elif previous.unrenewed_seconds > STALE_LEASE_SECONDS:
            self.suspect(f"the Lease was last renewed {previous.unrenewed_seconds:.0f} s ago", now)

    def to_ask(self, nodes: dict[str, Node], nodecidrs: dict[str, NodeCIDR]) -> list[NodeCIDR]:
        """NodeCIDRs of Ready nodes that were not asked yet."""
        if self.why is None:
            return []
        ready = (nodecidrs[name] for name, node in sorted(nodes.items()) if node.ready and name in nodecidrs)
        return [nodecidr for nodecidr in ready if not self._is_asked(nodecidr)]

    def asked(self, nodecidr: NodeCIDR) -> None:
        """The node's epoch was raised to this one, with this question."""
        self._asked[nodecidr.name] = nodecidr.uid, nodecidr.question, nodecidr.epoch

    def silent_now(self, nodecidrs: Mapping[str, NodeCIDR]) -> frozenset[str]:
        """Nodes whose lists nobody may write yet, but for the question: they may go by later ones that are lost."""
        if self.why is None:
            return frozenset()
        return frozenset(name for name, nodecidr in nodecidrs.items() if not (nodecidr.overtaken or self._has_told(nodecidr)))

    def needs_list(self, now: float, listed_at: float) -> bool:
        """The wait is over, and what is known of the silent is older: their last word may be still on its way to our watch."""
        end = self.since + WAIT_SECONDS
        return self.why is not None and now >= end > listed_at

    def update(self, nodes: dict[str, Node], nodecidrs: dict[str, NodeCIDR], now: float, listed_at: float) -> None:
        """End the wait when every Ready node has reported, or it has lasted long enough (by lists made at `listed_at`)."""
        if self.why is None:
            return
        waiting = [name for name, node in sorted(nodes.items()) if node.ready and not self._has_told(nodecidrs.get(name))]
        if not waiting or min(now, listed_at) >= self.since + WAIT_SECONDS:
            self.why, self.silent = None, tuple(waiting)

    def _has_told(self, nodecidr: NodeCIDR | None) -> bool:
        return nodecidr is not None and self._is_asked(nodecidr) and nodecidr.has_answered(self._asked[nodecidr.name][2])

    def _is_asked(self, nodecidr: NodeCIDR) -> bool:
        """Whether our question stands: a NodeCIDR made again, or put back once more, has another one or none."""
        return self._asked.get(nodecidr.name, ())[:2] == (nodecidr.uid, nodecidr.question)
