"""Four sources, one rule: nothing goes back to an older version, nothing that vanished stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from podcidr.kube.client import KubeClient
from podcidr.kube.errors import Forbidden, Gone, OutcomeUnknown, Stalled
from podcidr.kube.reflector import Reflector
from podcidr.kube.resources import NODES
from podcidr.kube.transport import Reply
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, ok, settle, status


def node(name: str, version: int, label: str | None = "x") -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "label": label}


@dataclass
class Stand:
    """A reflector of Nodes on a fake server, whose next list is `nodes` at `version`."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    version: int = 10
    changes: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    refusals: list[Reply] = field(default_factory=list)
    from_cache: bool = False
    compares: bool = False
    regressions: int = 0

    def __post_init__(self) -> None:
        self.clock = VirtualClock(chance=1.0)
        self.transport = FakeTransport(self._answer)
        self.reflector = Reflector[str](
            KubeClient(self.transport, self.clock),
            NODES,
            lambda obj: obj["label"],
            clock=self.clock,
            on_change=lambda name, old, new: self.changes.append((name, old, new)),
            from_cache=self.from_cache,
            compares=self.compares,
            on_regression=self._regressed,
        )

    def _regressed(self) -> None:
        self.regressions += 1

    def _answer(self, call: Call) -> Reply:
        if self.refusals:
            return self.refusals.pop(0)
        return ok({"metadata": {"resourceVersion": str(self.version)}, "items": self.nodes})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Reflector[str]]:
        task = asyncio.create_task(self.reflector.run())
        await self.clock.advance(0)
        yield self.reflector
        assert not task.done(), "run ends by cancellation only"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def emit(self, event_type: str, obj: dict[str, Any]) -> None:
        self.transport.emit(event_type, obj)
        await settle()

    def lists(self) -> int:
        return sum(call.method == "GET" for call in self.transport.calls)


async def test_lists_then_watches_from_there() -> None:
    stand = Stand([node("a", 3), node("hidden", 4, None)])
    async with stand.running() as reflector:
        assert reflector.synced.is_set()
        assert reflector.items == {"a": "x"}
        assert stand.transport.watches[0][0].query["resourceVersion"] == "10"
        await stand.emit("ADDED", node("b", 11))
        await stand.emit("MODIFIED", node("a", 12, "y"))
        await stand.emit("DELETED", node("b", 13))
        assert reflector.items == {"a": "y"}
        assert reflector.resource_version == 13
        assert stand.changes == [("a", None, "x"), ("b", None, "x"), ("a", "x", "y"), ("b", "x", None)]


async def test_change_outside_of_the_projection_is_silent() -> None:
    stand = Stand([node("a", 3)])
    async with stand.running():
        await stand.emit("MODIFIED", node("a", 11))
        await stand.emit("MODIFIED", node("a", 12, None))
        await stand.emit("MODIFIED", node("a", 13, None))
        assert stand.changes == [("a", None, "x"), ("a", "x", None)]


async def test_what_vanished_during_a_410_is_deleted() -> None:
    stand = Stand([node("a", 3), node("b", 4)])
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("b", 4)], 50
        stand.transport.emit("ERROR", {"kind": "Status", "code": 410, "reason": "Expired"})
        await stand.clock.advance(2)
        assert reflector.items == {"b": "x"}
        assert stand.changes[-1] == ("a", "x", None)
        assert stand.transport.watches[-1][0].query["resourceVersion"] == "50"


async def test_broken_stream_goes_on_where_it_was_without_a_list() -> None:
    stand = Stand()
    async with stand.running() as reflector:
        await stand.emit("BOOKMARK", node("", 77))
        stand.transport.end(OutcomeUnknown("connection reset"))
        await stand.clock.advance(2)
        assert stand.lists() == 1
        assert stand.transport.watches[-1][0].query["resourceVersion"] == "77"
        assert reflector.last_progress == 1000.0


async def test_silent_stream_lists_again() -> None:
    stand = Stand()
    async with stand.running():
        stand.transport.end(Stalled("silent"))
        await stand.clock.advance(2)
        assert stand.lists() == 2


async def test_a_refused_list_is_tried_again_and_never_given_up() -> None:
    stand = Stand(refusals=[status(403, "Forbidden")] * 6)
    async with stand.running() as reflector:
        await stand.clock.advance(40)  # 2 + 4 + 8 + 10 + 10 + 10 s of pauses
        assert not reflector.synced.is_set()
        await stand.clock.advance(5)
        assert reflector.synced.is_set()


async def test_expired_page_starts_the_list_over() -> None:
    stand = Stand([node("a", 3)], refusals=[status(410, "Expired")])
    await stand.reflector.relist()
    assert stand.reflector.items == {"a": "x"}
    stand.refusals = [status(410, "Expired")] * 3
    with pytest.raises(Gone):
        await stand.reflector.relist()


async def test_relist_beside_the_watch_never_goes_back() -> None:
    stand = Stand([node("a", 3), node("b", 4)])
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 15, "new")], 20
        await reflector.relist()
        assert reflector.items == {"a": "new"}
        # The watch lags: it now tells of a's past and of b, which the list at 20 knows to be deleted.
        await stand.emit("MODIFIED", node("a", 12, "old"))
        await stand.emit("MODIFIED", node("b", 13, "ghost"))
        await stand.emit("DELETED", node("a", 14))
        assert reflector.items == {"a": "new"}
        await stand.emit("MODIFIED", node("a", 21, "newer"))
        assert reflector.items == {"a": "newer"}
        assert stand.lists() == 2, "the watch went on"


async def test_list_that_is_older_than_the_watch_does_not_undo_it() -> None:
    stand = Stand([node("a", 3), node("gone", 4)])
    async with stand.running() as reflector:
        stand.transport.answer = _meanwhile(stand, reflector)
        await reflector.relist()
        assert reflector.items == {"a": "watched", "young": "x"}


def _meanwhile(stand: Stand, reflector: Reflector[str]) -> Any:
    def answer(_call: Call) -> Reply:
        # Taken at 10; before the answer arrives, the watch has come to 13.
        reflector._apply("MODIFIED", node("a", 11, "watched"), 11)
        reflector._apply("ADDED", node("young", 12), 12)
        reflector._apply("DELETED", node("gone", 13), 13)
        return ok({"metadata": {"resourceVersion": "10"}, "items": [node("a", 3), node("gone", 4)]})

    return answer


async def test_observe_shows_our_own_write_at_once() -> None:
    stand = Stand([node("a", 3)])
    async with stand.running() as reflector:
        reflector.observe(node("b", 11))
        reflector.observe(node("a", 12, "y"))
        reflector.observe(node("a", 9, "late answer"))
        assert reflector.items == {"a": "y", "b": "x"}
        changes = len(stand.changes)
        await stand.emit("ADDED", node("b", 11))
        await stand.emit("MODIFIED", node("a", 12, "y"))
        assert len(stand.changes) == changes
        assert reflector.items == {"a": "y", "b": "x"}


async def test_observe_after_the_watch_saw_the_deletion_brings_nothing_back() -> None:
    stand = Stand()
    async with stand.running() as reflector:
        await stand.emit("ADDED", node("b", 11))
        await stand.emit("DELETED", node("b", 12))
        reflector.observe(node("b", 11))
        assert reflector.items == {}


async def test_list_that_is_older_than_our_own_writes_does_not_undo_them() -> None:
    stand = Stand([node("a", 3)])
    await stand.reflector.relist()

    def answer(_call: Call) -> Reply:
        stand.reflector.observe(node("b", 11))
        stand.reflector.forget("a", 12)
        return ok({"metadata": {"resourceVersion": "10"}, "items": [node("a", 3)]})

    stand.transport.answer = answer
    await stand.reflector.relist()
    assert stand.reflector.items == {"b": "x"}
    assert not stand.reflector.regressed


async def test_forget_is_not_undone_by_a_watch_that_lags() -> None:
    stand = Stand([node("a", 3)])
    async with stand.running() as reflector:
        reflector.observe(node("a", 12, "y"))
        reflector.forget("a")
        await stand.emit("MODIFIED", node("a", 11, "old"))
        await stand.emit("MODIFIED", node("a", 12, "y"))
        assert reflector.items == {}
        await stand.emit("DELETED", node("a", 13))
        await stand.emit("ADDED", node("a", 14, "again"))
        assert reflector.items == {"a": "again"}


async def test_forget_of_an_older_incarnation_keeps_the_newer() -> None:
    stand = Stand([node("a", 3)])
    async with stand.running() as reflector:
        await stand.emit("DELETED", node("a", 11))
        await stand.emit("ADDED", node("a", 12, "again"))
        reflector.forget("a", 11)
        assert reflector.items == {"a": "again"}


async def test_deletions_are_not_remembered_for_ever() -> None:
    stand = Stand()
    async with stand.running() as reflector:
        for version in range(11, 211, 2):
            await stand.emit("ADDED", node(f"n{version}", version))
            await stand.emit("DELETED", node(f"n{version}", version + 1))
        assert reflector._removed == {}


async def test_restored_etcd_is_noticed_and_taken_as_it_is() -> None:
    stand = Stand([node("a", 900), node("b", 950)], version=1000)
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 100, "before")], 120
        await reflector.relist()
        assert reflector.regressed
        assert reflector.items == {"a": "before"}
        assert reflector.resource_version == 120
        await stand.emit("ADDED", node("c", 121))
        await stand.clock.advance(2)
        assert stand.transport.watches[-1][0].query["resourceVersion"] == "120", "watches on the new count"


async def test_a_watch_that_goes_back_lists_again() -> None:
    stand = Stand([node("a", 900)], version=1000)
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 100, "before")], 120
        await stand.emit("BOOKMARK", node("", 121))
        await stand.clock.advance(2)
        assert reflector.regressed
        assert reflector.items == {"a": "before"}


async def test_a_silent_watch_is_opened_anew_when_a_list_finds_a_restore() -> None:
    """It stands above the restored versions, and would tell nothing until they have come there."""
    stand = Stand([node("a", 900)], version=1000)
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 100, "before")], 120
        await reflector.relist()
        await stand.clock.advance(2)
        assert stand.transport.watches[-1][0].query["resourceVersion"] == "120"
        assert stand.lists() == 2
        await stand.emit("ADDED", node("c", 121))
        assert reflector.items == {"a": "before", "c": "x"}
        assert stand.regressions == 1


async def test_restored_etcd_whose_versions_are_past_ours_is_noticed_by_what_is_older() -> None:
    stand = Stand([node("a", 900, "lost"), node("phantom", 950)], version=1000)
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 100, "before"), node("risen", 110)], 1200
        await reflector.compare()
        assert reflector.items == {"a": "before", "risen": "x"}
        assert reflector.regressed
        await stand.clock.advance(2)
        assert stand.transport.watches[-1][0].query["resourceVersion"] == "1200"


async def test_what_was_deleted_in_a_history_that_is_lost_is_back() -> None:
    stand = Stand([node("a", 3)])
    async with stand.running() as reflector:

        def answer(_call: Call) -> Reply:
            reflector._apply("DELETED", node("a", 11), 11)  # by a stream of before
            return ok({"metadata": {"resourceVersion": "20"}, "items": [node("a", 3)]})

        stand.transport.answer = answer
        await reflector.relist()
        assert reflector.items == {"a": "x"}
        assert reflector.regressed


async def test_compare_finds_what_no_watch_told() -> None:
    stand = Stand([node("a", 3), node("phantom", 4)])
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 3)], 20
        await reflector.compare()
        assert reflector.items == {"a": "x"}
        assert not reflector.regressed
        stand.nodes, stand.version = [node("a", 3), node("unheard-of", 18)], 30
        await reflector.compare()
        assert reflector.items == {"a": "x", "unheard-of": "x"}


async def test_compare_asks_for_names_and_versions_and_leaves_what_is_right() -> None:
    stand = Stand([node("a", 3), node("b", 4)])
    async with stand.running() as reflector:
        stand.nodes, stand.version = [node("a", 3), node("b", 13), node("c", 14)], 20  # the watch will tell of b and c
        await reflector.compare()
        assert reflector.lists == 1
        assert [call.accept and call.accept.partition(";")[2].partition(";")[0] for call in stand.transport.calls] == [
            None, None, "as=PartialObjectMetadataList",
        ]  # fmt: skip
        assert reflector.items == {"a": "x", "b": "x"}


@pytest.mark.parametrize(
    ("there", "lists"),
    [
        (None, True),
        (node("a", 2, "before"), True),
        (node("a", 3), False),
        (node("a", 9), True),  # the watch is past it, and did not tell
        (node("a", 11), False),  # it will
    ],
)
async def test_confirm_lists_where_one_is_not_as_held(there: dict[str, Any] | None, *, lists: bool) -> None:
    stand = Stand([node("a", 3)])
    async with stand.running() as reflector:
        list_answer, stand.nodes, stand.version = stand.transport.answer, [there] if there else [], 20

        def answer(call: Call) -> Reply:
            if not call.path.endswith("/a"):
                return list_answer(call)
            return ok(there) if there else status(404, "NotFound")

        stand.transport.answer = answer
        await reflector.confirm(["a"])
        assert reflector.lists == 1 + lists
        assert reflector.items == ({"a": there["label"]} if there else {})
        assert reflector.regressed == (there is not None and there["label"] == "before")


async def test_compare_goes_on_where_its_list_failed() -> None:
    """By then the versions may be past ours."""
    stand = Stand([node("a", 900, "lost")], version=1000)
    async with stand.running() as reflector:
        names = ok({"metadata": {"resourceVersion": "120"}, "items": [node("a", 900)]})
        stand.refusals = [names, status(403, "Forbidden")]
        with pytest.raises(Forbidden):
            await reflector.compare()
        stand.nodes, stand.version = [node("a", 900, "before")], 1200  # the same version in both histories
        await reflector.compare()
        assert reflector.items == {"a": "before"}


@pytest.mark.parametrize("compares", [True, False])
async def test_one_that_compares_asks_before_each_new_watch(*, compares: bool) -> None:
    stand = Stand([node("a", 900)], version=1000, compares=compares)
    async with stand.running() as reflector:
        stand.transport.end(OutcomeUnknown("connection reset"))
        await stand.clock.advance(2)
        assert reflector.lists == 1
        assert stand.lists() == 1 + compares
        stand.nodes, stand.version = [node("a", 100, "before")], 120
        stand.transport.end(OutcomeUnknown("connection reset"))
        await stand.clock.advance(5)
        assert reflector.items == {"a": "before" if compares else "x"}
        assert stand.transport.watches[-1][0].query["resourceVersion"] == ("120" if compares else "1000")


async def test_only_the_first_list_may_come_from_the_cache() -> None:
    stand = Stand([node("a", 3)], from_cache=True)
    async with stand.running() as reflector:
        await reflector.relist()
    first, second = (call for call in stand.transport.calls if call.method == "GET")
    assert first.query["resourceVersion"] == "0"
    assert "resourceVersion" not in second.query


async def test_relist_raises_what_the_list_raises_and_changes_nothing() -> None:
    stand = Stand([node("a", 3)])
    await stand.reflector.relist()
    stand.refusals = [status(403, "Forbidden")]
    with pytest.raises(Forbidden):
        await stand.reflector.relist()
    assert stand.reflector.items == {"a": "x"}
