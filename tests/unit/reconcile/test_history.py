"""The record's keeper: few writes, none in a round's way, and no line lost to a second leader or a kill."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from podcidr.core.actions import Claim, Free, Leave
from podcidr.core.history import SEGMENT_BYTES, Segment, parse
from podcidr.core.model import Block, Snapshot
from podcidr.core.prefix import Prefix, block_name, parse_prefix
from podcidr.kube.errors import AlreadyExists, Conflict, Fenced, Forbidden, KubeError, NotFound
from podcidr.reconcile.history import RETRY_SECONDS, WRITE_SECONDS, History
from tests.unit.kube.fakes import VirtualClock

ONE = parse_prefix("10.0.0.0/28")


@dataclass
class Store:
    """ConfigMaps, with versions; counts writes."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    writes: int = 0
    reads: int = 0
    broken: type[KubeError] | None = None

    async def get(self, _resource: object, name: str, *, namespace: str) -> dict[str, Any]:
        assert namespace == "ns"
        self.reads += 1
        if name not in self.objects:
            raise NotFound(name)
        return self.objects[name]

    async def create(self, _resource: object, body: dict[str, Any], *, namespace: str) -> dict[str, Any]:
        if body["metadata"]["name"] in self.objects:
            raise AlreadyExists("it is there")
        return self._put(body)

    async def replace(self, _resource: object, name: str, body: dict[str, Any], *, namespace: str) -> dict[str, Any]:
        if self.objects[name]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise Conflict("another version")
        return self._put(body)

    def _put(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.broken:
            raise self.broken("broken")
        self.writes += 1
        version = {"resourceVersion": str(self.writes)}
        self.objects[body["metadata"]["name"]] = body | {"metadata": body["metadata"] | version}
        return self.objects[body["metadata"]["name"]]

    @property
    def lines(self) -> list[str]:
        ordered = sorted(self.objects.values(), key=lambda obj: int(obj["data"]["number"]))
        return [" ".join(line.split()[1:]) for obj in ordered for line in obj["data"]["log"].splitlines()]


def keeper(store: Store, clock: VirtualClock, namespace: str | None = "ns") -> History:
    return History(store, clock, namespace)  # type: ignore[arg-type]


def claim(prefix: Prefix = ONE, reason: str = "") -> Claim:
    return Claim("n1", reason, prefix, "default", "u", 1)


def ledger(*, created: str = "") -> Snapshot:
    block = Block(block_name(ONE), "u", ONE, "default", "p", "n1", "n", created=created)
    return Snapshot(blocks={block.name: block})


async def test_what_is_done_is_written_at_once_and_then_every_ten_seconds() -> None:
    store, clock = Store(), VirtualClock()
    history = keeper(store, clock)
    history.done([claim()], Snapshot())
    await history.keep(Snapshot())
    assert store.lines == ["claimed 10.0.0.0/28 default n1"]
    for _ in range(20):
        history.done([Leave("n1", "", ONE)], ledger())
        await history.keep(Snapshot())
    assert store.writes == 1
    assert history.due_seconds == WRITE_SECONDS
    clock.now += WRITE_SECONDS
    await history.keep(Snapshot())
    assert store.writes == 2
    assert store.lines[-1] == "released 10.0.0.0/28 default n1"
    assert history.due_seconds == float("inf"), "with nothing to write no round is made for it"


async def test_a_halt_writes_what_is_left() -> None:
    store, clock = Store(), VirtualClock()
    history = keeper(store, clock)
    await history.keep(Snapshot())
    history.done([claim()], Snapshot())
    await history.keep(Snapshot())
    assert store.lines == []
    await history.keep(Snapshot(), at_once=True)
    assert len(store.lines) == 1


async def test_the_next_operator_goes_on_and_adds_what_was_missed() -> None:
    store, clock = Store(), VirtualClock()
    first = keeper(store, clock)
    first.done([Free("n1", "", parse_prefix("10.0.0.16/28"), "u", 1)], Snapshot())
    await first.keep(Snapshot())
    created = store.objects["podcidr-history-00"]["data"]["log"].split()[0]
    second = keeper(store, clock)
    await second.keep(ledger(created=created))
    assert store.lines[1:] == ["claimed 10.0.0.0/28 default n1 found in the ledger"]
    third = keeper(store, clock)
    await third.keep(ledger(created=created))
    assert len(store.lines) == 2, "what is known is not written again"


async def test_two_leaders_lose_no_line_of_each_other() -> None:
    store, clock = Store(), VirtualClock()
    old, new = keeper(store, clock), keeper(store, clock)
    for history, prefix in ((old, "10.0.0.0/28"), (new, "10.0.0.16/28")):
        history.done([claim(parse_prefix(prefix))], Snapshot())
        await history.keep(ledger() if history is new else Snapshot())
    clock.now += WRITE_SECONDS
    old.done([claim(parse_prefix("10.0.0.32/28"))], Snapshot())
    await old.keep(Snapshot())  # refused: the other has written
    clock.now += RETRY_SECONDS
    await old.keep(_all_of(3))
    assert sorted(store.lines) == [f"claimed 10.0.0.{number}/28 default n1" for number in (0, 16, 32)]


def _all_of(count: int) -> Snapshot:
    prefixes = [parse_prefix(f"10.0.0.{16 * number}/28") for number in range(count)]
    blocks = [Block(block_name(prefix), "u", prefix, "default", "p", "n1", "n") for prefix in prefixes]
    return Snapshot(blocks={block.name: block for block in blocks})


@pytest.mark.parametrize("error", [Forbidden, Conflict])
async def test_a_failure_is_tried_again_a_minute_later_and_loses_nothing(error: type[KubeError]) -> None:
    store, clock = Store(broken=error), VirtualClock()
    history = keeper(store, clock)
    history.done([claim()], Snapshot())
    await history.keep(Snapshot())
    reads = store.reads
    store.broken = None
    clock.now += WRITE_SECONDS
    await history.keep(Snapshot())
    assert (store.writes, store.reads) == (0, reads)
    clock.now += RETRY_SECONDS
    await history.keep(ledger())
    assert store.lines == ["claimed 10.0.0.0/28 default n1"]


async def test_a_leader_that_is_none_any_more_stops() -> None:
    store = Store(broken=Fenced)
    history = keeper(store, VirtualClock())
    history.done([claim()], Snapshot())
    with pytest.raises(Fenced):
        await history.keep(Snapshot())


async def test_a_flood_stays_within_its_bounds() -> None:
    store, clock = Store(), VirtualClock()
    history = keeper(store, clock)
    for wave in range(10):
        history.done([claim(Prefix(ONE.family, (10 << 24) + 16 * number, 28), "x" * 90) for number in range(5_000)], Snapshot())
        clock.now += WRITE_SECONDS
        before = store.writes
        await history.keep(Snapshot())
        assert store.writes - before <= 12, wave
    assert len(store.objects) == 16
    assert max(len(obj["data"]["log"].encode()) for obj in store.objects.values()) <= SEGMENT_BYTES


async def test_unreadable_content_does_no_harm() -> None:
    store, clock = Store(), VirtualClock()
    store.objects["podcidr-history-03"] = {
        "metadata": {"name": "podcidr-history-03", "resourceVersion": "1"},
        "data": {"number": "x", "log": "?\n"},
    }
    history = keeper(store, clock)
    history.done([claim()], Snapshot())
    await history.keep(Snapshot())
    assert any(parse(line) for obj in store.objects.values() for line in obj["data"]["log"].splitlines())
    assert Segment().slot == 0


async def test_without_a_namespace_nothing_is_kept() -> None:
    store = Store()
    history = keeper(store, VirtualClock(), None)
    history.done([claim()], Snapshot())
    await history.keep(Snapshot())
    assert (store.reads, store.writes, history.due_seconds) == (0, 0, float("inf"))
