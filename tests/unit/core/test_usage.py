"""What IPPool.status says: counted by arithmetic, checked here by looking at every block."""

from dataclasses import astuple, replace
from itertools import product

import pytest

from podcidr.core.barred import Bar
from podcidr.core.model import Pool
from podcidr.core.prefix import BITS, Family, Prefix
from podcidr.core.usage import LARGEST, PoolUsage, saturated, usages
from podcidr.core.vacancy import Occupied, Vacancy
from tests.property import build

V4 = Family.IPV4


def usage(pool: Pool, family: Family = V4) -> PoolUsage:
    return usages({pool.name: pool}, {}, {})[pool.name, family]


CASES = list(
    product(
        ("Pool", "Block", "None"),
        (("10.0.0.0/24", 28), ("10.0.0.0/26", 26), ("10.0.0.0/29", 31), ("10.0.0.0/30", 32), ("10.0.0.0/27", 30), ("fd00::/120", 124)),
        ((), (0, 0), (1, 1), (0, 17), (2, 14), (3, 3), (0, 255)),
    )
)


@pytest.mark.parametrize(("gateway", "space", "reserved"), CASES)
def test_counts_are_what_a_look_at_every_block_finds(gateway: str, space: tuple[str, int], reserved: tuple[int, ...]) -> None:
    text, length = space
    cidr = build.prefix(text)
    ends = [str(Prefix(cidr.family, min(cidr.address + offset, cidr.last), BITS[cidr.family])) for offset in reserved]
    interval = ["-".join(end.split("/")[0] for end in ends)] if ends else []
    key = "ipv6" if ":" in text else "ipv4"
    pool = build.pool("p", **{key: text}, block4=length, block6=length, gateway=gateway, reserved=interval)
    assert pool.invalid is None
    found = usage(pool, cidr.family)
    step = Prefix(cidr.family, 0, length).size
    each = [pool.addresses(Prefix(cidr.family, address, length)) for address in range(cidr.address, cidr.last + 1, step)]
    assert found.capacity == sum(each)
    assert found.reserved == cidr.size - sum(each)
    assert found.blocks_total == len(each)
    assert found.blocks_free == sum(usable > 0 for usable in each)
    assert {type(count) for count in astuple(replace(found, barred_by=0))} == {int}  # type: ignore[arg-type]


def test_claimed_quarantined_and_in_use() -> None:
    pool = build.pool("p", "10.0.0.0/26", gateway="None")
    nodecidr = build.listing("n1", pool, {"10.0.0.0/28": (5, 2), "10.0.0.16/28": 8})
    blocks = [build.block(f"10.0.0.{low}/28", "n1", pool, quarantined=low == 32) for low in (0, 16, 32)]
    found = usages({"p": pool}, {"n1": nodecidr}, {block.name: block for block in blocks})["p", V4]
    assert (found.blocks_total, found.blocks_claimed, found.blocks_quarantined, found.blocks_free) == (4, 2, 1, 1)
    assert (found.capacity, found.reserved, found.in_use, found.cooling, found.free) == (62, 2, 13, 2, 47)
    assert (found.utilization_percent, found.claimed_percent) == (25, 75)


def test_orphans_are_shown_but_take_nothing_of_the_space_that_is_left() -> None:
    pool = build.pool("p", "10.0.0.0/27", gateway="None")
    nodecidr = build.listing("n1", pool, {"10.9.0.0/28": 16, "10.0.0.0/28": 1})
    blocks = [build.block(text, "n1", pool) for text in ("10.9.0.0/28", "10.0.0.0/28")]
    found = usages({"p": pool}, {"n1": nodecidr}, {block.name: block for block in blocks})["p", V4]
    assert (found.blocks_claimed, found.blocks_free, found.in_use, found.free) == (2, 1, 17, 29)
    assert found.utilization_percent == 4


def test_blocks_of_an_earlier_pool_of_the_name_are_not_counted() -> None:
    pool = build.pool("p", "10.0.0.0/27")
    earlier = replace(pool, uid="earlier")
    nodecidr = build.listing("n1", earlier, {"10.0.0.0/28": 5})
    block = build.block("10.0.0.0/28", "n1", earlier)
    found = usages({"p": pool}, {"n1": nodecidr, "n2": build.nodecidr("n2", [])}, {block.name: block})["p", V4]
    assert (found.blocks_claimed, found.in_use) == (0, 0)


BARRED = [
    # the pool's block length, blocks that lie there, how many of its blocks they bar
    pytest.param(28, ["10.0.0.0/28"], 1, id="of the same length"),
    pytest.param(28, ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.16/30"], 2, id="smaller ones"),
    pytest.param(29, ["10.0.0.0/28"], 2, id="a larger one"),
    pytest.param(29, ["10.0.0.0/28", "10.0.0.8/29"], 2, id="one inside another"),
    pytest.param(28, ["10.0.0.0/20"], 4, id="one around all of it"),
    pytest.param(28, ["10.0.0.48/30"], 0, id="where nothing could be claimed"),
    pytest.param(28, ["10.0.0.64/28", "10.9.0.0/28", "fd00::/122"], 0, id="elsewhere"),
]


@pytest.mark.parametrize("quarantined", [False, True])
@pytest.mark.parametrize(("length", "blocks", "barred"), BARRED)
def test_blocks_of_an_earlier_pool_bar_the_space(length: int, blocks: list[str], barred: int, quarantined: bool) -> None:
    reserved = ["10.0.0.48/28"] if barred == 0 else []
    pool = build.pool("p", "10.0.0.0/26", block4=length, gateway="None", reserved=reserved)
    earlier = replace(pool, uid="earlier")
    rows = [build.block(text, "n1", earlier, quarantined=quarantined) for text in blocks]
    found = usages({"p": pool}, {}, {row.name: row for row in rows})["p", V4]
    vacancy, free = Vacancy(pool, V4, Occupied(build.snapshot([pool], [], [], rows))), 0
    while block := vacancy.best(()):
        vacancy.take(block)
        free += 1
    assert (found.blocks_barred, found.blocks_free) == (barred, free)
    assert found.blocks_total - free == barred + found.blocks_reserved


def test_who_bars_is_named_gone_or_without_the_cidr() -> None:
    """Two pools that have swapped their CIDRs, and one that is gone."""
    one, two = build.pool("one", "10.0.1.0/26"), build.pool("two", "10.0.0.0/26")
    rows = [build.block(text, "n1", one) for text in ("10.0.0.0/28", "10.0.0.16/28")]
    rows += [build.block("10.0.1.0/28", "n2", two), build.block("10.0.1.16/28", "n2", one)]
    rows += [build.block("10.0.0.32/28", "n2", replace(two, uid="earlier")), build.block("10.0.1.32/28", "n2", build.pool("three"))]
    found = usages({"one": one, "two": two}, {}, {row.name: row for row in rows})
    assert found["one", V4].barred_by == {Bar("two", two.uid, gone=False): 1, Bar("three", build.pool("three").uid, gone=True): 1}
    assert found["two", V4].barred_by == {Bar("one", one.uid, gone=False): 2, Bar("two", "earlier", gone=True): 1}
    assert [found[name, V4].blocks_free for name in ("one", "two")] == [1, 1]


@pytest.mark.parametrize(("taken", "percent"), [(0, 0), (1, 1), (500, 50), (999, 99), (1000, 100), (1200, 100)])
def test_utilization_is_100_only_when_the_last_address_is_taken(taken: int, percent: int) -> None:
    found = PoolUsage(capacity=1000, in_use=taken)
    assert (found.utilization_percent, found.free) == (percent, max(0, 1000 - taken))


def test_a_pool_without_capacity() -> None:
    found = usage(build.pool("p", "10.0.0.0/24", accepted=[]))
    assert (found.utilization_percent, found.claimed_percent, found.blocks_free, found.capacity) == (0, 0, 0, 0)


def test_claimed_is_a_whole_percentage_of_blocks_that_are_not_free() -> None:
    assert [PoolUsage(blocks_total=3, blocks_claimed=claimed).claimed_percent for claimed in range(4)] == [0, 33, 66, 100]
    assert isinstance(PoolUsage(blocks_total=3, blocks_claimed=1).claimed_percent, int)


def test_counts_saturate_at_what_json_keeps_exact() -> None:
    found = usage(build.pool("p", ipv6="fd00::/48", gateway="None"), Family.IPV6)
    assert (found.blocks_total, found.capacity) == (2**74, 2**80 - 1)
    assert saturated(found.capacity) == LARGEST == 2**53 - 1
    assert saturated(7) == 7
