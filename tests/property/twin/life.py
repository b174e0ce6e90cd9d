"""The golden twin's half that knows the life of a block (design §5 and §8): what drains, leaves, is adopted or freed, and what is frozen.

By looking at every pair: no index, nothing sorted. Of the core it takes the values, not the logic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from podcidr.core.model import Entry, Node, NodeCIDR, Pool, Report, Snapshot
from podcidr.core.prefix import Prefix
from tests.property.twin.space import owns, touch


@dataclass(eq=False)
class Has:
    """What a node has. `spare`: draining, but need not; `claimed`: by this round."""

    name: str
    node: Node | None
    spec: NodeCIDR | None
    report: Report | None
    keep: list[Entry] = field(default_factory=list)
    spare: list[Entry] = field(default_factory=list)
    adopted: list[Entry] = field(default_factory=list)
    leaving: list[Prefix] = field(default_factory=list)
    claimed: list[Entry] = field(default_factory=list)
    adopts: bool = False

    @property
    def current(self) -> bool:
        told = self.report
        return bool(told and self.spec and told.epoch == self.spec.epoch and told.question in (None, self.spec.question))

    @property
    def all(self) -> list[Entry]:
        listed = self.spec.entries if self.spec else ()
        return list({e.prefix: e for e in (*self.adopted, *listed, *self.claimed)}.values())


class Life:
    """All nodes, each lived through once. `words`: the actions so far, without reasons."""

    def __init__(self, s: Snapshot, now: float) -> None:
        self.s, self.now, self.words = s, now, list[tuple[Any, ...]]()
        entries = [(n.name, e.prefix) for n in s.nodecidrs.values() for e in n.entries]
        self.listed = {p: {name for name, q in entries if p == q} for _, p in entries}
        self.rows = {b.prefix: b for b in s.blocks.values()}
        self.seen = {n.name: n.report for n in s.nodecidrs.values() if n.report and n.report.uid == n.uid}
        self.used = {name: {p for p, u in report.blocks.items() if any(u)} for name, report in self.seen.items()}
        self.frozen = set(self.violated())
        names = sorted({*s.nodes, *s.nodecidrs, *(b.node for b in self.rows.values() if not b.quarantined)})
        self.all = [Has(name, s.nodes.get(name), s.nodecidrs.get(name), self.seen.get(name)) for name in names]
        for has in self.all:
            self.live(has)

    def violated(self) -> Iterator[Prefix]:
        """Blocks of which lists, ledger and reports say that two nodes may use them."""
        known = {*self.listed, *self.rows}
        for p in known:
            owners, row = self.listed.get(p, set()), self.rows.get(p)
            if len(owners) > 1 or (owners and row and (row.quarantined or row.node not in owners)):
                yield p
            if any(p != q and touch(p, q) and (owners or q in self.listed) for q in known):
                yield p
            for name, report in self.seen.items():
                for q, usage in report.blocks.items():
                    within = touch(p, q) and q.length >= p.length and name not in self.listed.get(q, ())
                    if usage.in_use and within and name not in owners | ({row.node} if row else set()):
                        yield p

    def lost(self, has: Has) -> bool:
        since = self.s.memory.gone_since.get(has.name)
        return has.node is None and since is not None and self.now - since >= self.s.lost_node_seconds

    def serves(self, pool: Pool | None, has: Has) -> bool:
        return pool is not None and has.node is not None and pool.node_selector.matches(has.node.labels)

    def automatic(self, has: Has) -> list[Pool]:
        pools = [p for p in self.s.pools.values() if not (p.pinned or p.disabled or p.deleting) and self.serves(p, has)]
        return sorted(pools, key=lambda p: (-p.priority, p.name))

    def must_go(self, has: Has, pool_name: str, uid: str, p: Prefix) -> bool:
        pool = self.s.pools.get(pool_name)
        stays = pool and pool.uid == uid and not (pool.deleting or pool.disabled) and owns(pool, p) and self.serves(pool, has)
        return not (stays and has.spec and not has.spec.deleting)

    def live(self, has: Has) -> None:
        claims = [b for b in self.rows.values() if b.node == has.name and not b.quarantined]
        movable = [b for b in claims if b.prefix not in self.frozen]
        if has.spec is None:
            self.words += [("CreateNodeCIDR", has.name, tuple(p.name for p in self.automatic(has)))] if has.node else []
            self.words += [("Leave", has.name, b.prefix) for b in movable if self.lost(has)]
            return
        if has.node and not has.spec.deleting and has.spec.pools != (automatic := tuple(p.name for p in self.automatic(has))):
            self.words.append(("SetPools", has.name, automatic))
        if has.report and has.report.epoch >= has.spec.epoch and not has.current:
            self.words.append(("RaiseEpoch", has.name, ""))
        for e in has.spec.entries:
            self.live_listed(has, e)
        used, mine = self.used.get(has.name, set()), {e.prefix for e in has.spec.entries}
        for b in movable:
            if b.prefix in mine:
                continue
            if self.lost(has) or (b.nodecidr_uid == has.spec.uid and b.prefix not in used):
                self.words.append(("Leave", has.name, b.prefix))
            else:
                self.adopt(has, self.entry(b.prefix, b.pool, b.pool_uid))
        for p in used - mine - self.frozen:
            row, pools = self.rows.get(p), sorted(name for name, pool in self.s.pools.items() if owns(pool, p))
            if row is None and pools:
                self.adopt(has, self.entry(p, pools[0], self.s.pools[pools[0]].uid))
            elif row and row.quarantined and row.node == has.name and not self.lost(has):
                self.adopt(has, self.entry(p, row.pool, row.pool_uid))
        if (has.node is None or has.spec.deleting) and not (mine or claims or has.adopts) and (self.lost(has) or not used):
            self.words.append(("DeleteNodeCIDR", has.name))

    def live_listed(self, has: Has, e: Entry) -> None:
        assert has.spec
        go = self.must_go(has, e.pool, e.pool_uid, e.prefix) or e.prefix in self.frozen & self.s.memory.confirmed
        if e.prefix not in self.rows and e.prefix not in self.frozen:
            self.adopt(has, e)
        elif e.draining:
            has.leaving += [e.prefix] if self.lost(has) or (has.current and e.prefix not in self.used[has.name]) else []
            has.spare += [] if go or e.prefix in self.frozen or self.s.held else [e]
        elif go:
            self.words.append(("Drain", has.name, e.prefix))
        else:
            has.keep.append(e)

    def entry(self, p: Prefix, pool: str, uid: str) -> Entry:
        known = self.s.pools.get(pool)
        return Entry(p, pool, uid, known.generation if known and known.uid == uid else 1)

    def adopt(self, has: Has, e: Entry) -> None:
        self.words.append(("Adopt", has.name, e.prefix, e.pool, e.pool_uid, e.pool_generation))
        has.adopts = True
        has.adopted += [] if e.draining or self.must_go(has, e.pool, e.pool_uid, e.prefix) else [e]

    def free(self) -> None:
        barred = {*self.frozen, *self.listed, *(p for used in self.used.values() for p in used)}
        for row in self.rows.values() if not self.s.held else ():
            pool, since = self.s.pools.get(row.pool), self.s.memory.quarantined_since.get(row.uid)
            rested = since is not None and self.now - since >= (pool.quarantine_seconds if pool else 300)
            if row.quarantined and row.prefix not in barred and (rested or row.uid in self.s.memory.unused):
                self.words.append(("Free", row.node, row.prefix, row.uid, row.resource_version))
