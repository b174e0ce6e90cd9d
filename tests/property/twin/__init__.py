"""The golden twin: the planner and allocator once more (design §4), slow and obvious, for the real one to be compared with.

It tries every address and every block: no index, no sorted interval, no heap, nothing kept up to date. Of the core it takes
the values, not the logic. What it says are the actions, without reasons, and the numbers of the classes.
"""

from collections.abc import Callable, Iterable

from podcidr.core.model import Entry, Pool, Snapshot
from podcidr.core.prefix import Family, Prefix
from tests.property.twin.demand import Class, Needs
from tests.property.twin.life import Has
from tests.property.twin.space import addresses, best


class Twin(Needs):
    """One plan: `words`, `targets`, `pending`, `scarce`."""

    def __init__(self, s: Snapshot, now: float) -> None:
        super().__init__(s, now)
        self.scarce: set[tuple[str, Family]] = set()
        self.classes: list[Class] = []
        for has in self.all:
            self.classes += self.classes_of(has) if has.node and has.spec and not has.spec.deleting else []
        self.grow(lambda c: c.pending > 0 and self.capacity(c) < self.need(c), pending=True)
        self.grow(lambda c: self.capacity(c) < self.target(c) or len(c.entries) < self.floor(c), pending=False)
        for c in sorted(self.classes, key=lambda c: c.key):
            self.shrink(c)
        self.words += [("Leave", has.name, p) for has in self.all for p in has.leaving]
        self.free()
        self.targets = {c.key: self.target(c) for c in self.classes if not c.named and (c.entries or self.target(c))}
        self.pending = {c.key: c.pending for c in self.classes if c.pending}

    def at_cap(self, has: Has, pool: Pool, family: Family) -> bool:
        limit = pool.scaling.max_blocks_per_node
        mine = [e for e in has.all if e.pool == pool.name and e.prefix.family is family]
        return len(has.all) >= 1024 or (limit is not None and len(mine) >= limit)

    def best(self, pool: Pool, family: Family, held: Iterable[Entry] = ()) -> Prefix | None:
        taken = {*self.s.services, *self.rows, *self.listed, *(p for used in self.used.values() for p in used)}
        taken |= {
            c for other in self.s.pools.values() if other is not pool for s in other.spaces.values() for c in s.cidrs if c in other.accepted
        }
        taken |= {p for has in self.all for p in (*(has.node.addresses if has.node else ()), *(e.prefix for e in has.claimed))}
        return best(pool, family, [e.prefix for e in held], taken)

    def may_have(self, has: Has, pool: Pool, family: Family) -> bool:
        if any(e.pool == pool.name and e.prefix.family is family for e in has.spare):
            return True
        return not self.s.held and not self.at_cap(has, pool, family) and self.best(pool, family) is not None

    def needs(self, has: Has, pool: Pool, family: Family) -> list[Family]:
        """Pods get an address of every family of the pool or none: a block of one is no use where another has as little or less."""
        return [f for f in Family if f in pool.spaces and self.vacant(has, pool, f) <= self.vacant(has, pool, family)]

    def least(self, has: Has, pool: Pool) -> Family:
        return min(pool.spaces, key=lambda family: (self.vacant(has, pool, family), family))

    def can_grow(self, c: Class) -> bool:
        return all(self.may_have(c.has, c.pools[0], family) for family in self.needs(c.has, c.pools[0], self.least(c.has, c.pools[0])))

    def grow(self, is_short: Callable[[Class], bool], *, pending: bool) -> None:
        """One block at a time, for the class that has the fewest addresses."""
        waiting = [c for c in self.classes if not c.has.adopts and is_short(c)]
        while waiting:
            c = min(waiting, key=lambda c: (self.capacity(c), c.key))
            if not (is_short(c) and self.take_one(c, pending=pending)):
                waiting.remove(c)

    def take_one(self, c: Class, *, pending: bool) -> bool:
        has, wanted = c.has, self.need(c) if pending else self.target(c)
        tries = [(pool, c.key.family) for pool in c.pools]
        if self.capacity(c) < wanted <= self.addresses(c):  # whole pods can't have them: other families lack
            tries = [(pool, self.least(has, pool)) for pool in (c.pools if c.key.pools else self.automatic(has))]
        able = [
            (pool, family)
            for pool, family in tries
            if all(self.may_have(has, pool, f) and (pending or (pool.name, f) not in self.scarce) for f in self.needs(has, pool, family))
        ]
        spares = [e for e in has.spare if (e.pool, e.prefix.family) in [(pool.name, family) for pool, family in able]]
        for e in sorted(spares, key=lambda e: (e.prefix in has.leaving, e.prefix))[:1]:
            has.spare.remove(e)
            has.leaving = [p for p in has.leaving if p != e.prefix]
            return self.give(has, e._replace(draining=False), "Undrain", self.s.pools[e.pool].generation)
        mine = {(e.pool, e.prefix.family) for e in (*has.keep, *has.adopted)}
        if able and len(able[0][0].spaces) > 1 and able[0][0].name not in [name for name, _ in mine]:
            halves = [(p, f) for p, f in able if (p.name, f) not in mine and p.name in [name for name, _ in mine]]
            able = [*halves, *able]  # rather than begin with another pool it completes one
        for pool, family in able:
            if p := self.best(pool, family, has.all):
                has.claimed.append(Entry(p, pool.name, pool.uid, pool.generation))
                return self.give(has, has.claimed[-1], "Claim", pool.name, pool.uid, pool.generation)
        for pool, family in [*tries, *((pool, self.least(has, pool)) for pool in c.instead)] if pending and not self.s.held else []:
            for f in self.needs(has, pool, family) if pool.usable else []:
                if not self.may_have(has, pool, f) and not self.at_cap(has, pool, f):
                    self.scarce.add((pool.name, f))
        return False

    def give(self, has: Has, e: Entry, kind: str, *more: object) -> bool:
        self.words.append((kind, has.name, e.prefix, *more))
        has.keep.append(e)
        for c in self.classes:
            if c.has is has and c.key.family is e.prefix.family and e.pool in [pool.name for pool in c.pools]:
                c.entries, c.grew = [*c.entries, e], True
        return True

    def shrink(self, c: Class) -> None:
        has, key, scaling, memory = c.has, c.key, c.pools[0].scaling, self.s.memory
        if c.grew or c.named or has.adopts or not has.report or not has.current:
            return
        guests = [o for o in self.classes if o.named and o.pending and o.has is has and not key.pools]
        whole = [o for o in self.classes if o.has is has and o.key.pools == key.pools]
        names = [pool.name for pool in c.pools]
        scarce = [name for name in names if (name, key.family) in self.scarce]
        watched = self.now - memory.watching_since >= scaling.stabilization_window_seconds
        if not scarce and (not watched or any(o.key.family is key.family for o in guests)):
            return
        least = {o: max(memory.highest.get(o.key, 0), self.target(o)) for o in whole}
        if scarce:  # guests that find room count in the class whose blocks they use
            least = {o: self.need(o) + sum(self.seated(g) for g in guests if g.key.family is o.key.family) for o in whole}
            least |= {o: self.need(o) for o in guests}
        empty = [e for e in c.entries if not any(self.usage(has, e.prefix)) and (e.pool in scarce or not scarce)]
        for e in sorted(empty, key=lambda e: (names.index(e.pool) if e.pool in names else len(names), e.prefix), reverse=True):
            rest = [other for other in c.entries if other is not e]
            room = sum(addresses(self.s.pools[other.pool], other.prefix) for other in rest)
            idle = self.now - memory.needed_at.get(key, memory.watching_since)
            busy = self.need(c) * 100 > scaling.low_utilization_percent * room or (not rest and idle < scaling.last_block_delay_seconds)
            if not scarce and (room < least[c] or len(rest) < self.floor(c) or busy):
                return
            before, entries, kept = [self.capacity(o) for o in least], [o.entries for o in least], has.keep
            has.keep = [other for other in kept if other is not e]
            for o in least:
                o.entries = [other for other in o.entries if other is not e]
            if room < least[c] or any(self.capacity(o) < min(least[o], had) for o, had in zip(least, before, strict=True)):
                has.keep = kept  # it is needed, or blocks of another family would be of no use without it
                for o, had_entries in zip(least, entries, strict=True):
                    o.entries = had_entries
            else:
                self.words.append(("Drain", has.name, e.prefix))

    def seated(self, c: Class) -> int:
        """Of the pods that wait: how many find an address on the node as it is."""
        return max(0, min(c.pending, self.capacity(c) - self.taken(c)))
