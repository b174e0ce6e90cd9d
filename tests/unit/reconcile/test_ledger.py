"""When claims are held back, and until when."""

from podcidr.core.model import Node, NodeCIDR, Report
from podcidr.kube.lease import LeaseHistory
from podcidr.reconcile.ledger import LedgerWatch

NODES = {"n1": Node("n1", ready=True), "n2": Node("n2", ready=False)}


def nodecidr(epoch: int, reported: int | None = None, uid: str = "uid-1", question: str = "", answer: str | None = None) -> NodeCIDR:
    return NodeCIDR("n1", uid, epoch, report=Report(uid, reported, question=answer) if reported else None, question=question)


def test_a_lease_that_was_renewed_lately_is_trusted() -> None:
    watch = LedgerWatch()
    watch.judge_lease(LeaseHistory("other", 59), 0)
    assert watch.why is None


def test_a_missing_or_old_lease_is_suspect() -> None:
    for previous in (None, LeaseHistory("other", 61)):
        watch = LedgerWatch()
        watch.judge_lease(previous, 0)
        assert watch.why


def test_only_a_report_of_the_epoch_asked_for_ends_the_wait() -> None:
    watch = LedgerWatch()
    watch.suspect("restored", 0)
    assert watch.to_ask(NODES, {"n1": nodecidr(4, 4)}) == [nodecidr(4, 4)]
    watch.update(NODES, {"n1": nodecidr(4, 4)}, 1, 1)
    assert watch.why, "a report from before the question says nothing"
    watch.asked(nodecidr(5, 4))
    assert watch.to_ask(NODES, {"n1": nodecidr(5, 4)}) == []
    watch.update(NODES, {"n1": nodecidr(5, 4)}, 1, 1)
    assert watch.why
    watch.update(NODES, {"n1": nodecidr(5, 5)}, 1, 1)
    assert watch.why is None


def test_a_report_of_the_lost_history_is_no_answer() -> None:
    watch = LedgerWatch()
    watch.suspect("restored", 0)
    watch.asked(nodecidr(5, 4, question="q"))
    by_its_epoch = nodecidr(5, 9, question="q", answer=None)
    for lost in (nodecidr(5, 5, question="q", answer=""), nodecidr(5, 9, question="q", answer=""), by_its_epoch):
        watch.update(NODES, {"n1": lost}, 1, 1)
        assert watch.why
    watch.update(NODES, {"n1": nodecidr(10, 9, question="q", answer="")}, 1, 1)
    assert watch.why, "written above it, and not heard yet"
    watch.update(NODES, {"n1": nodecidr(10, 10, question="q", answer="q")}, 1, 1)
    assert watch.why is None


def test_lists_are_left_alone_until_their_nodes_have_told() -> None:
    watch = LedgerWatch()
    assert watch.silent_now({"n1": nodecidr(4, 4)}) == frozenset()
    watch.suspect("restored", 0)
    assert watch.silent_now({"n1": nodecidr(4, 4)}) == {"n1"}
    watch.asked(nodecidr(5, 4, question="q"))
    assert watch.silent_now({"n1": nodecidr(5, 4, question="q")}) == {"n1"}
    assert watch.silent_now({"n1": nodecidr(5, 5, question="q", answer="q")}) == frozenset()
    assert watch.silent_now({"n1": nodecidr(5, 9, question="q", answer="")}) == frozenset(), "it waits for a later epoch"


def test_a_nodecidr_that_was_put_back_once_more_is_asked_anew() -> None:
    watch = LedgerWatch()
    watch.suspect("restored", 0)
    watch.asked(nodecidr(5, 4, question="q"))
    assert watch.to_ask(NODES, {"n1": nodecidr(4, 4, question="earlier")})


def test_a_nodecidr_made_again_is_asked_anew() -> None:
    watch = LedgerWatch()
    watch.suspect("restored", 0)
    watch.asked(nodecidr(5))
    assert watch.to_ask(NODES, {"n1": nodecidr(1, uid="uid-2")})
    watch.update(NODES, {"n1": nodecidr(9, 9, uid="uid-2")}, 1, 1)
    assert watch.why


def test_a_second_suspicion_asks_anew() -> None:
    watch, told = LedgerWatch(), {"n1": nodecidr(5, 5)}
    watch.suspect("restored", 0)
    watch.asked(nodecidr(5))
    watch.update(NODES, told, 1, 1)
    assert watch.why is None
    watch.suspect("restored again", 2)
    assert watch.to_ask(NODES, told) == [nodecidr(5, 5)]
    watch.update(NODES, told, 3, 3)
    assert watch.why, "that was said before the second restore"


def test_silent_nodes_are_waited_for_three_minutes_and_named() -> None:
    watch = LedgerWatch()
    watch.suspect("restored", 0)
    watch.update(NODES, {}, 179, 179)
    assert watch.why
    watch.update(NODES, {}, 181, 179)
    assert watch.why, "what they said last may be newer than the list"
    assert watch.needs_list(181, 179)
    assert not watch.needs_list(181, 180)
    watch.update(NODES, {}, 181, 180)
    assert watch.why is None
    assert watch.silent == ("n1",)


def test_nodes_that_are_not_ready_are_not_waited_for() -> None:
    watch = LedgerWatch()
    watch.suspect("restored", 0)
    watch.update({"n2": NODES["n2"]}, {}, 1, 1)
    assert watch.why is None
