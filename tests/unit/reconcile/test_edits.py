"""What a round writes into one NodeCIDR."""

from podcidr.core.actions import Adopt, Claim, Drain, Leave, RaiseEpoch, SetPools, Undrain
from podcidr.core.model import Entry, NodeCIDR, Report
from podcidr.core.prefix import Prefix, parse_prefix
from podcidr.reconcile.edits import NodeEdit, edits

A, B, C, D = (parse_prefix(f"10.64.0.{number}/28") for number in (0, 16, 32, 48))


def entry(prefix: Prefix, *, draining: bool = False, generation: int = 1) -> Entry:
    return Entry(prefix, "default", "pool-uid", generation, draining)


def nodecidr(*entries: Entry, report: Report | None = None) -> NodeCIDR:
    return NodeCIDR("n1", "uid-1", 7, ("default",), entries, report)


def test_all_actions_of_a_node_are_one_patch_that_tests_uid_and_epoch() -> None:
    node = nodecidr(entry(A), entry(B, draining=True), entry(C, draining=True))
    actions = [
        Drain("n1", "", A),
        Undrain("n1", "", B, 3),
        Leave("n1", "", C),
        Claim("n1", "", D, "default", "pool-uid", 3),
        SetPools("n1", "", ("default", "extra")),
    ]

    patch = edits(actions, {"n1": node})["n1"].operations()

    assert patch[:3] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-1"},
        {"op": "test", "path": "/spec/epoch", "value": 7},
        {"op": "replace", "path": "/spec/epoch", "value": 8},
    ]
    assert {"op": "add", "path": "/spec/pools", "value": ["default", "extra"]} in patch
    (blocks,) = (operation["value"] for operation in patch if operation["path"] == "/spec/blocks")
    assert [(block["cidr"], block["state"], block["poolGeneration"]) for block in blocks] == [
        (str(A), "Draining", 1),
        (str(B), "Active", 3),
        (str(D), "Active", 3),
    ]


def test_a_fence_is_a_patch_that_only_raises_the_epoch() -> None:
    patch = edits([Leave("n1", "", D)], {"n1": nodecidr(entry(A))})["n1"].operations()
    assert [operation["path"] for operation in patch] == ["/metadata/uid", "/spec/epoch", "/spec/epoch"]


def test_the_epoch_grows_past_what_the_node_has_seen() -> None:
    node = nodecidr(report=Report("uid-1", 12))
    assert edits([RaiseEpoch("n1", "")], {"n1": node})["n1"].epoch == 13


def test_what_goes_above_a_list_that_etcd_lost_offers_nothing() -> None:
    for report in (Report("uid-1", 12), Report("uid-1", 7, question="before")):
        node = nodecidr(entry(A), entry(B, draining=True), report=report)
        for actions in ([RaiseEpoch("n1", "")], [Adopt("n1", "", C, "default", "pool-uid", 1)]):
            assert all(listed.draining for listed in edits(actions, {"n1": node})["n1"].entries())
    assert not edits([RaiseEpoch("n1", "")], {"n1": nodecidr(entry(A), report=Report("uid-1", 7))})["n1"].entries()[0].draining


def test_a_question_is_written_with_its_epoch() -> None:
    patch = edits([RaiseEpoch("n1", "", "0af1")], {"n1": nodecidr(entry(A))})["n1"].operations()
    assert patch[2:] == [
        {"op": "replace", "path": "/spec/epoch", "value": 8},
        {"op": "add", "path": "/spec/question", "value": "0af1"},
    ]


def test_the_epoch_of_another_uid_does_not_count() -> None:
    node = nodecidr(report=Report("uid-0", 12))
    assert edits([RaiseEpoch("n1", "")], {"n1": node})["n1"].epoch == 8


def test_an_adopted_block_enters_as_draining() -> None:
    edit = edits([Adopt("n1", "", A, "default", "pool-uid", 2)], {"n1": nodecidr()})["n1"]
    assert edit.entries() == [entry(A, draining=True, generation=2)]


def test_nothing_left_to_do_is_no_patch() -> None:
    assert NodeEdit(nodecidr(entry(A))).operations() == []
