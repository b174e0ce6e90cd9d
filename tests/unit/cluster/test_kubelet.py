"""The harness itself, with a plugin of a few lines: what it tells the plugin, and what it does about its answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster, Machine, eventually
from tests.cluster.network_namespaces import NetworkNamespaces
from tests.cluster.program import Metrics
from tests.cluster.runtime import CniError

# Logs each call, refuses as many ADDs as the file `refuse` says, by the code in `code`; numbers addresses by mkdir.
PLUGIN = """#!/bin/sh
cat > /dev/null
[ "$CNI_COMMAND" = ADD ] && [ ! -e "$CNI_NETNS" ] && exit 9
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS" >> DIR/calls
[ "$CNI_COMMAND" = ADD ] || exit 0
left=$(cat DIR/refuse 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
  echo $((left - 1)) > DIR/refuse
  echo '{"code": '$(cat DIR/code)', "msg": "no address"}'
  exit 1
fi
n=1
while ! mkdir DIR/taken-$n 2>/dev/null; do n=$((n + 1)); done
echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.'$n'/24"}]}'
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin"
    path.write_text(PLUGIN.replace("DIR", str(tmp_path)))
    path.chmod(0o755)
    return path


@pytest.fixture
async def machine(clean_control_plane: ControlPlane, plugin: Path) -> AsyncIterator[Machine]:
    async with Cluster(clean_control_plane, plugin=plugin) as cluster:
        await cluster.create_namespace("team")
        yield await cluster.add_machine("n1", pods=50, labels={"zone": "a"})
    assert not cluster.directory.exists()


def calls(plugin: Path) -> list[list[str]]:
    return [line.split() for line in (plugin.parent / "calls").read_text().splitlines()]


def refuse(plugin: Path, times: int, code: int) -> None:
    (plugin.parent / "refuse").write_text(str(times))
    (plugin.parent / "code").write_text(str(code))


async def test_pod_runs_and_stops(machine: Machine, plugin: Path) -> None:
    pod = await machine.start_pod("team", "web", annotations={"a": "b"})
    seen = await machine.cluster.api.get(pod.path)
    assert seen["spec"]["nodeName"] == "n1"
    assert seen["status"]["phase"] == "Running"
    assert seen["status"]["podIPs"] == [{"ip": "10.0.0.1"}]
    assert pod.sandbox is not None
    (kept,) = machine.runtime.cache.iterdir()
    result = json.loads(kept.read_text())
    assert kept.name == f"podcidr-{pod.sandbox.container}-eth0"
    assert result["netns"] == pod.sandbox.netns
    assert ["K8S_POD_UID", pod.uid] in result["cniArgs"]
    assert result["result"]["ips"] == [{"address": "10.0.0.1/24", "interface": 0}]

    await machine.stop_pod("team", "web")
    assert [call[0] for call in calls(plugin)] == ["ADD", "DEL"]
    assert calls(plugin)[0][1:] == calls(plugin)[1][1:]
    assert f"K8S_POD_NAMESPACE=team;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={pod.sandbox.container}" in str(calls(plugin)[0][4])
    assert list(machine.runtime.cache.iterdir()) == []
    assert not Path(pod.sandbox.netns).exists()
    assert await machine.cluster.api.items("/api/v1/namespaces/team/pods") == []


async def test_node_is_ready_with_its_labels(machine: Machine) -> None:
    node = await machine.cluster.api.get("/api/v1/nodes/n1")
    assert node["metadata"]["labels"]["zone"] == "a"
    assert node["status"]["allocatable"]["pods"] == "50"
    assert "taints" not in node["spec"]
    assert [(c["type"], c["status"]) for c in node["status"]["conditions"]] == [("Ready", "True")]
    await machine.set_ready(False)
    node = await machine.cluster.api.get("/api/v1/nodes/n1")
    assert [(c["type"], c["status"]) for c in node["status"]["conditions"]] == [("Ready", "False")]


async def test_try_again_means_a_new_sandbox_each_time(machine: Machine, plugin: Path) -> None:
    refuse(plugin, 2, 11)
    pod = await machine.start_pod("team", "web", retry_seconds=0)
    assert [call[0] for call in calls(plugin)] == ["ADD", "DEL", "ADD", "DEL", "ADD"]
    assert len({call[1] for call in calls(plugin)}) == 3
    assert len({call[2] for call in calls(plugin)}) == 3
    assert list(machine.cluster.ledger.held()) == pod.addresses


@pytest.mark.parametrize(("code", "adds"), [(7, 1), (11, 3)])
async def test_other_errors_and_the_last_attempt_are_raised(machine: Machine, plugin: Path, code: int, adds: int) -> None:
    refuse(plugin, 99, code)
    with pytest.raises(CniError, match="no address") as caught:
        await machine.start_pod("team", "web", attempts=3, retry_seconds=0)
    assert caught.value.code == code
    assert [call[0] for call in calls(plugin)] == ["ADD", "DEL"] * adds
    assert machine.cluster.ledger.holdings == []


async def test_many_pods_at_once(machine: Machine) -> None:
    names = [f"p{number}" for number in range(40)]
    pods = await asyncio.gather(*(machine.start_pod("team", name) for name in names))
    assert len({pod.addresses[0] for pod in pods}) == 40
    await asyncio.gather(*(machine.stop_pod("team", name) for name in names))
    assert machine.cluster.ledger.held() == {}
    assert machine.cluster.ledger.check_overlaps() == []


async def test_lost_pod_leaves_a_leak_and_a_reboot_takes_the_state(machine: Machine, plugin: Path) -> None:
    lost = await machine.start_pod("team", "lost")
    await machine.lose_pod("team", "lost")
    assert [call[0] for call in calls(plugin)] == ["ADD"]
    assert lost.sandbox is not None
    assert not Path(lost.sandbox.netns).exists()
    kept = await machine.start_pod("team", "kept")
    (machine.state_dir / "file").touch()
    await machine.reboot()
    assert list(machine.state_dir.iterdir()) == []
    old = kept.sandbox
    assert old is not None
    assert not Path(old.netns).exists()
    again = await machine.restart_sandbox("team", "kept")
    assert again.sandbox is not None
    assert again.sandbox.container != old.container


def may_administer() -> bool:
    """CAP_SYS_ADMIN: root has it, but not in each container."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 21 & 1)


async def test_network_namespaces_are_real_where_allowed(tmp_path: Path) -> None:
    namespaces = NetworkNamespaces(tmp_path / "netns")
    try:
        first, second = await namespaces.make(), await namespaces.make()
        assert namespaces.real == may_administer()
        ours = Path("/proc/self/ns/net").stat().st_ino
        assert len({first.stat().st_ino, second.stat().st_ino, ours}) == 3
        await namespaces.remove(first)
        await namespaces.remove(first)
        assert not first.exists()
    finally:
        namespaces.close()
    assert list((tmp_path / "netns").iterdir()) == []


async def test_eventually_says_what_never_was() -> None:
    async def probe() -> int:
        return 0

    with pytest.raises(AssertionError, match=r"not within 0\.1 s: a number; last answer: 0"):
        await eventually(probe, "a number", timeout_seconds=0.1, every_seconds=0.01)


def test_metrics_are_parsed() -> None:
    metrics = Metrics('# HELP a b\na{x="1",y="p q"} 2\na{x="2",y="p q"} 3.5\nb 1e3\n')
    assert metrics.total("a") == 5.5
    assert metrics.total("a", x="2") == 3.5
    assert metrics.total("b") == 1000
    assert metrics.total("a", x="3") == 0
