"""What no watch tells: the agent asks, little and now and then."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podcidr.agent.observation import Observer
from podcidr.agent.resync import CONFIRM_PODS
from podcidr.agent.service import Agent
from podcidr.agent.statedir import StateDir
from podcidr.config import AgentConfig
from podcidr.kube.client import KubeClient
from podcidr.kube.transport import Reply
from podcidr.metrics import AgentMetrics
from tests.unit.agent.objects import record
from tests.unit.agent.test_files import attach
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, ok, status

Object = dict[str, Any]


def pod(name: str, version: int, **spec: object) -> Object:
    meta = {"namespace": "default", "name": name, "uid": f"{name}-uid", "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"nodeName": "n1", **spec}}


@dataclass
class Server:
    """An API server that has these, at this version; watches are silent."""

    pods: list[Object]
    version: int
    calls: Counter[str] = field(default_factory=Counter)
    down: bool = False

    def answer(self, call: Call) -> Reply:
        if self.down:
            return status(500, "InternalError")
        parent, _, last = call.path.rpartition("/")
        if parent.endswith("/pods"):
            self.calls[f"pod {last}"] += 1
            found = [obj for obj in self.pods if obj["metadata"]["name"] == last]
            return ok(found[0]) if found else status(404, "NotFound")
        self.calls[f"{last}, versions" if call.accept else last] += 1
        items = {"pods": self.pods, "nodecidrs": [self.nodecidr]}.get(last, [])
        return ok({"kind": "List", "metadata": {"resourceVersion": str(self.version)}, "items": items})

    @property
    def nodecidr(self) -> Object:
        meta = {"name": "n1", "uid": "u1", "resourceVersion": "4"}
        return {"metadata": meta, "spec": {"epoch": 1, "pools": [], "blocks": []}}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(chance=0.5)


@pytest.fixture
def server() -> Server:
    return Server([pod("stays", 5), pod("phantom", 950)], 1000)


@pytest.fixture
async def agent(tmp_path: Path, clock: VirtualClock, server: Server) -> AsyncIterator[Agent]:
    state = StateDir(tmp_path / "podcidr")
    state.create()
    config = AgentConfig(node_name="n1", state_dir=str(state.root), resync_seconds=300.0)
    client = KubeClient(FakeTransport(server.answer), clock)
    agent = Agent(config, client, state, "s", ready=True, clock=clock, metrics=AgentMetrics())
    for reflector in agent.reflectors:
        await reflector.relist()
    agent.observation = Observer(state).look("s", 0.0)
    server.calls.clear()
    agent.reporter._changed.clear()
    task = asyncio.create_task(agent.resync.run())
    yield agent
    assert not task.done()
    task.cancel()


def attached(agent: Agent, name: str, *, netns: str) -> None:
    attach(agent._state, record("10.64.3.1", pod=name, netns=netns))
    agent.observation = Observer(agent._state).look("s", 0.0)


async def test_after_a_restore_the_pods_of_the_lost_history_are_gone_without_a_restart(
    agent: Agent, clock: VirtualClock, server: Server
) -> None:
    """Versions are past ours already, so no watch ever tells."""
    server.pods, server.version = [pod("stays", 5)], 1200
    await clock.advance(299)
    assert "default/phantom" in agent.pods.items
    await clock.advance(2)
    assert {*agent.pods.items} == {"default/stays"}


async def test_a_pod_of_the_lost_history_does_not_keep_its_address(
    agent: Agent, clock: VirtualClock, server: Server, tmp_path: Path
) -> None:
    attached(agent, "phantom", netns=str(tmp_path / "gone"))
    server.pods, server.version = [pod("stays", 5)], 1200
    await clock.advance(301)
    assert {*agent.pods.items} == {"default/stays"}


async def test_where_nothing_is_amiss_it_costs_two_small_lists_and_the_rest_once_in_a_while(
    agent: Agent, clock: VirtualClock, server: Server, tmp_path: Path
) -> None:
    server.pods, server.version = [pod("runs", 5), pod("host", 6, hostNetwork=True)], 1100
    await agent.pods.relist()
    attached(agent, "runs", netns=str(tmp_path))
    server.calls.clear()
    await clock.advance(11.5 * 300)
    assert server.calls == {"nodecidrs, versions": 11, "ippools, versions": 11}
    await clock.advance(300)
    assert server.calls == {"nodecidrs, versions": 12, "ippools, versions": 12, "namespaces, versions": 1, "pod host": 1}
    assert not agent.reporter._changed.is_set()


async def test_of_many_pods_that_wait_each_has_its_turn(agent: Agent, clock: VirtualClock, server: Server) -> None:
    server.pods, server.version = [pod(f"waits-{number}", 1001) for number in range(20)], 1100
    await agent.pods.relist()
    server.calls.clear()
    await clock.advance(3.5 * 300)
    asked = {what: count for what, count in server.calls.items() if what.startswith("pod ")}
    assert len(asked) == 20
    assert sum(asked.values()) == 3 * CONFIRM_PODS


async def test_one_kind_that_began_anew_has_all_compared_at_once(agent: Agent, clock: VirtualClock, server: Server) -> None:
    await clock.advance(1)
    server.pods, server.version = [pod("stays", 5)], 120
    await agent.nodecidrs.compare()
    assert agent.reporter._changed.is_set(), "what the server has of us is old"
    await clock.advance(1)
    assert {*agent.pods.items} == {"default/stays"}
    assert {reflector.resource_version for reflector in agent.reflectors} == {120}
    lists = {what: count for what, count in server.calls.items() if "," not in what}
    assert lists == {"nodecidrs": 1, "pods": 1, "ippools": 1, "namespaces": 1}
    assert not any(reflector.regressed for reflector in agent.reflectors), "the next one is to be seen too"


async def test_what_could_not_be_compared_is_tried_again_soon(agent: Agent, clock: VirtualClock, server: Server) -> None:
    server.pods, server.version, server.down = [pod("stays", 5)], 1200, True
    await clock.advance(320)
    server.down = False
    await clock.advance(60)
    assert {*agent.pods.items} == {"default/stays"}
