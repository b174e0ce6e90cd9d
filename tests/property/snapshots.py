"""Random snapshots, from one seed: tame ones, in which nodes grow and shrink, and wild ones, in which nothing fits together."""

from random import Random
from typing import Any, TypeVar

from podcidr.core.model import Block, Demand, Entry, Key, Memory, Node, NodeCIDR, Pool, Report, Snapshot, Usage
from podcidr.core.prefix import Family, Prefix, block_name, parse_prefix
from tests.property import build

T = TypeVar("T")

NOW = 1_000.0
NODES = ("n1", "n2", "n3")
CIDRS = {
    "a": ["10.0.0.0/26", "10.0.0.128/28"],
    "b": ["10.0.0.64/26", "fd00::/123"],
    "c": ["10.0.0.192/27", "10.0.0.0/28"],
    "d": ["10.0.0.224/28", "fd00::20/123"],
}
RESERVED = {
    "a": ["10.0.0.0/30", "10.0.0.9", "10.0.0.40-10.0.0.49", "10.0.0.128/28"],
    "b": ["10.0.0.66-10.0.0.79", "10.0.0.125", "fd00::3-fd00::a"],
    "c": ["10.0.0.9", "10.0.0.192/28", "10.0.0.213-10.0.0.214"],
    "d": ["fd00::23", "fd00::28/125"],
}


class Snapshots:
    """One snapshot by `make`. `wild`: how often something is odd; `tight`: nothing is free, so whoever waits makes his pools scarce."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.wild = self.random.choice([0.0, 0.03, 0.2])
        self.tight = self.random.random() < 0.3
        self.pools = [self.pool(name) for name in sorted(self.random.sample(sorted(CIDRS), self.random.randint(1, 3)))]
        self.every = [block for pool in self.pools for block in blocks_of(pool)]

    def one(self, *choices: T) -> T:
        return self.random.choice(choices)

    def odd(self, usual: T, otherwise: T) -> T:
        return otherwise if self.random.random() < self.wild else usual

    def some(self, choices: list[T], at_most: int) -> list[T]:
        return self.random.sample(choices, self.random.randint(0, min(at_most, len(choices))))

    def make(self) -> Snapshot:
        free = [block for block in self.every if not any(block != other and block.overlaps(other) for other in self.every)]
        self.random.shuffle(free)
        nodes = [self.node(name) for name in NODES if self.odd(True, False)]
        nodecidrs = [self.nodecidr(name, free) for name in NODES if self.odd(True, False)]
        blocks = [self.block(e.prefix, n.name, self.odd(False, True)) for n in nodecidrs for e in n.entries if self.odd(True, False)]
        strays = free[: None if self.tight else self.random.randint(0, 3)] + self.some(self.every, self.odd(0, 2))
        blocks += [self.block(block, self.one(*NODES), self.one(True, False)) for block in strays]
        outer = {"held": self.odd(None, "suspected"), "services": self.odd((), (parse_prefix("10.0.0.128/29"), parse_prefix("fd00::/125")))}
        return build.snapshot(self.pools, nodes, nodecidrs, blocks, **outer, **self.memory(blocks))

    def pool(self, name: str) -> Pool:
        scaling = {
            "minFreeAddresses": self.one(0, 1, 4, 8),
            "maxFreeAddresses": self.one(8, 12),
            "highUtilizationPercent": self.one(100, 80),
            "lowUtilizationPercent": self.one(75, 75, 10),
            "stabilizationWindowSeconds": self.one(0, 300),
            "lastBlockDelaySeconds": self.one(0, 600),
        }
        caps = {key: self.one(None, None, 1, 2) for key in ("minBlocksPerNode", "maxBlocksPerNode")}
        cidrs = CIDRS[name]
        return build.pool(
            name,
            [cidr for cidr in cidrs if "." in cidr],
            [cidr for cidr in cidrs if ":" in cidr],
            block4=self.one(28, 29, 30),
            block6=self.one(124, 125, 126),
            scaling=scaling | {key: cap for key, cap in caps.items() if cap},
            accepted=self.odd(cidrs, cidrs[1:]),
            priority=self.one(0, 5),
            generation=self.one(1, 2, 3),
            gateway=self.one("None", "Pool", "Block"),
            allocation=self.one("Automatic", "Automatic", "Pinned"),
            disabled=self.odd(False, True),
            deleting=self.odd(False, True),
            reserved=self.some(self.odd(RESERVED[name], RESERVED["a"]), 3),
            nodeSelector=self.odd({}, {"matchLabels": {"zone": "x"}}),
            quarantineSeconds=self.one(0, 300),
        )

    def node(self, name: str) -> Node:
        own = self.odd((), (parse_prefix("10.0.0.17/32"), parse_prefix("fd00::21/128")))
        return build.node(name, labels={"zone": self.one("x", "y")}, max_pods=self.one(None, 4, 30), addresses=own)

    def entry(self, block: Prefix) -> Entry:
        fitting = [pool for pool in self.pools if block in blocks_of(pool)]
        pool = self.one(*self.odd(fitting, self.pools))
        return Entry(block, pool.name, self.odd(pool.uid, "old"), self.one(1, 2), self.one(False, False, True))

    def nodecidr(self, name: str, free: list[Prefix]) -> NodeCIDR:
        taken = [free.pop() for _ in range(min(len(free), self.random.randint(0, 8 if self.tight else 4)))] + self.some(
            self.every, self.odd(0, 2)
        )
        entries = tuple(self.entry(block) for block in sorted(set(taken)))
        automatic = tuple(pool.name for pool in sorted(self.pools, key=lambda pool: (-pool.priority, pool.name)) if not pool.pinned)
        report = self.report(f"{name}-uid", entries, automatic) if self.odd(True, False) else None
        deleting, question = self.odd(False, True), self.odd("", "q")
        return NodeCIDR(name, f"{name}-uid", 5, self.odd(automatic, ("x",)), entries, report, deleting, question=question)

    def report(self, uid: str, entries: tuple[Entry, ...], automatic: tuple[str, ...]) -> Report:
        busy = self.one(1, 4)
        used = {entry.prefix: Usage(self.one(0, 0, busy), self.one(0, 0, 1)) for entry in entries}
        strange = [*self.every, parse_prefix("10.0.0.66/32"), parse_prefix("fd00::22/128")]
        used |= {block: Usage(self.one(0, 1), self.one(0, 1)) for block in self.some(strange, self.odd(0, 2))}
        names = [pool.name for pool in self.pools]
        lists = [automatic, *((name,) for name in names), tuple(self.random.sample(names, len(names))), ("none", *names)]
        wishes = [(wish, family) for wish in dict.fromkeys(lists) for family in Family]
        demand = (
            Demand(wish, family, self.one(0, 0, 1, 3, 20), self.one(0, 0, 2, 10))
            for wish, family in self.some(wishes, 8 if self.tight else self.one(1, 3))
        )
        epoch = self.odd(5, self.one(4, 7))
        return Report(self.odd(uid, "old"), epoch, used, tuple(demand), self.one(0, 2), question=self.odd(None, self.one("", "q")))

    def block(self, block: Prefix, node: str, quarantined: bool) -> Block:
        entry, owner = self.entry(block), self.odd(node, self.one(*NODES))
        uid = self.odd(f"{owner}-uid", "old")
        return Block(block_name(block), f"block-{block}", block, entry.pool, entry.pool_uid, owner, uid, quarantined, self.one(7, 8))

    def memory(self, blocks: list[Block]) -> dict[str, Any]:
        keys = [Key(node, pool, family) for node in NODES for pool in ("", *CIDRS) for family in Family]
        names: dict[str, Any] = Memory(
            watching_since=self.one(0.0, 0.0, 900.0),
            highest={key: self.one(1, 9, 30) for key in self.some(keys, 4)},
            needed_at={key: self.one(100.0, 900.0) for key in self.some(keys, len(keys))},
            quarantined_since={b.uid: self.one(0.0, 700.0, 701.0, 999.0) for b in blocks if b.quarantined and self.odd(True, False)},
            gone_since={name: self.one(0.0, 400.0, 401.0) for name in NODES},
            unused=frozenset(b.uid for b in self.some(blocks, self.odd(0, 2))),
            confirmed=frozenset(self.some(self.every, self.odd(0, len(self.every)))),
        ).__dict__
        return dict(names)


def blocks_of(pool: Pool) -> list[Prefix]:
    """All that its spec can be cut into."""
    return [
        Prefix(family, address, space.block_length)
        for family, space in pool.spaces.items()
        for cidr in space.cidrs
        for address in range(cidr.address, cidr.last + 1, 1 << ((32 if family is Family.IPV4 else 128) - space.block_length))
    ]
