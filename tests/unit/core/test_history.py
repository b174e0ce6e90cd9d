"""The record as lines, ring and spans; what a killed operator did not write is found in the ledger."""

import pytest

from podcidr.core.actions import Adopt, Claim, CreateNodeCIDR, Drain, Free, Leave, Undrain
from podcidr.core.history import (
    SEGMENT_BYTES,
    SEGMENTS,
    Holding,
    Pages,
    Record,
    Segment,
    holdings,
    missed,
    parse,
    records_of,
)
from podcidr.core.model import Block
from podcidr.core.prefix import block_name, parse_prefix

ONE, TWO = parse_prefix("10.0.0.0/28"), parse_prefix("fd00::40/122")
T = "2026-01-01T00:{:02}:00Z"


def at(minute: int) -> str:
    return T.format(minute)


def record(minute: int, what: str, node: str = "n1", reason: str = "", prefix: str = "10.0.0.0/28") -> Record:
    return Record(at(minute), what, parse_prefix(prefix), "default", node, reason)


def row(created: int, node: str = "n1", *, released: int | None = None) -> dict[str, Block]:
    block = Block(block_name(ONE), "u", ONE, "default", "p", node, "n", created=at(created))
    if released is not None:
        block = Block(block_name(ONE), "u", ONE, "default", "p", node, "n", True, created=at(created), released_at=at(released))
    return {block.name: block}


class TestLines:
    @pytest.mark.parametrize(
        "one", [record(1, "claimed", reason="2 in use, 3 pending"), record(2, "freed"), Record(at(1), "released", TWO, "", "n.x")]
    )
    def test_they_are_read_as_written(self, one: Record) -> None:
        assert parse(one.line()) == one

    @pytest.mark.parametrize(
        "line",
        [
            "", "x", f"{at(1)} stolen 10.0.0.0/28 p n", f"{at(1)} claimed 10.0.0.0/99 p n", "noon claimed 10.0.0.0/28 p n",
            f"{at(1)}  claimed 10.0.0.0/28 p n",
        ],
    )  # fmt: skip
    def test_what_is_not_ours(self, line: str) -> None:
        assert parse(line) is None

    def test_without_a_reason_it_ends_with_the_node(self) -> None:
        assert record(2, "freed").line() == f"{at(2)} freed 10.0.0.0/28 default n1"

    def test_a_reason_is_one_line_and_short(self) -> None:
        line = record(1, "claimed", reason="a\nb " + "x" * 500).line()
        assert "\n" not in line
        assert len(line) < 180

    def test_of_actions(self) -> None:
        actions = [
            CreateNodeCIDR("n1", "", ()), Claim("n1", "why", ONE, "default", "u", 1), Adopt("n1", "used", ONE, "default", "u", 1),
            Drain("n2", "idle", ONE), Undrain("n1", "", ONE, 1), Leave("n1", "", ONE), Free("n1", "", TWO, "u", 1),
        ]  # fmt: skip
        assert list(records_of(actions, {ONE: "default"}, at(1))) == [
            Record(at(1), "claimed", ONE, "default", "n1", "why"),
            Record(at(1), "adopted", ONE, "default", "n1", "used"),
            Record(at(1), "draining", ONE, "default", "n2", "idle"),
            Record(at(1), "undrained", ONE, "default", "n1"),
            Record(at(1), "released", ONE, "default", "n1"),
            Record(at(1), "freed", TWO, "", "n1"),
        ]


class TestRing:
    def test_it_never_grows_beyond_its_size(self) -> None:
        pages, written = Pages(), dict[int, Segment]()
        for number in range(40_000):
            for segment in pages.add([record(number % 60, "claimed", f"n{number}")]):
                written[segment.slot] = segment
        assert set(written) == set(range(SEGMENTS))
        assert max(len(segment.text.encode()) for segment in written.values()) <= SEGMENT_BYTES
        newest = max(written.values(), key=lambda segment: segment.number)
        assert newest.text.splitlines()[-1].split()[4] == "n39999"

    def test_a_segment_read_back_knows_its_size_to_the_byte(self) -> None:
        lines = ["é" * 49, *["x" * 99] * ((SEGMENT_BYTES - 99) // 100)]
        room = SEGMENT_BYTES - len(Segment(0, lines).text.encode())
        assert not Segment(0, [*lines]).take("x" * room)
        assert Segment(0, [*lines]).take("x" * (room - 1))

    def test_one_write_is_one_segment_but_at_its_end(self) -> None:
        pages = Pages(Segment(3, ["x" * (SEGMENT_BYTES - 100)]))
        assert [segment.number for segment in pages.add([record(1, "claimed")])] == [3]
        (full, new) = pages.add([record(1, "claimed")] * 3)
        assert (full.number, new.number) == (3, 4)
        assert (full.text + new.text).count(" claimed ") == 4


class TestMissed:
    def test_a_claim_after_the_last_line(self) -> None:
        assert missed([record(5, "freed", prefix="10.0.0.16/28")], row(7), at(9)) == [record(7, "claimed", reason="found in the ledger")]

    def test_a_claim_stamped_by_a_clock_a_minute_behind(self) -> None:
        """Creation is the API server's stamp, the line before it an operator's."""
        last = [record(5, "freed", prefix="10.0.0.16/28")]
        assert [one.what for one in missed(last, row(4), at(9))] == ["claimed"]
        assert missed(last, row(3), at(9)) == []

    def test_a_release_within_the_second_of_its_claim(self) -> None:
        assert missed([record(7, "released")], row(7, released=7), at(9)) == []

    def test_an_old_claim_whose_line_has_gone_round_is_left_out(self) -> None:
        assert missed([record(50, "freed", prefix="10.0.0.16/28")], row(7), at(59)) == []

    def test_a_known_one(self) -> None:
        assert missed([record(7, "claimed")], row(7), at(9)) == []
        assert missed([record(7, "claimed"), record(8, "released")], row(7, released=8), at(9)) == []

    def test_a_release_nobody_wrote(self) -> None:
        assert missed([record(7, "claimed")], row(7, released=8), at(9)) == [record(8, "released", reason="found in the ledger")]

    def test_a_claim_and_its_release(self) -> None:
        found = missed([record(5, "freed", prefix="10.0.0.16/28")], row(7, released=8), at(9))
        assert [(one.what, one.at) for one in found] == [("claimed", at(7)), ("released", at(8))]

    def test_one_that_went(self) -> None:
        reason = "found gone from the ledger; when it went is not known"
        assert missed([record(7, "released", "n2")], {}, at(9)) == [record(9, "freed", "n2", reason)]
        assert missed([record(7, "freed")], {}, at(9)) == []

    def test_another_node_has_it_by_now(self) -> None:
        assert [(one.what, one.node) for one in missed([record(7, "claimed")], row(8, "n2"), at(9))] == [("claimed", "n2")]

    def test_the_first_time_the_whole_ledger_is_written(self) -> None:
        assert [one.what for one in missed([], row(1), at(9))] == ["claimed"]


class TestHoldings:
    def test_a_life(self) -> None:
        (span,) = holdings([
            record(1, "claimed", reason="need"), record(2, "draining", reason="empty"), record(3, "undrained"),
            record(4, "draining", reason="disabled"), record(5, "released", reason="reported empty"), record(6, "freed"),
        ])  # fmt: skip
        assert (span.since, span.draining_since, span.until, span.free_since) == (at(1), at(4), at(5), at(6))
        assert (span.reason, span.end_reason) == ("need", "disabled")
        assert (span.prefix, span.pool, span.node) == (ONE, "default", "n1")

    def test_undrained_is_as_if_it_had_never_drained(self) -> None:
        drained = [record(1, "claimed", reason="need"), record(2, "draining", reason="empty")]
        assert holdings([*drained, record(3, "undrained")]) == [Holding(ONE, "default", "n1", at(1), reason="need")]

    def test_two_nodes_one_after_the_other(self) -> None:
        spans = holdings([record(1, "claimed"), record(2, "released"), record(3, "freed"), record(4, "claimed", "n2")])
        assert [(span.node, span.since, span.until) for span in spans] == [("n1", at(1), at(2)), ("n2", at(4), "")]

    def test_a_beginning_that_was_not_recorded(self) -> None:
        (span,) = holdings([record(3, "draining", reason="empty")])
        assert span == Holding(ONE, "default", "n1", "", draining_since=at(3), end_reason="empty")

    def test_adopted_again_after_quarantine(self) -> None:
        spans = holdings([record(1, "claimed"), record(2, "released"), record(3, "adopted")])
        assert [(span.since, span.until) for span in spans] == [(at(1), at(2)), (at(3), "")]
