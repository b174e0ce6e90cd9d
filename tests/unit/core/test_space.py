"""Prefixes, reserved addresses, free blocks: the arithmetic of space."""

from dataclasses import replace

import pytest

from podcidr.core.errors import BadValue
from podcidr.core.model import Gateway, Pool, unusable
from podcidr.core.prefix import Family, Prefix, block_name, buddy, merge, parent, parse_address, parse_prefix
from podcidr.core.reserved import Interval, Intervals, parse_reserved
from podcidr.core.vacancy import Occupied, Vacancy
from tests.property import build

V4, V6 = Family.IPV4, Family.IPV6


@pytest.mark.parametrize("text", ["10.64.3.0/28", "0.0.0.0/0", "255.255.255.255/32", "fd00:64::40/122", "::/0", "2001:db8::1/128"])
def test_a_prefix_survives_its_text(text: str) -> None:
    assert str(parse_prefix(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10.64.0.0", "cidr: '10.64.0.0': a CIDR needs a prefix length, such as /24"),
        ("10.64.0.1/24", "cidr: '10.64.0.1/24': host bits are set; did you mean 10.64.0.0/24?"),
        ("fd00::1/64", "cidr: 'fd00::1/64': host bits are set; did you mean fd00::/64?"),
        ("10.64.0.0/33", "cidr: '10.64.0.0/33': the prefix length must be 0 to 32"),
        ("10.64.0.0/-1", "cidr: '10.64.0.0/-1': the prefix length must be 0 to 32"),
        ("10.64.0.0/٣", "cidr: '10.64.0.0/٣': the prefix length must be 0 to 32"),
        ("10.64.0/24", "cidr: '10.64.0': not an IP address"),
        ("010.64.0.0/24", "cidr: '010.64.0.0': not an IP address"),
        ("fe80::%eth0/64", "cidr: 'fe80::%eth0': an address with a zone means something else on every node; leave the zone out"),
    ],
)
def test_what_is_no_cidr(text: str, message: str) -> None:
    with pytest.raises(BadValue) as caught:
        parse_prefix(text)
    assert str(caught.value) == message


def test_what_is_no_address() -> None:
    with pytest.raises(BadValue) as caught:
        parse_address("10.0.0.256")
    assert str(caught.value) == "address: '10.0.0.256': not an IP address"


def test_inside_and_overlapping() -> None:
    wide, inside, beside = map(parse_prefix, ("10.0.0.0/24", "10.0.0.128/25", "10.0.1.0/25"))
    assert wide.holds(inside)
    assert wide.holds(wide)
    assert not inside.holds(wide)
    assert wide.overlaps(inside)
    assert inside.overlaps(wide)
    assert not wide.overlaps(beside)
    assert not parse_prefix("::/0").overlaps(parse_prefix("0.0.0.0/0"))


def test_buddies_merge_into_their_parent() -> None:
    low, high = parse_prefix("10.0.0.0/28"), parse_prefix("10.0.0.16/28")
    assert (buddy(low), buddy(high)) == (high, low)
    assert parent(low) == parent(high) == parse_prefix("10.0.0.0/27")


@pytest.mark.parametrize(
    ("blocks", "routes"),
    [
        ([], []),
        (["10.0.0.0/28", "10.0.0.16/28"], ["10.0.0.0/27"]),
        (["10.0.0.16/28", "10.0.0.32/28"], ["10.0.0.16/28", "10.0.0.32/28"]),
        (["10.0.0.48/28", "10.0.0.0/28", "10.0.0.32/28", "10.0.0.16/28", "10.0.1.0/28"], ["10.0.0.0/26", "10.0.1.0/28"]),
        (["0.0.0.0/1", "128.0.0.0/1"], ["0.0.0.0/0"]),
        (["fd00::/122", "fd00::40/122"], ["fd00::/121"]),
    ],
)
def test_fewest_routes(blocks: list[str], routes: list[str]) -> None:
    assert merge(parse_prefix(text) for text in blocks) == {parse_prefix(text) for text in routes}


def test_one_name_a_cidr() -> None:
    assert block_name(parse_prefix("10.64.3.0/28")) == "10-64-3-0-28"
    assert block_name(parse_prefix("fd00:64::40/122")) == "fd00-0064-0000-0000-0000-0000-0000-0040-122"


class TestReserved:
    def test_given_in_any_order_overlapping_and_touching(self) -> None:
        intervals = Intervals([Interval(50, 60), Interval(1, 10), Interval(5, 20), Interval(21, 30)])
        assert list(intervals) == [(1, 30), (50, 60)]
        assert len(intervals) == 2
        assert [address in intervals for address in (0, 1, 30, 31, 55, 61)] == [False, True, True, False, True, False]
        assert intervals == Intervals([Interval(50, 60), Interval(1, 30)])
        assert hash(intervals) == hash(Intervals(intervals))
        for other in (Intervals([Interval(50, 60), Interval(1, 31)]), Intervals([Interval(49, 60), Interval(1, 30)]), list(intervals)):
            assert intervals != other
        assert hash(intervals) != hash(Intervals([Interval(1, 30)]))
        assert repr(intervals) == "Intervals([Interval(first=1, last=30), Interval(first=50, last=60)])"

    def test_what_is_of_a_prefix(self) -> None:
        intervals = Intervals([Interval(0, 17), Interval(20, 20), Interval(30, 99)])
        block = Prefix(V4, 16, 28)
        assert list(intervals.within(block)) == [(16, 17), (20, 20), (30, 31)]
        assert intervals.count_within(block) == 5
        assert intervals.end_of(Prefix(V4, 0, 28)) == 17
        assert intervals.end_of(block) is None
        assert intervals.end_of(Prefix(V4, 112, 28)) is None

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("10.0.0.7", (V4, (0x0A000007, 0x0A000007))),
            ("10.0.0.0/30", (V4, (0x0A000000, 0x0A000003))),
            ("10.0.0.9-10.0.0.12", (V4, (0x0A000009, 0x0A00000C))),
            ("10.0.0.9 - 10.0.0.9", (V4, (0x0A000009, 0x0A000009))),
            ("::5-::7", (V6, (5, 7))),
        ],
    )
    def test_an_address_a_cidr_or_both_ends(self, text: str, expected: tuple[Family, tuple[int, int]]) -> None:
        assert parse_reserved(text) == expected

    @pytest.mark.parametrize(
        ("text", "remedy"),
        [
            ("10.0.0.9-10.0.0.2", "the ends are the wrong way round; did you mean 10.0.0.2-10.0.0.9?"),
            ("10.0.0.9-::1", "both ends must be of one address family"),
            ("10.0.0.9-", "not an IP address"),
            ("gateway", "not an IP address"),
            ("10.0.0.9/28", "host bits are set; did you mean 10.0.0.0/28?"),
        ],
    )
    def test_what_is_none(self, text: str, remedy: str) -> None:
        with pytest.raises(BadValue) as caught:
            parse_reserved(text)
        assert caught.value.remedy == remedy
        assert caught.value.field == "reserved"
        assert caught.value.value in (text, *text.split("-"))


@pytest.mark.parametrize(
    ("gateway", "cidr", "length", "usable"),
    [
        # network, gateway and broadcast of the CIDR; a block's own ends are its pods'
        ("Pool", "10.0.0.0/24", 28, [14, 16, 15]),
        ("Block", "10.0.0.0/24", 28, [13, 13, 13]),
        ("None", "10.0.0.0/24", 28, [15, 16, 15]),
        ("Pool", "10.0.0.0/31", 31, [1, 1, 1]),  # RFC 3021: no ends, but one gateway
        ("None", "10.0.0.0/31", 32, [1, 1, 1]),
        ("Pool", "10.0.0.0/32", 32, [0, 0, 0]),
        ("Pool", "fd00::/120", 124, [14, 16, 16]),  # no broadcast in IPv6; the network is the subnet-router anycast address
        ("Block", "fd00::/120", 124, [14, 14, 14]),
        ("None", "fd00::/120", 124, [15, 16, 16]),
    ],
)
def test_addresses_for_pods_by_gateway(gateway: str, cidr: str, length: int, usable: list[int]) -> None:
    pool = build.pool("p", **{"ipv6" if ":" in cidr else "ipv4": cidr}, block4=length, block6=length, gateway=gateway)
    whole = parse_prefix(cidr)
    size = Prefix(whole.family, 0, length).size
    last = whole.last + 1 - size
    blocks = [Prefix(whole.family, address, length) for address in (whole.address, min(whole.address + size, last), last)]
    assert [pool.addresses(block) for block in blocks] == usable
    assert [block.size - unusable(pool, block).count_within(block) for block in blocks] == usable


class TestVacancy:
    pool = build.pool("default", "10.0.0.0/24")

    def best(self, held: list[str], taken: tuple[str, ...] = (), pool: Pool | None = None) -> str:
        pool = pool or self.pool
        blocks = [build.block(text, "other", pool) for text in taken]
        vacancy = Vacancy(pool, V4, Occupied(build.snapshot([pool], [], [], blocks + [build.block(text, "n1", pool) for text in held])))
        found = vacancy.best(merge(parse_prefix(text) for text in held))
        assert found is None or vacancy.is_free(found)
        return str(found)

    @pytest.mark.parametrize(
        ("held", "taken", "expected"),
        [
            pytest.param([], (), "10.0.0.0/28", id="the first"),
            pytest.param([], ("10.0.0.0/28",), "10.0.0.32/28", id="a pair, which leaves room to merge"),
            pytest.param([], tuple(f"10.0.0.{i}/28" for i in range(0, 256, 32)), "10.0.0.16/28", id="no pair is left"),
            pytest.param(["10.0.0.32/28"], (), "10.0.0.48/28", id="the buddy"),
            pytest.param(["10.0.0.48/28"], ("10.0.0.32/28",), "10.0.0.0/28", id="the buddy is taken"),
            pytest.param(["10.0.0.32/28", "10.0.0.96/28", "10.0.0.64/28", "10.0.0.80/28"], (), "10.0.0.112/28", id="merges furthest"),
            pytest.param(["10.0.0.64/28", "10.0.0.80/28"], (), "10.0.0.96/28", id="a gap that the node could fill"),
            pytest.param(["10.0.0.64/28", "10.0.0.80/28"], ("10.0.0.112/28",), "10.0.0.0/28", id="a gap that it could not"),
            pytest.param([*(f"10.0.0.{i}/28" for i in (0, 16, 32, 48, 128, 144))], (), "10.0.0.160/28", id="the smaller of two gaps"),
        ],
    )
    def test_the_block_that_merges_best(self, held: list[str], taken: tuple[str, ...], expected: str) -> None:
        assert self.best(held, taken) == expected

    def test_what_is_taken_is_what_touches_the_cidr_and_nothing_beside_it(self) -> None:
        texts = ("10.0.0.240/28", "10.0.1.0/28", "10.0.1.255/32", "10.0.2.0/28", "fd00::/122")
        blocks = [build.block(text, "n1", self.pool) for text in texts]
        occupied = Occupied(build.snapshot([self.pool], [], [], blocks))
        assert [str(found) for found in occupied.inside(parse_prefix("10.0.1.0/24"), "default")] == ["10.0.1.0/28", "10.0.1.255/32"]
        everything = Occupied(build.snapshot([self.pool], [], [], [build.block("0.0.0.0/0", "n1", self.pool)]))
        assert [str(found) for found in everything.inside(parse_prefix("0.0.0.0/8"), "default")] == ["0.0.0.0/0"]

    def test_full(self) -> None:
        assert self.best([], tuple(f"10.0.0.{i}/28" for i in range(0, 256, 16))) == "None"

    def test_a_block_without_usable_address_is_no_candidate(self) -> None:
        pool = build.pool("default", "10.0.0.0/26", reserved=["10.0.0.2-10.0.0.31"])
        assert self.best([], pool=pool) == "10.0.0.32/28"
        assert self.best(["10.0.0.48/28"], ("10.0.0.32/28",), pool) == "None"

    def test_nor_is_one_that_overlaps_a_block_of_another_length_or_use_outside_blocks(self) -> None:
        other = build.pool("other", "10.0.0.0/24", block4=26)
        for there in ("10.0.0.0/26", "10.0.0.3/32", "10.0.0.0/20"):
            snapshot = build.snapshot([self.pool], [], [], [build.block(there, "n2", other)])
            found = Vacancy(self.pool, V4, Occupied(snapshot)).best(())
            assert str(found) == {"10.0.0.0/26": "10.0.0.64/28", "10.0.0.3/32": "10.0.0.32/28", "10.0.0.0/20": "None"}[there]

    def test_not_even_where_what_it_overlaps_is_reserved(self) -> None:
        pool = build.pool("default", "10.0.0.0/27", reserved=["10.0.0.0/29"], gateway="None")
        snapshot = build.snapshot([pool], [], [], [build.block("10.0.0.0/29", "n2", pool)])
        assert str(Vacancy(pool, V4, Occupied(snapshot)).best(())) == "10.0.0.16/28"

    def test_a_wider_block_that_begins_before_the_cidr(self) -> None:
        pool = build.pool("default", "10.0.0.128/25")
        snapshot = build.snapshot([pool], [], [], [build.block("10.0.0.0/24", "n2", pool)])
        assert Vacancy(pool, V4, Occupied(snapshot)).best(()) is None

    def test_what_reports_show_in_use_or_cooling_is_taken(self) -> None:
        bare = build.nodecidr("n2", [])
        for used in ((1, 0), (0, 1), (0, 0)):
            nodecidr = replace(bare, report=build.report(bare, {"10.0.0.0/28": used}))
            found = Vacancy(self.pool, V4, Occupied(build.snapshot([self.pool], [], [nodecidr]))).best(())
            assert str(found) == ("10.0.0.0/28" if used == (0, 0) else "10.0.0.32/28")

    def test_a_round_never_gives_a_block_twice(self) -> None:
        vacancy = Vacancy(self.pool, V4, Occupied(build.snapshot([self.pool], [], [])))
        given = set()
        while block := vacancy.best(()):
            vacancy.take(block)
            assert block not in given
            given.add(block)
        assert len(given) == 16

    def test_a_reserved_space_of_2_to_the_74_blocks_is_skipped_at_once(self) -> None:
        pool = build.pool("six", ipv6="fd00::/48", reserved=["fd00::/49"], gateway="None")
        assert str(Vacancy(pool, V6, Occupied(build.snapshot([pool], [], []))).best(())) == "fd00:0:0:8000::/122"

    def test_blocks_come_from_accepted_cidrs_only(self) -> None:
        pool = build.pool("default", ["10.0.0.0/28", "10.0.1.0/28"], accepted=["10.0.1.0/28", "10.0.2.0/28"])
        assert self.best([], pool=pool) == "10.0.1.0/28"
        assert self.best([], pool=replace(pool, disabled=True)) == "None"


def test_a_pool_accepts_blocks_of_its_length_in_cidrs_that_it_has() -> None:
    pool = build.pool("default", ["10.0.0.0/24", "10.0.1.0/24"], accepted=["10.0.1.0/24", "10.0.2.0/24"])
    verdicts = {text: pool.accepts(parse_prefix(text)) for text in ("10.0.1.0/28", "10.0.0.0/28", "10.0.2.0/28", "10.0.1.0/27", "::/28")}
    assert verdicts == {"10.0.1.0/28": True, "10.0.0.0/28": False, "10.0.2.0/28": False, "10.0.1.0/27": False, "::/28": False}


def test_addresses_as_integers() -> None:
    assert parse_address("0.0.1.0") == (V4, 256)
    assert parse_address("::ffff") == (V6, 65535)
    assert Gateway("Pool") is Gateway.POOL
