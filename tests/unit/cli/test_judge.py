"""The invariants on one reading: what is a violation, what is only worth a note, what nothing could be said about."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.cli.check import last_line
from podcidr.cli.findings import REMEDIES, TITLES, Findings
from podcidr.cli.judge import judge
from podcidr.cli.reading import Address, Reading, reading
from podcidr.cli.statedirs import Attachment, StateDir
from podcidr.core.prefix import parse_address
from tests.unit.cli.objects import Object, block, node, nodecidr, pod, pool, small_cluster


def look(world: dict[str, list[Object]], **changes: Any) -> Reading:
    found = reading(world["ippools"], world["nodes"], world["nodecidrs"], world["ipblocks"], world["pods"])
    return replace(found, **changes)


def state_dir(node_name: str, *addresses: str, path: str = "", pool: str = "default", pod: str = "default/a") -> StateDir:
    held = tuple(Attachment(Address(*parse_address(address)), pod, pool, "c") for address in addresses)
    return StateDir(path or f"/state/{node_name}", node_name, held, len(held))


def broken(findings: Findings) -> list[int]:
    return [finding.invariant for finding in findings.violations]


def topics(findings: Findings) -> list[str]:
    return [note.topic for note in findings.notes]


def test_nothing_wrong() -> None:
    found = judge(look(small_cluster()), [state_dir("n1", "10.64.0.2"), state_dir("n2")])
    assert (found.violations, found.notes, found.unproved) == ((), (), ())


def test_every_invariant_has_words_and_a_remedy() -> None:
    assert sorted(TITLES) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(REMEDIES) == [1, 2, 3, 4, 7]


@pytest.mark.parametrize(("epoch", "noted"), [(7, []), (2**53 - 1, ["epoch at its end"]), (2**53 - 500_000, ["epoch at its end"])])
def test_an_epoch_that_leaves_no_room_is_noted(epoch: int, noted: list[str]) -> None:
    world = small_cluster()
    world["nodecidrs"][0]["spec"]["epoch"] = epoch
    assert topics(judge(look(world))) == noted


def test_pods_in_blocks_of_a_removed_cidr_are_ours() -> None:
    world = small_cluster()
    world["ippools"] = [pool("default", "10.99.0.0/24")]
    found = {note.words for note in judge(look(world)).notes if not note.is_warning}
    ours = sum(len(p["status"]["podIPs"]) for p in world["pods"])
    assert found == {f"addresses of pods in blocks whose pool or CIDR is gone: {ours}; they drain, restart these pods to be done sooner"}


TWO_HOLDERS = {
    "two pods on one node": ([pod("x", "n1", "10.64.0.2")], [], [1]),
    "two pods on two nodes": ([pod("x", "n2", "10.64.0.2")], [], [1, 7]),
    "a pod and its own attachment": ([], [state_dir("n1", "10.64.0.2")], []),
    "a pod and another pod's attachment on its node": ([], [state_dir("n1", "10.64.0.2", pod="default/z")], [1]),
    "a pod and an attachment that names no pod": ([], [state_dir("n1", "10.64.0.2", pod="")], []),
    "a pod and an attachment on another node": ([], [state_dir("n2", "10.64.0.2")], [1, 7]),
    "two state dirs": ([], [state_dir("n1", "10.64.0.5", path="/a"), state_dir("n1", "10.64.0.5", path="/b")], [1]),
    "a state dir of nobody knows which node": ([], [state_dir("", "10.64.0.2")], []),
    "a pod that has ended": ([pod("x", "n1", "10.64.0.2", phase="Succeeded")], [], []),
    "a pod on its node's network": ([pod("x", "n1", "10.64.0.2", host_network=True)], [], []),
    "a pod of a node that is gone": ([pod("x", "lost", "10.64.0.2")], [], []),
    "addresses of another network": ([pod("x", "n1", "172.16.0.1"), pod("y", "n1", "172.16.0.1")], [], []),
}


@pytest.mark.parametrize(("pods", "dirs", "expected"), TWO_HOLDERS.values(), ids=TWO_HOLDERS.keys())
def test_two_holders_of_one_address(pods: list[Object], dirs: list[StateDir], expected: list[int]) -> None:
    world = small_cluster()
    world["pods"] += pods
    assert broken(judge(look(world), dirs)) == expected


OUTSIDE = {
    "in a block of the node": ("n1", "10.64.0.3", []),
    "in a draining block of the node": ("n2", "10.64.0.49", []),
    "in a block of another node": ("n1", "10.64.0.18", [7]),
    "in a quarantined block": ("n1", "10.64.0.33", [7]),
    "in a block of nobody": ("n1", "10.64.0.200", [7]),
    "in no pool": ("n1", "10.99.0.1", []),
}


@pytest.mark.parametrize(("on_node", "address", "expected"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_where_a_pods_address_lies(on_node: str, address: str, expected: list[int]) -> None:
    world = small_cluster()
    world["pods"].append(pod("x", on_node, address))
    assert broken(judge(look(world))) == expected


def test_an_attachment_of_a_pool_that_is_gone_must_lie_in_a_listed_block_too() -> None:
    assert broken(judge(look(small_cluster()), [state_dir("n1", "10.99.0.1", pool="old")])) == [7]
    recovered = state_dir("n1", "10.99.0.1", pool="")  # of another plugin, from before podcidr
    assert broken(judge(look(small_cluster()), [recovered])) == []


def test_a_listed_block_without_row() -> None:
    world = small_cluster()
    world["ipblocks"] = [row for row in world["ipblocks"] if row["metadata"]["name"] != "10-64-0-16-28"]
    (found,) = judge(look(world)).violations
    assert (found.invariant, found.objects) == (2, ("NodeCIDR n2",))


def test_a_block_listed_twice_names_both_nodes() -> None:
    world = small_cluster()
    world["nodecidrs"].append(nodecidr("n3", {"10.64.0.0/28": 0}))
    (found,) = judge(look(world)).violations
    assert found.invariant == 2
    assert found.objects == ("IPBlock 10-64-0-0-28", "NodeCIDR n1", "NodeCIDR n3")


def test_a_listed_quarantined_block() -> None:
    world = small_cluster()
    world["nodecidrs"].append(nodecidr("n1", {"10.64.0.32/28": 0}))
    world["nodecidrs"].pop(0)
    assert 3 in broken(judge(look(world)))


def test_a_block_of_a_length_that_is_not_its_pools() -> None:
    world = small_cluster()
    world["ipblocks"].append(block("10.64.0.64/27", "n1"))
    assert broken(judge(look(world))) == [4]


def test_what_only_deserves_a_note() -> None:
    world = small_cluster()
    refused = {"type": "Accepted", "status": "False", "reason": "ImportPending", "message": "waiting for n9"}
    world["ippools"].append(pool("new", "10.70.0.0/16", accepted=[], conditions=[refused]))
    world["nodes"] += [node("n8", "10.64.0.250"), node("n9")]
    world["nodecidrs"].append(nodecidr("n8", {}, reports=False))
    world["ipblocks"] += [block("10.99.0.0/28", "n1", pool="old"), block("10.64.0.96/28", "n1")]
    world["pods"] += [pod("early", "n9", "10.70.0.9"), pod("other", "n9", "172.16.0.1"), pod("lost", "gone", "10.64.0.9")]
    found = judge(look(world))
    assert found.violations == ()
    assert topics(found) == [
        "pool", "silent agent", "silent agent", "orphan", "claim in no list", "claim in no list",
        "foreign address", "foreign address", "foreign address", "pods without node",
    ]  # fmt: skip
    words = "\n".join(note.words for note in found.notes)
    assert "pool new is not accepted (ImportPending): waiting for n9" in words
    assert "node n8 has address 10.64.0.250 itself, in 10.64.0.0/24 of pool default" in words
    assert "Pod default/early has address 10.70.0.9 of pool new, whose 10.70.0.0/16 is not in use yet" in words


def test_without_pods_and_state_dirs_1_and_7_are_not_proved() -> None:
    world = small_cluster()
    world["nodecidrs"] = [nodecidr("n1", {"10.64.0.0/28": 0}, reports=False)]
    found = judge(look(world, pods=None, pods_missing="this account may not list pods"))
    assert found.unproved == (1, 7)
    assert "this account may not list pods" in {proof.not_checked for proof in found.proofs}
    assert last_line(found) == "check: 0 violations (1 nodecidrs, 4 blocks, 1 pools; not checked: 1, 7)"


def test_a_check_of_nothing() -> None:
    found = judge(reading([], [], [], [], []))
    assert found.unproved == (1, 2, 3, 4, 7)
    assert last_line(found).startswith("check: nothing to check (")


def test_only_what_two_looks_show_is_a_violation() -> None:
    world = small_cluster()
    world["pods"].append(pod("x", "n1", "10.64.0.200"))
    wrong, right = judge(look(world)), judge(look(small_cluster()))
    assert broken(wrong.confirmed(wrong)) == [7]
    assert broken(wrong.confirmed(right)) == broken(right.confirmed(wrong)) == []
