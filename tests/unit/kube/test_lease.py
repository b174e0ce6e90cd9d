"""Two electors and one Lease on virtual time: never two that may write."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from podcidr.kube.client import KubeClient
from podcidr.kube.errors import OutcomeUnknown
from podcidr.kube.lease import Elector
from podcidr.kube.transport import Reply
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, ok, status

SECONDS = 15.0


@dataclass
class LeaseServer:
    """One Lease with compare-and-swap, which is all that an elector rests on."""

    record: dict[str, Any] | None = None
    version: int = 0
    lose_answers: bool = False

    def answer(self, call: Call) -> Reply:
        if call.method == "GET":
            return ok(self.record) if self.record else status(404, "NotFound")
        if call.method == "POST":
            if self.record:
                return status(409, "AlreadyExists")
        elif self.record is None:
            return status(404, "NotFound")
        elif call.body["metadata"]["resourceVersion"] != self.record["metadata"]["resourceVersion"]:
            return status(409, "Conflict")
        self.store(call.body)
        if self.lose_answers:
            raise OutcomeUnknown("connection lost")
        assert self.record is not None
        return ok(self.record)

    def store(self, body: dict[str, Any]) -> None:
        self.version += 1
        self.record = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}

    @property
    def spec(self) -> dict[str, Any]:
        assert self.record is not None
        spec: dict[str, Any] = self.record["spec"]
        return spec


@dataclass
class Candidate:
    server: LeaseServer
    clock: VirtualClock
    identity: str
    transport: FakeTransport = field(init=False)

    def __post_init__(self) -> None:
        self.transport = FakeTransport(self.server.answer, clock=self.clock)
        self.elector = Elector(
            KubeClient(self.transport, self.clock),
            clock=self.clock,
            namespace="ns",
            name="lock",
            identity=self.identity,
            lease_seconds=SECONDS,
        )
        self.task = asyncio.create_task(self.elector.run())

    @property
    def may_write(self) -> bool:
        return self.elector.remaining_seconds() > 0


@contextmanager
def candidates(clock: VirtualClock, server: LeaseServer, *names: str) -> Iterator[list[Candidate]]:
    everyone = [Candidate(server, clock, name) for name in names]
    yield everyone
    for candidate in everyone:
        candidate.task.cancel()


async def test_first_start_creates_the_lease_and_renews_it() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(0)
        assert a.elector.leading.is_set()
        assert a.elector.previous is None
        assert (a.elector.transitions, server.spec["leaseTransitions"]) == (1, 1)
        assert server.spec["renewTime"] == "2026-01-01T00:16:40.000000Z"
        assert a.elector.remaining_seconds() == 10.0
        for _ in range(60):
            await clock.advance(1)
            assert a.elector.remaining_seconds() >= 8.0


async def test_standby_takes_over_only_after_the_whole_duration_unchanged() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a", "b") as (a, b):
        await clock.advance(5)
        leader, standby = (a, b) if a.may_write else (b, a)
        assert not standby.may_write
        leader.transport.hanging = True
        lost_at = taken_at = 0.0
        for _ in range(400):
            await clock.advance(0.1)
            assert not (leader.may_write and standby.may_write)
            lost_at = lost_at or (0.0 if leader.may_write else clock.now)
            taken_at = taken_at or (clock.now if standby.may_write else 0.0)
        assert taken_at - lost_at >= SECONDS / 3 - 2.5
        assert leader.task.done(), "a lost Lease is final"
        assert not leader.elector.leading.is_set()
        assert standby.elector.transitions == 2
        assert standby.elector.previous is not None
        assert standby.elector.previous.holder == leader.identity
        assert SECONDS <= standby.elector.previous.unrenewed_seconds < SECONDS + 5


async def test_process_that_was_stopped_wakes_without_the_right_to_write() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(1)
        clock.now += 11  # nothing of this process ran
        assert a.elector.remaining_seconds() == 0.0
        await clock.advance(5)
        assert a.task.done()
        assert a.elector.remaining_seconds() == 0.0
        assert "Lease ns/lock was lost: it was not renewed in time" in str(a.elector.lost)


async def test_renewal_counts_from_before_its_request() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(0)
        slow = clock.now + 2.0  # the renewal goes out then

        def answer(call: Call) -> Reply:
            if call.method == "PUT":
                clock.now += 3.0  # and is answered so much later
            return server.answer(call)

        a.transport.answer = answer
        await clock.advance(2.0)
        assert a.elector._valid_until == slow + 10.0


async def test_unknown_renewals_do_not_prolong_and_do_not_lose() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(0)
        server.lose_answers = True
        await clock.advance(5)
        assert a.elector.remaining_seconds() == 5.0
        server.lose_answers = False
        await clock.advance(2)
        assert a.elector.remaining_seconds() >= 8.0, "the version was read again, so the next PUT fits"


async def test_someone_else_in_the_record_ends_it_at_once() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(0)
        assert server.record is not None
        server.store({**server.record, "spec": {**server.spec, "holderIdentity": "usurper"}})
        await clock.advance(2.1)
        assert a.elector.remaining_seconds() == 0.0
        assert a.task.done()
        assert server.spec["holderIdentity"] == "usurper"
        assert "usurper holds it" in str(a.elector.lost)


async def test_own_record_as_it_was_before_tells_of_a_restore() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        told: list[float] = []
        a.elector.on_regression = lambda: told.append(clock.monotonic())
        await clock.advance(5)
        backup = server.record
        await clock.advance(5)
        assert backup is not None
        assert not told
        server.record = backup  # versions go on where they are: by its time it is told
        await clock.advance(2.1)
        assert len(told) == 1
        await clock.advance(10)
        assert len(told) == 1
        assert a.may_write


async def test_deleted_lease_is_lost() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(0)
        server.record = None
        await clock.advance(2.1)
        assert a.task.done()
        assert "it was deleted" in str(a.elector.lost)


async def test_release_lets_the_next_one_start_at_once() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a", "b") as (a, b):
        await clock.advance(5)
        leader, standby = (a, b) if a.may_write else (b, a)
        await leader.elector.release()
        assert not leader.may_write
        await clock.advance(3)
        assert leader.task.done()
        assert standby.may_write
        assert standby.elector.previous is not None
        assert standby.elector.previous.holder == ""
        assert standby.elector.previous.unrenewed_seconds < 5


async def test_release_after_a_loss_gives_nothing_away() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        await clock.advance(0)
        clock.now += 60
        before = server.version
        await a.elector.release()
        assert server.version == before


async def test_own_name_in_the_record_is_a_stranger_after_a_restart() -> None:
    clock, server = VirtualClock(), LeaseServer()
    server.store({"metadata": {"name": "lock"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}})
    with candidates(clock, server, "a") as (a,):
        await clock.advance(14)
        assert not a.may_write
        await clock.advance(4)
        assert a.may_write


async def test_unreachable_server_keeps_candidates_waiting() -> None:
    clock, server = VirtualClock(), LeaseServer()
    with candidates(clock, server, "a") as (a,):
        a.transport.hanging = True
        await clock.advance(60)
        assert not a.may_write
        a.transport.hanging = False
        await clock.advance(10)
        assert a.may_write
