"""Pods on two nodes that reach each other: network namespaces, the real ptp through libcni, addresses from three pools."""

import asyncio
import sys
import time
from pathlib import Path

from podcidr import logs
from tests.cluster.control_plane import ControlPlane
from tests.cluster.fabric import Fabric, unreached
from tests.cluster.kubelet import Cluster, RunningPod
from tests.cluster.program import ROOT
from tools.assets import AssetsError

LIMIT_SECONDS = 180
PODS_EACH = 3
PINS = {"web": "default", "legacy": "segment", "six": "six"}
POOLS = """
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: default}
spec: {ipv4: {cidrs: [10.64.0.0/24], blockPrefixLength: 30}, ipv6: {cidrs: ["fd00:64::/64"], blockPrefixLength: 126}}
---
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: segment}
spec: {allocation: Pinned, ipv4: {cidrs: [10.80.0.0/26], blockPrefixLength: 29}}
---
apiVersion: podcidr.io/v1alpha1
kind: IPPool
metadata: {name: six}
spec: {allocation: Pinned, ipv6: {cidrs: ["fd00:66::/64"], blockPrefixLength: 126}}
"""


def main() -> int:
    """Status 0 only if every pod reached every other."""
    logs.configure("text", "error")
    try:
        return asyncio.run(_limited())
    except AssetsError as error:
        print(f"demo-network: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


async def _limited() -> int:
    async with asyncio.timeout(LIMIT_SECONDS):
        return await _play()


async def _play() -> int:
    say("A real API server, the operator, and two nodes on one switch: each a network namespace with its agent.")
    with ControlPlane() as plane:
        plane.install(ROOT)
        async with Cluster(plane, plugin=ROOT / "build" / "podcidr-ipam") as cluster:
            if not cluster.namespaces.real:
                print("demo-network: network namespaces need root: run it as root", file=sys.stderr)
                return 2
            fabric = Fabric(cluster)
            await _set_up(fabric)
            pods = await _start_pods(cluster)
            await fabric.route()
            return await _look(fabric, pods)


async def _set_up(fabric: Fabric) -> None:
    cluster = fabric.cluster
    cluster.plane.apply(POOLS)
    for namespace, pool in PINS.items():
        await cluster.create_namespace(namespace, {"podcidr.io/pools": pool} if pool != "default" else {})
    await fabric.start()
    await cluster.start_operator()
    for name in ("n1", "n2"):
        machine = await cluster.add_machine(name)
        await fabric.plug(machine, {"type": "ptp"})
        await machine.start_agent()


async def _start_pods(cluster: Cluster) -> list[RunningPod]:
    started = time.monotonic()
    pods = await asyncio.gather(
        *(
            machine.start_pod(namespace, f"{namespace}-{machine.name}-{number}")
            for machine in cluster.machines.values()
            for namespace in PINS
            for number in range(PODS_EACH)
        )
    )
    say(f"{len(pods)} pods at once, through libcni, ptp and podcidr-ipam: all run after {time.monotonic() - started:.1f} s.")
    for pod in pods:
        say(f"  {pod.name:<14} {PINS[pod.namespace]:<8} {', '.join(pod.addresses)}")
    return pods


async def _look(fabric: Fabric, pods: list[RunningPod]) -> int:
    for name in fabric.nodes:
        nodecidr = await fabric.cluster.api.get(f"/apis/podcidr.io/v1alpha1/nodecidrs/{name}")
        say(f"{name} holds {', '.join(block['cidr'] for block in nodecidr['spec']['blocks'])}; the other node has a route to each.")
    pairs = [
        (Path(pod.sandbox.netns), address)
        for pod in pods
        if pod.sandbox
        for other in pods
        if other is not pod
        for address in other.addresses
        if any((":" in own) == (":" in address) for own in pod.addresses)
    ]
    silent = await unreached(pairs)
    say(f"Every pod pings every other of its families: {len(pairs) - len(silent)} of {len(pairs)} answered.")
    for line in silent:
        say(f"  no answer: {line}")
    for machine in fabric.cluster.machines.values():
        for namespace, name in [place for place in machine.pods if place[0] in PINS]:
            await machine.stop_pod(namespace, name)
    left = [path.name for machine in fabric.cluster.machines.values() for path in (machine.state_dir / "addresses").iterdir()]
    say(f"All pods stopped: {len(left)} addresses held.")
    return int(bool(silent or left))


def say(line: str) -> None:
    """One line, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
