"""The agent's loop: what wakes it."""

from pathlib import Path
from typing import Any

from podcidr.agent.service import Agent
from podcidr.agent.statedir import StateDir
from podcidr.config import AgentConfig
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.metrics import AgentMetrics


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
