"""What each action says of itself: `explain`, `history` and Events print it as it stands."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.core.model import Snapshot
from podcidr.core.plan import plan, weigh
from tests.property import build
from tests.property.build import NOW

POOL = build.pool("default", "10.0.0.0/24", scaling={"minBlocksPerNode": 0})
TWO = build.pool("second", "10.1.0.0/24", scaling={"minBlocksPerNode": 0})
NODE = build.node()
ONE = "10.0.0.16/28"
LOST: dict[str, Any] = {"gone_since": {"n1": 0.0}}


def reasons(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Each action and its reason."""
    return [(type(action).__name__, action.reason) for action in plan(snapshot, NOW).actions]


def bare(**values: Any) -> Any:
    """A NodeCIDR that lists nothing, and what its node reports."""
    return build.listing("n1", POOL, {}, **values)


def using(block: str) -> Any:
    """A NodeCIDR that lists nothing, of a node that uses the block."""
    return replace(bare(), report=build.report(bare(), {block: 3}))


CLAIM, QUARANTINED = build.block(ONE, "n1", POOL), build.block(ONE, "n1", POOL, quarantined=True)
CASES = {
    "two pools": (build.snapshot([POOL, TWO], [NODE], [bare()]), ("SetPools", "the automatic pools of the node are default, second")),
    "no pool": (build.snapshot([], [NODE], [bare()]), ("SetPools", "the automatic pools of the node are none")),
    "no NodeCIDR": (build.snapshot([POOL], [NODE], []), ("CreateNodeCIDR", "the node has none")),
    "node gone": (build.snapshot([POOL], [], [bare()]), ("DeleteNodeCIDR", "the node is gone and its last block has left")),
    "deleted by hand": (
        build.snapshot([POOL], [NODE], [bare(deleting=True)]),
        ("DeleteNodeCIDR", "it is being deleted and lists no block"),
    ),
    "both gone": (build.snapshot([POOL], [], [], [CLAIM], **LOST), ("Leave", "node and NodeCIDR are gone")),
    "its node gone": (build.snapshot([POOL], [], [build.listing("n1", POOL, {ONE: 5})]), ("Drain", "the node is gone")),
    "its NodeCIDR deleted": (
        build.snapshot([POOL], [NODE], [build.listing("n1", POOL, {ONE: 5}, deleting=True)]),
        ("Drain", "the NodeCIDR is being deleted"),
    ),
    "empty": (build.snapshot([POOL], [NODE], [build.listing("n1", POOL, {ONE: 0}, draining=(ONE,))]), ("Leave", "reported empty")),
    "lost in use": (
        build.snapshot([POOL], [], [build.listing("n1", POOL, {ONE: 5}, draining=(ONE,))], **LOST),
        ("Leave", "the node is lost"),
    ),
    "left by a crash": (build.snapshot([POOL], [NODE], [bare()], [CLAIM]), ("Leave", "it is claimed, but no list has it")),
    "lost, of an earlier NodeCIDR": (
        build.snapshot([POOL], [], [bare()], [replace(CLAIM, nodecidr_uid="old")], **LOST),
        ("Leave", "the node is lost"),
    ),
    "used, not listed": (build.snapshot([POOL], [NODE], [using(ONE)], [CLAIM]), ("Adopt", "it is in use")),
    "of an earlier NodeCIDR": (
        build.snapshot([POOL], [NODE], [bare()], [replace(CLAIM, nodecidr_uid="old")]),
        ("Adopt", "it was claimed for an earlier NodeCIDR of this name"),
    ),
    "used, not claimed": (
        build.snapshot([POOL], [NODE], [using(ONE)], []),
        ("Adopt", "the node uses it, but the ledger does not have it"),
    ),
    "used in quarantine": (
        build.snapshot([POOL], [NODE], [using(ONE)], [QUARANTINED]),
        ("Adopt", "the node uses it, but it is quarantined"),
    ),
    "never entered": (
        build.snapshot([POOL], [NODE], [bare()], [QUARANTINED], unused=frozenset({QUARANTINED.uid})),
        ("Free", "it never entered a node's list"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_in_words(case: str) -> None:
    snapshot, expected = CASES[case]
    assert reasons(snapshot) == [expected]


def test_blocks_that_the_target_does_not_need() -> None:
    nodecidr = build.listing("n1", POOL, {ONE: 5, "10.0.0.32/28": 0, "10.0.0.48/28": 0})
    assert reasons(build.snapshot([POOL], [NODE], [nodecidr])) == [
        ("Drain", "empty; the rest of 32 holds the target of 13"),
        ("Drain", "empty; the rest of 16 holds the target of 13"),
    ]


def test_a_node_without_a_nodecidr_holds_nothing() -> None:
    assert weigh(build.snapshot([POOL], [NODE], []), NOW).drafts["n1"].held == []


def test_partial_views_are_named() -> None:
    planned = plan(build.snapshot([POOL], [NODE], [], unlisted=("nodes", "ipblocks")), NOW)
    assert (planned.actions, planned.idle_because) == ((), "not listed yet: nodes, ipblocks")
