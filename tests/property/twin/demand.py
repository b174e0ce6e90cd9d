"""The golden twin's classes: what uses, waits for and may have which blocks of a node, and the target that follows."""

from dataclasses import dataclass, field

from podcidr.core.model import Demand, Entry, Key, Pool
from podcidr.core.prefix import Family, Prefix
from tests.property.twin.life import Has, Life
from tests.property.twin.space import addresses


@dataclass(eq=False)
class Class:
    """Blocks of a node and family that grow and shrink together. `named`: pods name an automatic pool by itself."""

    has: Has
    key: Key
    pools: list[Pool]
    named: bool
    entries: list[Entry] = field(default_factory=list)
    pending: int = 0
    burst: int = 0
    instead: list[Pool] = field(default_factory=list)
    grew: bool = False


class Needs(Life):
    """The numbers of a class, by counting."""

    def usage(self, has: Has, p: Prefix) -> tuple[int, int]:
        return has.report.blocks.get(p, (0, 0)) if has.report else (0, 0)

    def addresses(self, c: Class) -> int:
        return sum(addresses(self.s.pools[e.pool], e.prefix) for e in c.entries)

    def taken(self, c: Class) -> int:
        return sum(sum(self.usage(c.has, e.prefix)) for e in c.entries)

    def vacant(self, has: Has, pool: Pool, family: Family) -> int:
        """Free addresses of the node's Active blocks of a pool and family."""
        mine = [e.prefix for e in (*has.keep, *has.adopted) if e.pool == pool.name and e.prefix.family is family]
        return sum(addresses(pool, p) - sum(self.usage(has, p)) for p in mine)

    def capacity(self, c: Class) -> int:
        """What is free counts as far as whole pods can have it: one address of every family that their pool serves."""
        listed = c.pools if c.key.pools else self.automatic(c.has)
        pods = sum(max(0, min(self.vacant(c.has, pool, family) for family in pool.spaces)) for pool in listed)
        return min(self.addresses(c), self.taken(c) + pods)

    def need(self, c: Class) -> int:
        return c.pending + self.taken(c)

    def floor(self, c: Class) -> int:
        wanted = c.pools[0].scaling.min_blocks_per_node
        return 0 if c.pools[0].pinned == (c.key.pools == "") else (wanted if wanted is not None else int(not c.pools[0].pinned))

    def target(self, c: Class) -> int:
        scaling, need, most = c.pools[0].scaling, self.need(c), c.has.node.max_pods if c.has.node else None
        if c.named or (need == 0 and self.floor(c) == 0):
            return need
        headroom = max(scaling.min_free_addresses, min(c.burst, scaling.max_free_addresses))
        wanted = need + headroom
        while wanted * scaling.high_utilization_percent < need * 100:
            wanted += 1
        cooling = sum(self.usage(c.has, e.prefix)[1] for e in c.entries)
        cap = wanted if most is None else most - (c.has.report.host_network_pods if c.has.report else 0) + cooling
        return max(need, min(wanted, cap))

    def can_grow(self, c: Class) -> bool:
        raise NotImplementedError

    def classes_of(self, has: Has) -> list[Class]:
        assert has.spec
        found: dict[Key, Class] = {}

        def of(pool: Pool, family: Family, name: str) -> Class:
            key = Key(has.name, name, family)
            return found.setdefault(key, Class(has, key, [pool], bool(name) and not pool.pinned))

        for family in Family:
            for pool in self.automatic(has):
                if family in pool.spaces and pool not in of(pool, family, "").pools:
                    of(pool, family, "").pools.append(pool)
        for pool in self.s.pools.values():
            if pool.pinned and pool.usable and pool.scaling.min_blocks_per_node and self.serves(pool, has):
                for family in pool.spaces:
                    of(pool, family, pool.name)
        active = [*has.keep, *has.adopted]
        for e in (*active, *has.spare):
            pool = self.s.pools[e.pool]
            of(pool, e.prefix.family, pool.name if pool.pinned else "").entries += [e] if e in active else []
        for demand in has.report.demand if has.report else ():
            automatic = found.get(Key(has.name, "", demand.family))
            if demand.pools == has.spec.pools and automatic:
                automatic.pending, automatic.burst = automatic.pending + demand.pending, demand.burst
                continue
            pools = [self.s.pools[name] for name in demand.pools if name in self.s.pools and self.s.pools[name].usable]
            pools = [pool for pool in pools if demand.family in pool.spaces and self.serves(pool, has) and (demand.pending or demand.burst)]
            for pool in pools:
                c = of(pool, demand.family, pool.name)
                c.entries = [e for e in active if e.pool == pool.name and e.prefix.family is demand.family] if c.named else c.entries
            self.share_out(demand, [found[Key(has.name, pool.name, demand.family)] for pool in pools])
        return list(found.values())

    def share_out(self, demand: Demand, classes: list[Class]) -> None:
        """Pods wait for the first pool of their list that can grow; those before it serve what they have room for."""
        left, chosen = demand.pending, next((c for c in classes if self.can_grow(c)), None)
        for c in classes[: classes.index(chosen)] if chosen else classes if len(classes) > 1 else []:
            served = max(0, min(left, self.capacity(c) - self.need(c)))
            c.pending, left = c.pending + served, left - served
        if classes:
            last = chosen or classes[0]
            last.pending += left
            lands = next(c for c in classes if c is last or self.capacity(c) > self.need(c))
            lands.burst = max(lands.burst, demand.burst)
            last.instead += [c.pools[0] for c in classes[1:]] if left and not chosen and len(classes) > 1 else []
