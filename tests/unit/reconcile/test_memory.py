"""What the leader remembers of nodes that are gone: silence, or a person's word that no later report belies."""

from dataclasses import replace
from datetime import timedelta

from podcidr.core.model import Node, NodeCIDR, Report, Snapshot
from podcidr.core.plan import Plan
from podcidr.kube.clock import rfc3339
from podcidr.reconcile.memory import LeaderMemory
from tests.property import build
from tests.unit.kube.fakes import VirtualClock

SEEN = NodeCIDR("n1", "uid", 3, report=Report("uid", 3, reported_at="2026-01-01T00:00:00Z"))


def gone_since(memory: LeaderMemory, nodecidr: NodeCIDR) -> float:
    memory.look({}, {"n1": nodecidr}, {})
    return memory.value({}).gone_since["n1"]


def test_silence_counts_from_the_last_sign_of_life() -> None:
    clock = VirtualClock()
    memory = LeaderMemory(clock, clock.monotonic())
    began = gone_since(memory, SEEN)
    clock.now += 100
    assert gone_since(memory, SEEN) == began
    assert gone_since(memory, replace(SEEN, report=Report("uid", 3, reported_at="2026-01-01T00:01:00Z"))) == began + 100


def test_a_persons_word_ends_the_wait() -> None:
    memory = LeaderMemory(VirtualClock(), 0.0)
    gone_since(memory, SEEN)
    assert gone_since(memory, replace(SEEN, said_gone_after="2026-01-01T00:00:00Z")) == float("-inf")
    assert gone_since(memory, replace(SEEN, report=None, said_gone_after="never")) == float("-inf")


def test_a_later_report_voids_it() -> None:
    clock = VirtualClock()
    memory = LeaderMemory(clock, clock.monotonic())
    given_up = replace(SEEN, said_gone_after="2026-01-01T00:00:00Z")
    assert gone_since(memory, given_up) == float("-inf")
    alive = replace(given_up, report=Report("uid", 3, reported_at="2026-01-01T00:00:01Z"))
    assert gone_since(memory, alive) == clock.monotonic()
    assert gone_since(memory, SEEN) == clock.monotonic(), "the word was taken back"


def test_who_is_refused_again_and_again_is_left_alone_for_longer_and_longer() -> None:
    clock = VirtualClock()
    memory = LeaderMemory(clock, 0.0)
    nodes = {"n1": replace(SEEN, name="n1")}
    waited = []
    for _ in range(12):
        memory.look({"n1": Node("n1")}, nodes, {})
        memory.refused(["n1"])
        began = clock.now
        while memory.value({}).refusing:
            clock.now += 0.5
        waited.append(clock.now - began)
    assert waited == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    memory.written(["n1"])
    memory.refused(["n1"])
    assert not memory.value({}).refusing, "it was written meanwhile"


def test_who_is_gone_is_forgotten() -> None:
    memory = LeaderMemory(VirtualClock(), 0.0)
    memory.refused(["n1"] * 3)
    assert memory.value({}).refusing == {"n1"}
    assert memory.waits_for_time(Snapshot(memory=memory.value({})), Plan())
    memory.look({}, {}, {})
    assert not memory.value({}).refusing


def test_never_means_no_report_at_all() -> None:
    clock = VirtualClock()
    assert gone_since(LeaderMemory(clock, 0.0), replace(SEEN, said_gone_after="never")) == clock.monotonic()


def test_a_quarantine_lasts_from_its_stamp_and_without_one_from_first_sight() -> None:
    pool, clock = build.pool("default", "10.0.0.0/24"), VirtualClock()
    bare = replace(build.block("10.0.0.0/28", "n1", pool), uid="bare", quarantined=True)
    early = replace(
        build.block("10.0.0.16/28", "n1", pool), uid="early", quarantined=True, released_at=rfc3339(clock.wall() - timedelta(seconds=30))
    )
    late = replace(
        build.block("10.0.0.32/28", "n1", pool), uid="late", quarantined=True, released_at=rfc3339(clock.wall() + timedelta(hours=1))
    )
    memory, began = LeaderMemory(clock, 0.0), clock.monotonic()
    for _ in range(2):
        memory.look({}, {}, {block.name: block for block in (bare, early, late)})
        clock.now += 100
    assert memory.value({}).quarantined_since == {"bare": began, "early": began - 30, "late": began}


def test_a_node_of_which_only_a_claim_is_left_is_gone_too() -> None:
    """Without Node and NodeCIDR its block would be nobody's, for ever."""
    claim = build.block("10.0.0.0/28", "n1", build.pool("default", "10.0.0.0/24"))
    clock = VirtualClock()
    memory = LeaderMemory(clock, 0.0)
    memory.look({}, {}, {claim.name: claim})
    assert memory.value({}).gone_since == {"n1": clock.monotonic()}
    memory.look({"n1": Node("n1")}, {}, {claim.name: claim})
    assert not memory.value({}).gone_since


def test_a_claim_that_never_entered_needs_quarantine_once_a_list_has_it() -> None:
    """Adopted by a NodeCIDR that was made again, and un-drained: its addresses may have been used."""
    pool = build.pool("default", "10.0.0.0/24")
    claim = replace(build.block("10.0.0.0/28", "n1", pool), uid="left")
    other = replace(build.block("10.0.0.16/28", "n1", pool), uid="other")
    blocks = {block.name: block for block in (claim, other)}
    memory = LeaderMemory(VirtualClock(), 0.0)
    memory.unused |= {"left", "other", "deleted"}
    memory.look({}, {"n1": build.nodecidr("n1", [])}, blocks)
    assert memory.value({}).unused == {"left", "other"}
    memory.look({}, {"n1": build.nodecidr("n1", [build.entry("10.0.0.0/28", pool, draining=True)])}, blocks)
    assert memory.value({}).unused == {"other"}
    memory.look({}, {"n1": build.nodecidr("n1", [])}, blocks)
    assert memory.value({}).unused == {"other"}
