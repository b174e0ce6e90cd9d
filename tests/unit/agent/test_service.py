"""The agent's loop: what wakes it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podcidr.agent.service import Agent
from podcidr.agent.statedir import StateDir
from podcidr.config import AgentConfig
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.kube.transport import Reply
from podcidr.metrics import AgentMetrics
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, ok, status

Object = dict[str, Any]


async def test_a_lost_state_dir_wakes_the_loop_too(tmp_path: Path) -> None:
    """inotify tells of the deletion itself: raised in its callback, nobody would hear of it."""
    state = StateDir(tmp_path / "podcidr")
    state.create()
    transport: Any = None  # nothing is sent
    clock = SystemClock()
    config = AgentConfig(node_name="n1", state_dir=str(state.root))
    agent = Agent(config, KubeClient(transport, clock), state, "s1", ready=False, clock=clock, metrics=AgentMetrics())
    state.pending.rmdir()
    agent.files_changed()
    assert agent._dirty.is_set()
    state.close()


def pod(name: str, version: int) -> Object:
    meta = {"namespace": "web", "name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"nodeName": "n1"}}


@dataclass
class Lists:
    """An API server that has these, at this version; watches are silent."""

    pods: list[Object]
    version: int
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    down: bool = False

    def answer(self, call: Call) -> Reply:
        if self.down:
            return status(500, "InternalError")
        plural = call.path.rpartition("/")[2]
        self.calls[plural, "versions" if call.accept else "objects"] += 1
        items = {"pods": self.pods, "nodecidrs": [self.nodecidr]}.get(plural, [])
        return ok({"kind": "List", "metadata": {"resourceVersion": str(self.version)}, "items": items})

    @property
    def nodecidr(self) -> Object:
        meta = {"name": "n1", "uid": "u1", "resourceVersion": "4"}
        return {"metadata": meta, "spec": {"epoch": 1, "pools": [], "blocks": []}}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(chance=0.5)


@pytest.fixture
def server() -> Lists:
    return Lists([pod("stays", 5), pod("phantom", 950)], 1000)


@pytest.fixture
async def agent(tmp_path: Path, clock: VirtualClock, server: Lists) -> Agent:
    state = StateDir(tmp_path / "podcidr")
    state.create()
    config = AgentConfig(node_name="n1", state_dir=str(state.root), resync_seconds=300.0)
    client = KubeClient(FakeTransport(server.answer), clock)
    agent = Agent(config, client, state, "s1", ready=True, clock=clock, metrics=AgentMetrics())
    for reflector in agent.reflectors:
        await reflector.relist()
    server.calls.clear()
    agent.reporter._changed.clear()
    return agent


async def test_after_a_restore_the_pods_of_the_lost_history_are_gone_without_a_restart(
    agent: Agent, clock: VirtualClock, server: Lists
) -> None:
    """Versions are past ours already, so no watch ever tells."""
    resync = asyncio.create_task(agent.resync())
    server.pods, server.version = [pod("stays", 5)], 1200
    await clock.advance(299)
    assert "web/phantom" in agent.pods.items
    await clock.advance(2)
    assert {*agent.pods.items} == {"web/stays"}
    resync.cancel()


async def test_where_nothing_is_amiss_a_resync_costs_three_small_lists_and_namespaces_once_in_a_while(
    agent: Agent, clock: VirtualClock, server: Lists
) -> None:
    resync = asyncio.create_task(agent.resync())
    await clock.advance(11.5 * 300)
    assert server.calls == {("nodecidrs", "versions"): 11, ("pods", "versions"): 11, ("ippools", "versions"): 11}
    await clock.advance(300)
    assert server.calls["namespaces", "versions"] == 1
    assert not agent.reporter._changed.is_set()
    resync.cancel()


async def test_one_kind_that_began_anew_has_all_compared_at_once(agent: Agent, clock: VirtualClock, server: Lists) -> None:
    resync = asyncio.create_task(agent.resync())
    await clock.advance(1)
    server.pods, server.version = [pod("stays", 5)], 120
    await agent.nodecidrs.compare()
    assert agent.reporter._changed.is_set(), "what the server has of us is old"
    await clock.advance(1)
    assert {*agent.pods.items} == {"web/stays"}
    assert all(reflector.regressed for reflector in agent.reflectors)
    resync.cancel()


async def test_what_could_not_be_compared_is_tried_again_soon(agent: Agent, clock: VirtualClock, server: Lists) -> None:
    resync = asyncio.create_task(agent.resync())
    server.pods, server.version, server.down = [pod("stays", 5)], 1200, True
    await clock.advance(320)
    server.down = False
    await clock.advance(60)
    assert {*agent.pods.items} == {"web/stays"}
    resync.cancel()
