"""The agent's loop: what wakes it."""

import asyncio
from pathlib import Path
from typing import Any

from podcidr.agent.service import GATHER_SECONDS, PODS_GATHER_SECONDS, SCARCE_GATHER_SECONDS, Agent
from podcidr.agent.statedir import StateDir
from podcidr.config import AgentConfig
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.metrics import AgentMetrics
from tests.unit.agent.objects import block
from tests.unit.kube.fakes import FakeTransport, VirtualClock, settle


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


async def quiet(tmp_path: Path) -> tuple[Agent, VirtualClock]:
    """An agent of a node where nothing waits and there is room: 16 addresses, and 8 are wanted to spare."""
    state, clock = StateDir(tmp_path / "podcidr"), VirtualClock()
    state.create()
    config = AgentConfig(node_name="n1", state_dir=str(state.root))
    agent = Agent(config, KubeClient(FakeTransport(), clock), state, "s1", ready=False, clock=clock, metrics=AgentMetrics())
    agent.pools.observe(ippool(1, exhausted=False))
    meta = {"name": "n1", "uid": "u1", "resourceVersion": "1"}
    agent.nodecidrs.observe({"metadata": meta, "spec": {"epoch": 7, "pools": ["default"], "blocks": [block("10.64.3.0/28")]}})
    for version, name in enumerate(("web", "db"), 1):
        agent.namespaces.observe({"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}})
    await agent._round()
    assert not agent._watchful
    agent._dirty.clear()
    agent._urgent.clear()
    return agent, clock


def pod(number: int, **annotations: str) -> dict[str, Any]:
    meta = {"namespace": "web", "name": f"p{number}", "uid": f"u{number}", "resourceVersion": str(number), "annotations": annotations}
    return {"metadata": meta, "spec": {"nodeName": "n1"}}


def ippool(version: int, *, exhausted: bool, name: str = "default") -> dict[str, Any]:
    conditions = [{"type": "Exhausted", "status": "True" if exhausted else "False"}]
    meta = {"name": name, "uid": f"{name}-uid", "generation": 1, "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"ipv4": {"cidrs": ["10.64.0.0/14"]}}, "status": {"conditions": conditions}}


async def test_a_mark_is_looked_at_while_pods_are_gathered(tmp_path: Path) -> None:
    agent, clock = await quiet(tmp_path)
    waiting = asyncio.ensure_future(agent._gather_pods() or asyncio.sleep(0))
    agent.files_changed()
    await clock.advance(PODS_GATHER_SECONDS / 2)
    assert not agent._urgent.is_set(), "no ADD waits"
    (agent._state.pending / "net:c1:eth0").write_text("{}")
    agent.files_changed()
    assert agent._urgent.is_set()
    await clock.advance(PODS_GATHER_SECONDS)
    assert waiting.done()


async def test_where_any_pod_may_be_news_nothing_is_gathered(tmp_path: Path) -> None:
    agent, _ = await quiet(tmp_path)
    for number in range(1, 9):
        pause = agent._gather_pods()
        assert pause is not None
        waiting = asyncio.ensure_future(pause)
        await settle()
        waiting.cancel()
        agent.pods.observe(pod(number))
        assert not agent._urgent.is_set(), "there is room"
    assert agent._gather_pods() is None, "the next one finds none to spare"
    agent.pods.observe(pod(9))
    assert agent._urgent.is_set()
    await agent._round()
    agent._watchful = True
    assert agent._gather_pods() is None


async def test_the_first_pod_of_other_pools_is_news(tmp_path: Path) -> None:
    """Nothing is known of how many addresses these have here."""
    agent, _ = await quiet(tmp_path)
    agent.namespaces.observe(
        {"metadata": {"name": "web", "uid": "web", "resourceVersion": "9", "annotations": {"podcidr.io/pools": "gold"}}}
    )
    agent.pools.observe(ippool(2, exhausted=False, name="gold"))
    await agent._round()
    agent._urgent.clear()
    agent.pods.observe(pod(1))
    assert agent._urgent.is_set()


async def test_where_a_pool_is_exhausted_less_is_gathered(tmp_path: Path) -> None:
    agent, _ = await quiet(tmp_path)
    assert agent._gather_seconds() == GATHER_SECONDS
    agent.pools.observe(ippool(2, exhausted=True))
    assert agent._gather_seconds() == SCARCE_GATHER_SECONDS
