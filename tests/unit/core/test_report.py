"""Which report speaks of the list that the API has: by uid, epoch and question."""

import pytest

from podcidr.core.model import NodeCIDR, Report


def seen(epoch: int, question: str | None, *, uid: str = "u1") -> NodeCIDR:
    """A list at epoch 7 that asks `q`, and a report."""
    return NodeCIDR("n1", "u1", 7, question="q", report=Report(uid, epoch, question=question))


@pytest.mark.parametrize(
    ("epoch", "question", "current", "overtaken", "answers"),
    [
        (5, "q", False, False, False),  # asked at 6
        (6, "q", False, False, True),
        (7, "q", True, False, True),
        (7, None, True, False, True),  # an agent that knows of no questions
        (7, "", False, True, False),  # the same epoch of a history that etcd lost
        (7, "another", False, True, False),
        (6, "another", False, False, False),
        (8, "q", False, True, False),
        (8, "another", False, True, False),
    ],
)
def test_epoch_and_question_have_to_fit(epoch: int, question: str | None, *, current: bool, overtaken: bool, answers: bool) -> None:
    nodecidr = seen(epoch, question)
    assert (nodecidr.current is not None, nodecidr.overtaken, nodecidr.has_answered(6)) == (current, overtaken, answers)


@pytest.mark.parametrize("nodecidr", [NodeCIDR("n1", "u1", 7), seen(7, "q", uid="u2")])
def test_none_of_this_object_says_nothing(nodecidr: NodeCIDR) -> None:
    assert (nodecidr.current, nodecidr.overtaken, nodecidr.has_answered(1)) == (None, False, False)
