"""One cluster from one seed: pools, nodes, operators, pods that come and go, and the faults of faults.py."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from prometheus_client import Counter as Counted
from prometheus_client import Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from podcidr.agent import main as agent_main
from podcidr.agent import reclaim, records
from podcidr.core.prefix import Prefix, parse_address, parse_prefix
from podcidr.kube.clock import rfc3339
from podcidr.reconcile import rounds
from podcidr.reconcile.apply import Applier, Outcome
from tests.simulation import plugin_twin
from tests.simulation.clocks import EPOCH
from tests.simulation.fake_api import Change, FakeApi, Snapshot
from tests.simulation.loop import VirtualLoop
from tests.simulation.machine import Machine
from tests.simulation.network import SERVER, Network
from tests.simulation.operators import Replica
from tests.simulation.witness import Witness

Object = dict[str, Any]
NAMESPACES: dict[str, dict[str, str]] = {
    "default": {},
    "team-a": {"podcidr.io/pools": "gold"},
    "team-b": {"podcidr.io/pools": "gold,default"},
}
WALL_SKEW_SECONDS = 8.0
SLOWEST, FASTEST = 0.9, 1.1
MAX_PODS = 40
SETTLE_SECONDS = 5000.0


@dataclass
class World:
    """Everything of one seed."""

    seed: int
    directory: Path
    loop: VirtualLoop = field(default_factory=VirtualLoop)
    counts: Counter[str] = field(default_factory=Counter)
    """Faults, by kind."""
    actions: Counter[str] = field(default_factory=Counter)
    """What operators, agents and people did, by kind."""

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}-world")
        self.api = FakeApi(wall=lambda: rfc3339(EPOCH + timedelta(seconds=self.loop.now)), on_change=self._changed)
        self.network = Network(self.loop, self.api, random.Random(f"{self.seed}-network"), self.counts)
        self.witness = Witness(lambda: self.loop.now, lambda: set(self.machines), tolerance=self._tolerance)
        self.machines: dict[str, Machine] = {}
        self.replicas: list[Replica] = []
        self.snapshots: list[tuple[float, Snapshot]] = []
        self.on_drain: Callable[[str], None] | None = None
        """Told of the next node of whose blocks one begins to drain."""
        self.manifests: dict[str, Object] = {}
        self.cidrs_before_restore: dict[str, list[str]] = {}
        self.replacing_pool = False
        self.serial = 0
        self.bad_pods: set[str] = set()
        self.changed_at = 0.0
        self.quiet = False

    def _tolerance(self, seconds: float) -> float:
        return max(0.0, (seconds - 2 * WALL_SKEW_SECONDS) / FASTEST) - 1.0

    def _changed(self, change: Change) -> None:
        self.witness.changed(change)
        if change.plural == "nodecidrs" and self.on_drain is not None and _begins_to_drain(change):
            told, self.on_drain = self.on_drain, None
            told(change.key)
        if change.plural == "pods":
            machine = self.machines.get(change.new.value["spec"].get("nodeName", ""))
            if machine is not None and machine.powered:
                machine.nudge()
        if change.plural == "ipblocks" or (change.plural == "nodecidrs" and (change.old or {}).get("spec") != change.new.value.get("spec")):
            self.changed_at = self.loop.now

    def task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something that belongs to no process."""
        return self.loop.create_task(work, context=SERVER)

    # The cluster at its beginning

    def build(self) -> None:
        """Pools, namespaces, machines, operators."""
        rng = self.rng
        for name, annotations in NAMESPACES.items():
            self.api.put("namespaces", name, {"kind": "Namespace", "metadata": {"name": name, "annotations": annotations, "labels": {}}})
        self.dual_stack = rng.random() < 0.3
        room = rng.choice((0, 1))  # what is scarce in half of the seeds is not in the others
        self.put_pool("default", [f"10.0.0.0/{25 - room}"], rng.choice((28, 29, 30, 30)), priority=10)
        self.put_pool("extra", ["10.2.0.0/26"], rng.choice((28, 29)), spec={"priority": 0})
        self.put_pool("gold", [f"10.1.0.0/{26 - room}"], 29, spec={"allocation": "Pinned"}, dual=False)
        for number in range(rng.choice((3, 3, 4, 5))):
            machine = Machine(self.network, self.witness, f"n{number}", number, self.directory, random.Random(f"{self.seed}-n{number}"))
            self.machines[machine.name] = machine
            self.put_node(machine.name)
            machine.power_on()
        lease_seconds = rng.choice((15.0, 30.0, 30.0, 60.0))
        for number in range(rng.choice((2, 2, 3))):
            skew = rng.uniform(-WALL_SKEW_SECONDS, WALL_SKEW_SECONDS)
            replica = Replica(self.network, self.witness, number, random.Random(f"{self.seed}-operator{number}"), lease_seconds, skew)
            self.replicas.append(replica)
            self.loop.call_later(rng.uniform(0, 3), replica.start, context=SERVER)

    def put_pool(
        self, name: str, cidrs: list[str], length: int, *, priority: int = 0, spec: Object | None = None, dual: bool = True
    ) -> None:
        """As a person applies it."""
        rng = self.rng
        body: Object = {
            "ipv4": {"cidrs": cidrs, "blockPrefixLength": length},
            "priority": priority,
            "gateway": rng.choice(("Pool", "Block", "None")),
            "quarantineSeconds": rng.choice((40, 90, 180)),
            "addressCooldownSeconds": rng.choice((0, 10, 30)),
            "scaling": {
                "minFreeAddresses": rng.choice((0, 2, 8)),
                "stabilizationWindowSeconds": rng.choice((10, 30, 120)),
                "lastBlockDelaySeconds": rng.choice((20, 60, 180)),
            },
            **(spec or {}),
        }
        if self.dual_stack and dual:
            third = cidrs[0].split(".")[1]
            body["ipv6"] = {"cidrs": [f"fd00:{third}::/120"], "blockPrefixLength": 124}
        self.manifests[name] = {"kind": "IPPool", "apiVersion": "podcidr.io/v1alpha1", "metadata": {"name": name}, "spec": body}
        self.api.put("ippools", name, self.manifests[name])

    def apply_pools_again(self) -> None:
        """Pools, and CIDRs of them, that people applied after the backup was made that is restored."""
        for name, manifest in self.manifests.items():
            if self.api.find("ippools", name) is None and not self.replacing_pool:
                self.api.put("ippools", name, manifest)
        for name, cidrs in self.cidrs_before_restore.items():
            pool = self.api.find("ippools", name)
            if pool is not None and "deletionTimestamp" not in pool["metadata"]:
                ipv4 = pool["spec"]["ipv4"]
                missing = [cidr for cidr in cidrs if cidr not in ipv4["cidrs"]]
                if missing:
                    spec = {**pool["spec"], "ipv4": {**ipv4, "cidrs": [*ipv4["cidrs"], *missing]}}
                    self.api.put("ippools", name, {**pool, "spec": spec})

    def put_node(self, name: str, *, ready: bool = True) -> None:
        """As kubelet registers it."""
        number = int(name[1:])
        status = {
            "allocatable": {"pods": str(MAX_PODS)},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
            "addresses": [{"type": "InternalIP", "address": f"192.0.2.{number + 1}"}],
        }
        old = self.api.find("nodes", name)
        meta = dict(old["metadata"]) if old else {"name": name, "labels": {"kubernetes.io/hostname": name}}
        self.api.put("nodes", name, {"kind": "Node", "metadata": meta, "spec": {}, "status": status})

    # What people do

    def pods_of(self, name: str) -> list[str]:
        """Keys of the live pods bound to a node."""
        return [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
            for pod in self.api.values("pods")
            if pod["spec"].get("nodeName") == name and "deletionTimestamp" not in pod["metadata"]
        ]

    def create_pods(self, rng: random.Random) -> None:
        """A burst on one node."""
        name = rng.choice(list(self.machines))
        if self.api.find("nodes", name) is None:
            return
        namespace = rng.choice(("default", "default", "default", "team-a", "team-b"))
        for _ in range(min(rng.choice((1, 1, 2, 3, 8)), MAX_PODS // 2 - len(self.pods_of(name)))):
            self.serial += 1
            host = rng.random() < 0.05
            meta = {"name": f"p{self.serial}", "namespace": namespace}
            self.api.put(
                "pods", f"{namespace}/p{self.serial}", {"kind": "Pod", "metadata": meta, "spec": {"nodeName": name, "hostNetwork": host}}
            )
            self.actions["pod-created"] += 1

    def delete_pods(self, rng: random.Random) -> None:
        """Some of one node, gracefully; sometimes all."""
        name = rng.choice(list(self.machines))
        keys = self.pods_of(name)
        for key in rng.sample(keys, min(len(keys), rng.choice((1, 2, 4, 20)))):
            self.delete_pod(key)

    def delete_pod(self, key: str) -> None:
        """Mark it; kubelet does the rest."""
        pod = self.api.find("pods", key)
        assert pod is not None
        if pod["spec"].get("hostNetwork"):
            self.api.remove("pods", key)
        else:
            meta = {**pod["metadata"], "deletionTimestamp": self.api.wall(), "deletionGracePeriodSeconds": 1}
            self.api.put("pods", key, {**pod, "metadata": meta})
        self.actions["pod-deleted"] += 1

    def lose_pod(self, rng: random.Random) -> None:
        """A sandbox goes without a DEL, with its pod or to be made anew."""
        machine = rng.choice(list(self.machines.values()))
        keys = self.pods_of(machine.name)
        with_pod = rng.random() < 0.5
        if machine.powered and keys and machine.lose_sandbox(rng.choice(keys), with_pod=with_pod):
            self.actions["pod-lost" if with_pod else "sandbox-lost"] += 1

    def change_pin(self, rng: random.Random) -> None:
        """Another annotation on a namespace."""
        pins: list[dict[str, str]] = [{}, {"podcidr.io/pools": "gold"}, {"podcidr.io/pools": "gold,default"}, {"podcidr.io/pools": "extra"}]
        name = rng.choice(("team-a", "team-b"))
        old = self.api.find("namespaces", name)
        assert old is not None
        self.api.put("namespaces", name, {**old, "metadata": {**old["metadata"], "annotations": rng.choice(pins)}})
        self.actions["pin-changed"] += 1

    def take_snapshot(self, _rng: random.Random) -> None:
        """An etcd backup."""
        self.snapshots.append((self.loop.now, self.api.snapshot()))
        self.actions["backup-taken"] += 1


def _begins_to_drain(change: Change) -> bool:
    before, after = (
        {block["cidr"] for block in obj["spec"]["blocks"] if block["state"] == "Draining"} if obj else set[str]()
        for obj in (change.old, change.new.value)
    )
    return change.type != "DELETED" and bool(after - before)


LIFE: tuple[tuple[int, Callable[[World, random.Random], None]], ...] = (
    (10, World.create_pods),
    (8, World.delete_pods),
    (3, World.lose_pod),
    (1, World.change_pin),
    (2, World.take_snapshot),
)


def count_what_is_applied(actions: Counter[str]) -> None:
    """Every planned action that was carried out counts, by kind."""
    apply = Applier.apply

    async def counting(self: Applier, *arguments: Any) -> Outcome:
        outcome = await apply(self, *arguments)
        for action in outcome.done:
            actions[type(action).__name__] += 1
        return outcome

    Applier.apply = counting  # type: ignore[method-assign, assignment]


def slow_down_timed_rounds(seconds: float) -> None:
    """Where only time passes, virtual time makes planning free, so the real pause of a quarter second is far too short."""
    rounds.TIMED_SECONDS = (seconds, 30.0)
    rounds.KEEP_SECONDS = min(10.0, 2 * seconds)


def slow_down_looks(seconds: float) -> None:
    """The agents' look for what nobody tells them of: leaks, files that a hand changed."""
    reclaim._TICK_SECONDS = (1.0, seconds)


def remember_texts() -> None:
    """A fifth of the time went into parsing and writing the same few texts: pure, so remembering them changes nothing."""
    Prefix.__str__ = lru_cache(maxsize=4096)(Prefix.__str__)  # type: ignore[method-assign]
    for pure in (parse_prefix, parse_address, records.address, plugin_twin._address, quote):
        _replace(pure, lru_cache(maxsize=4096)(pure))


def _replace(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Wherever it was imported."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("podcidr.", "tests.simulation.")):
            for attribute in [attribute for attribute, value in vars(module).items() if value is old]:
                setattr(module, attribute, new)


def count_no_metrics() -> None:
    """Nobody reads them here."""
    MetricWrapperBase.labels = lambda self, *_values, **_named: self  # type: ignore[method-assign]
    for kind, name in ((Gauge, "set"), (Counted, "inc"), (Histogram, "observe")):
        setattr(kind, name, lambda self, *_: None)


def remember_paths() -> None:
    """Joining the same few paths was a tenth of the time."""
    PurePath.__truediv__ = _join  # type: ignore[method-assign, assignment]


@lru_cache(maxsize=1 << 16)
def _join(path: PurePath, name: str) -> PurePath:
    return _find_join(path, name)


_find_join = PurePath.__truediv__


def seed_state_ids(seed: int) -> None:
    """Where the agent asks the system for chance."""
    rng = random.Random(f"{seed}-ids")
    agent_main.new_state_id = lambda: f"{rng.getrandbits(128):032x}"  # type: ignore[attr-defined]


ACTIONS = (
    *("CreateNodeCIDR", "SetPools", "Claim", "Adopt", "Drain", "Undrain", "Leave", "Free", "DeleteNodeCIDR", "RaiseEpoch"),
    *("pod-created", "pod-deleted", "pod-lost", "sandbox-lost", "pin-changed", "backup-taken"),
)
