"""The agent's round: what it goes by, and in which order it publishes and counts."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from podcidr.agent.service import Agent
from podcidr.agent.statedir import Standing, StateDir
from podcidr.config import AgentConfig
from podcidr.core.prefix import parse_prefix
from podcidr.kube.client import KubeClient
from podcidr.metrics import AgentMetrics
from tests.unit.agent.objects import block, record
from tests.unit.agent.test_files import attach
from tests.unit.kube.fakes import FakeTransport, VirtualClock, ok, status

BLOCK = "10.64.3.0/28"
Object = dict[str, Any]


def nodecidr(*blocks: Object, uid: str = "u1", epoch: int = 7, version: int = 5) -> Object:
    meta = {"name": "n1", "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"epoch": epoch, "pools": ["default"], "blocks": list(blocks)}}


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    state = StateDir(tmp_path)
    state.create()
    clock = VirtualClock()
    transport = FakeTransport()
    made = Agent(AgentConfig("n1"), KubeClient(transport, clock), state, "s", ready=True, clock=clock, metrics=AgentMetrics())
    spec = {"ipv4": {"cidrs": ["10.64.0.0/14"], "blockPrefixLength": 28}}
    made.pools.observe({"metadata": {"name": "default", "uid": "default-uid", "generation": 1, "resourceVersion": "1"}, "spec": spec})
    made.nodecidrs.observe(nodecidr(block(BLOCK)))
    return made


async def test_what_is_assigned_until_the_publication_is_counted(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report of an epoch at which the block drains must have every address that was assigned before."""
    await agent._round()
    agent.nodecidrs.observe(nodecidr(block(BLOCK, state="Draining"), epoch=8, version=6))
    publish = agent._state.publish

    async def add_then_publish(document: Object) -> Any:
        attach(agent._state, record("10.64.3.1"))
        return await publish(document)

    monkeypatch.setattr(agent._state, "publish", add_then_publish)
    await agent._round()
    report = agent.reporter._offered
    assert report is not None
    assert (report.epoch, report.usage[parse_prefix(BLOCK)]) == (8, (1, 0))


@pytest.mark.parametrize("name", ["pending", "attachments", "addresses"])
async def test_a_directory_that_goes_in_the_middle_of_a_round_is_mended(agent: Agent, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is left tells who holds what: no reason to end."""
    attach(agent._state, record("10.64.3.1"))
    publish = agent._state.publish

    async def publish_then_lose(document: Object) -> Any:
        standing = await publish(document)
        shutil.rmtree(agent._state.root / name)
        return standing

    monkeypatch.setattr(agent._state, "publish", publish_then_lose)
    await agent._round()
    assert agent._state.missing() == []
    assert agent.reporter._offered is not None
    assert agent.reporter._offered.in_use == 1


async def test_a_rebuild_that_failed_is_tried_again_before_the_plugin_answers(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the addresses of running pods, which only the API server tells any more, would be assigned again."""
    agent._rebuild_due, agent.publisher.ready = True, False
    meta = {"namespace": "default", "name": "web", "uid": "web-uid", "resourceVersion": "1"}
    agent.pods.observe({"metadata": meta, "spec": {}, "status": {"phase": "Running", "podIPs": [{"ip": "10.64.3.1"}]}})
    with monkeypatch.context() as patch:

        def full(*_: object) -> Path:
            raise OSError(28, "No space left on device")

        patch.setattr("podcidr.agent.rebuild._written", full)
        await agent._round()
        await agent._round()
    assert agent._state.read_ready() is None
    assert agent.reporter._offered is None
    await agent._round()
    assert agent._state.read_ready() == "s"
    assert agent.reporter._offered is not None
    assert agent.reporter._offered.usage[parse_prefix(BLOCK)] == (1, 0)


async def test_a_nodecidr_of_another_uid_is_taken_after_a_consistent_read_only(agent: Agent) -> None:
    await agent._round()
    transport: FakeTransport = agent._client._transport  # type: ignore[assignment]  # the fixture's
    made_again = nodecidr(uid="u2", epoch=1, version=9)
    agent.nodecidrs.observe(made_again)
    transport.answer = lambda call: ok(made_again)
    await agent._round()
    assert [call.path.rpartition("/")[2] for call in transport.calls] == ["n1"]
    assert agent.publisher.standing is not None
    assert agent.publisher.standing.uid == "u2"


async def test_one_that_is_gone_already_is_not_followed(agent: Agent) -> None:
    await agent._round()
    transport: FakeTransport = agent._client._transport  # type: ignore[assignment]  # the fixture's
    agent.nodecidrs.observe(nodecidr(uid="u2", epoch=30, version=9))
    transport.answer = lambda call: status(404, "NotFound")
    await agent._round()
    assert agent.publisher.standing == Standing("u1", 7)


async def test_one_that_only_the_cache_has_is_not_followed(agent: Agent) -> None:
    await agent._round()
    transport: FakeTransport = agent._client._transport  # type: ignore[assignment]  # the fixture's
    agent.nodecidrs.observe(nodecidr(uid="old", epoch=30, version=9))
    now = nodecidr(block(BLOCK), version=12)
    listed = {"kind": "List", "metadata": {"resourceVersion": "12"}, "items": [now]}
    transport.answer = lambda call: ok(listed if call.query.get("fieldSelector") else now)
    await agent._round()
    assert agent.publisher.standing is not None
    assert agent.publisher.standing.uid == "u1"
