"""The witness itself: what it lets pass, and what not."""

import itertools
from typing import Any

import pytest

from tests.simulation.fake_api import Change, Stored
from tests.simulation.witness import Row, Witness

Object = dict[str, Any]
BLOCK = "10.64.3.0/28"


def nodecidr(epoch: int, *blocks: str, told: int = 0, busy: int = 0) -> Object:
    entries = [{"cidr": cidr, "state": "Draining", "pool": "default", "poolUID": "p"} for cidr in blocks]
    usage = [{"cidr": BLOCK, "inUse": busy, "cooling": 0}]
    status = {"observedUID": "u1", "observedEpoch": told, "blocks": usage}
    return {"metadata": {"name": "n1", "uid": "u1"}, "spec": {"epoch": epoch, "blocks": entries}, "status": status}


@pytest.mark.parametrize(
    ("reports", "passes"),
    [
        ([(8, 0)], True),
        ([(8, 0), (7, 3)], True),  # one that was on its way since before changes nothing about what was said at 8
        ([(8, 1), (8, 0)], True),
        ([(7, 0)], False),
        ([(8, 1)], False),
        ([], False),
    ],
)
def test_a_block_leaves_by_any_report_at_its_epoch(reports: list[tuple[int, int]], *, passes: bool) -> None:
    witness = Witness(lambda: 0.0, lambda: {"n1"})
    states = [nodecidr(8, BLOCK), *(nodecidr(8, BLOCK, told=told, busy=busy) for told, busy in reports), nodecidr(9)]
    for revision, (old, new) in enumerate(itertools.pairwise(states)):
        witness.changed(Change(revision, "nodecidrs", "MODIFIED", "n1", Stored(new), old))
    assert (witness.violation is None) is passes


def test_what_outlives_a_restore_lies_in_what_nobody_lists() -> None:
    """A claim that was given back later is in the backup; another node's pods live in it by now."""
    seen = Witness(now=lambda: 100.0, live_nodes=set)
    seen.rows["10.0.0.124/30"] = Row("uid-1", "n1", "default")
    seen.holders["10.0.0.126"] = "n0", "c1"
    assert not seen.outlives_restore("10.0.0.126"), "without a restore there is no excuse"
    seen.restored_at = 50.0
    assert seen.outlives_restore("10.0.0.126")
    seen.listed["10.0.0.124/30"] = "n1"
    assert not seen.outlives_restore("10.0.0.126"), "two nodes have it"
