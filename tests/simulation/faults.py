"""Everything that goes wrong, one function a kind. Each names itself when it happened; where it can't happen now, nothing is done.

What the design does not promise is not done either: an etcd restored from a backup while agents are silent, and a Node
object deleted for long while its machine runs pods that nobody reports.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from tests.simulation.loop import Process
from tests.simulation.machine import Machine
from tests.simulation.operators import ENTER, FREE, Replica
from tests.simulation.world import MAX_PODS, WALL_SKEW_SECONDS, World

Fault = Callable[[World, random.Random], Awaitable[bool]]
RESTORE_AGE_SECONDS = 5.0
UNSEEN_RESTORE_AGE_SECONDS = 150.0
RESTORE_CALM_SECONDS = 330.0


class Plan:
    """Which times are calm, because what the design leaves out must not happen then."""

    def __init__(self) -> None:
        self.agents_calm_until = 0.0
        self.node_calm_until: dict[str, float] = {}


def _plan(world: World) -> Plan:
    found: Plan = world.__dict__.setdefault("fault_plan", Plan())
    return found


def _agents_are_calm(world: World, name: str) -> bool:
    plan = _plan(world)
    return world.loop.now >= max(plan.agents_calm_until, plan.node_calm_until.get(name, 0.0))


def _leader_or_any(world: World, rng: random.Random) -> Replica | None:
    alive = [replica for replica in world.replicas if replica.process is not None and replica.process.alive]
    leaders = [replica for replica in alive if replica.leads]
    pick = leaders if leaders and rng.random() < 0.7 else alive
    return rng.choice(pick) if pick else None


def _machine(world: World, rng: random.Random) -> Machine | None:
    """A running one whose agent may be troubled now."""
    found = [machine for machine in world.machines.values() if machine.powered and _agents_are_calm(world, machine.name)]
    return rng.choice(found) if found else None


def _agent(world: World, rng: random.Random) -> tuple[Machine, Process] | None:
    machine = _machine(world, rng)
    return (machine, machine.agent) if machine and machine.agent and machine.agent.alive else None


# The network


async def storm(world: World, rng: random.Random) -> bool:
    """Requests fail in every way, messages are slow and come twice."""
    weather = world.network.weather
    weather.fault, weather.duplicate, weather.slow = rng.uniform(0.03, 0.35), rng.uniform(0.0, 0.3), rng.uniform(0.0, 0.3)
    await asyncio.sleep(rng.uniform(5.0, 60.0))
    weather.fault = weather.duplicate = weather.slow = 0.0
    return True


async def watches_cut(world: World, rng: random.Random) -> bool:
    return world.network.cut_streams(chance=rng.choice((0.3, 1.0))) > 0


async def watches_expired(world: World, _rng: random.Random) -> bool:
    """Cut, and what came meanwhile is compacted: 410, list again."""
    world.network.cut_streams()
    world.api.compact()
    return True


async def replica_stale(world: World, rng: random.Random) -> bool:
    """One API server's watch cache lags behind etcd."""
    replica = rng.randrange(2)
    world.network.weather.replica_lag_seconds[replica] = rng.choice((rng.uniform(0.2, 3.0), rng.uniform(5.0, 60.0)))
    await asyncio.sleep(rng.uniform(10.0, 120.0))
    world.network.weather.replica_lag_seconds[replica] = 0.0
    return True


async def servers_restarted(world: World, _rng: random.Random) -> bool:
    world.network.restart_servers()
    return True


async def operator_cut_off(world: World, rng: random.Random) -> bool:
    replica = _leader_or_any(world, rng)
    if replica is None:
        return False
    world.network.cut_off.add(replica.name)
    await asyncio.sleep(rng.choice((rng.uniform(1.0, 10.0), rng.uniform(10.0, 200.0))))
    world.network.cut_off.discard(replica.name)
    return True


async def agent_cut_off(world: World, rng: random.Random) -> bool:
    found = _agent(world, rng)
    if found is None:
        return False
    name = found[1].name
    world.network.cut_off.add(name)
    await asyncio.sleep(rng.choice((rng.uniform(1.0, 10.0), rng.uniform(10.0, 300.0))))
    world.network.cut_off.discard(name)
    return True


# Operators


async def operator_killed(world: World, rng: random.Random) -> bool:
    replica = _leader_or_any(world, rng)
    if replica is None or replica.process is None:
        return False
    replica.process.kill()
    return True


async def operator_crashed(world: World, rng: random.Random) -> bool:
    """Between two awaits, soon: while it writes, if it does."""
    replica = _leader_or_any(world, rng)
    if replica is None or replica.process is None:
        return False
    steps = rng.randrange(0, 12)
    return await _ambush(world, rng, replica, lambda process: process.kill_in(steps))


async def _ambush(world: World, rng: random.Random, replica: Replica, strike: Callable[[Process], None]) -> bool:
    """Lie in wait for one of its next writes; whether it came within two minutes."""
    if replica.in_ambush:
        return False
    struck = False

    def spring(process: Process) -> None:
        nonlocal struck
        struck = True
        strike(process)

    replica.lie_in_wait(rng.randrange(1, 6), spring)
    for round_number in range(60):
        if round_number % 10 == 0:
            _disturb(world, rng)
        await asyncio.sleep(2.0)
        if struck:
            return True
    replica.give_up(spring)
    return False


async def enter_held_back(world: World, rng: random.Random) -> bool:
    """A leader's patch of a list stays on its way, perhaps while the leader dies and nobody needs the block any more."""
    replica = _leader_or_any(world, rng)
    if replica is None or replica.process is None or not replica.leads or replica.hold_back_seconds is not None:
        return False
    replica.held_back, replica.hold_back_seconds = ENTER, rng.uniform(8.0, 60.0)
    before = {pod["metadata"]["name"] for pod in world.api.values("pods")}
    for _ in range(3):
        _disturb(world, rng)
    for _ in range(30):
        await asyncio.sleep(0.5)
        if replica.hold_back_seconds is None:
            break
    done, replica.hold_back_seconds = replica.hold_back_seconds is None, None
    for pod in world.api.values("pods"):
        meta = pod["metadata"]
        if meta["name"] not in before and meta["namespace"] == "default" and "deletionTimestamp" not in meta:
            world.delete_pod(f"default/{meta['name']}")
    if done and rng.random() < 0.5:
        replica.process.kill()
    return done


async def free_held_back(world: World, rng: random.Random) -> bool:
    """The delete of a block that rested stays on its way: it is repeated, and the block may be another's when the first one arrives."""
    replica = _leader_or_any(world, rng)
    if replica is None or not replica.leads or replica.hold_back_seconds is not None:
        return False
    replica.held_back, replica.hold_back_seconds = FREE, rng.uniform(20.0, 120.0)
    for _ in range(90):
        await asyncio.sleep(1.0)
        if replica.hold_back_seconds is None:
            break
    done, replica.hold_back_seconds = replica.hold_back_seconds is None, None
    for _ in range(6 if done else 0):
        await asyncio.sleep(rng.uniform(3.0, 15.0))
        _disturb(world, rng)
    return done


async def claim_forestalled(world: World, rng: random.Random) -> bool:
    """A former leader's claim of the same block, for another node, was on its way all the time and arrives first."""
    replica = _leader_or_any(world, rng)
    if replica is None or not replica.leads or replica.forestall is not None:
        return False
    done = False

    def forestall(path: str, body: bytes) -> None:
        nonlocal done
        claim = json.loads(body)
        others = [n for n in world.api.values("nodecidrs") if n["metadata"]["name"] != claim["spec"]["node"]]
        if others:
            other = rng.choice(others)["metadata"]
            spec = {**claim["spec"], "node": other["name"], "nodeCIDRUID": other["uid"]}
            done = world.api.handle("POST", path, json.dumps({**claim, "spec": spec}).encode()).status < 300

    replica.forestall = forestall
    for round_number in range(30):
        if round_number % 10 == 0:
            _disturb(world, rng)
        await asyncio.sleep(2.0)
        if replica.forestall is not forestall:
            break
    replica.forestall = None
    return done


async def burst_at_a_drain(world: World, rng: random.Random) -> bool:
    """Pods come to a node in the moment in which one of its blocks begins to drain."""
    if world.on_drain is not None:
        return False
    struck = False

    def burst(name: str) -> None:
        nonlocal struck
        struck = True
        _disturb(world, rng, name)

    world.on_drain = burst
    for _ in range(120):
        await asyncio.sleep(1.0)
        if struck:
            return True
    world.on_drain = None
    return False


async def operator_stopped(world: World, rng: random.Random) -> bool:
    """Gracefully, as in a rolling update."""
    replica = _leader_or_any(world, rng)
    if replica is None or replica.operator is None or not hasattr(replica.operator, "stopping"):
        return False
    replica.operator.stopping.set()
    return True


async def leader_hangs(world: World, rng: random.Random) -> bool:
    """SIGSTOP past its Lease while another takes over, then SIGCONT: at whatever await it was."""
    replica = _leader_or_any(world, rng)
    if replica is None or replica.process is None or not replica.leads:
        return False
    steps, struck = rng.randrange(0, 12), list[Process]()

    def strike(process: Process) -> None:
        struck.append(process)
        process.stop_in(steps)

    if not await _ambush(world, rng, replica, strike):
        return False
    await asyncio.sleep(rng.choice((rng.uniform(1.0, 12.0), rng.uniform(20.0, 90.0), 400.0)))
    struck[0].resume()
    return True


async def operator_clock_set(world: World, rng: random.Random) -> bool:
    rng.choice(world.replicas).step_clock(rng.uniform(-WALL_SKEW_SECONDS, WALL_SKEW_SECONDS))
    return True


# Agents and nodes


async def agent_killed(world: World, rng: random.Random) -> bool:
    found = _agent(world, rng)
    if found is None:
        return False
    found[1].kill()
    return True


async def agent_crashed(world: World, rng: random.Random) -> bool:
    found = _agent(world, rng)
    if found is None:
        return False
    _disturb(world, rng, found[0].name)
    found[1].kill_in(rng.randrange(1, 80))
    return True


async def agent_hangs(world: World, rng: random.Random) -> bool:
    found = _agent(world, rng)
    if found is None:
        return False
    found[1].stop()
    await asyncio.sleep(rng.choice((rng.uniform(1.0, 20.0), rng.uniform(20.0, 300.0))))
    found[1].resume()
    return True


async def agent_updated(world: World, rng: random.Random) -> bool:
    """The next one starts before this one has ended."""
    found = _agent(world, rng)
    if found is None:
        return False
    found[0].roll_agent()
    return True


async def agent_dead_for_an_hour(world: World, rng: random.Random) -> bool:
    found = _agent(world, rng)
    if found is None:
        return False
    machine = found[0]
    _plan(world).node_calm_until[machine.name] = world.loop.now + 3600
    machine.agent_may_run = False
    found[1].kill()
    await asyncio.sleep(3600.0)
    if machine.powered:
        machine.agent_may_run = True
        machine.start_agent()
    return True


async def node_clock_set(world: World, rng: random.Random) -> bool:
    machine = _machine(world, rng)
    if machine is None:
        return False
    machine.clock.wall_skew_seconds = rng.uniform(-3600.0, 3600.0)
    return True


async def node_rebooted(world: World, rng: random.Random) -> bool:
    machine = _machine(world, rng)
    if machine is None:
        return False
    _plan(world).node_calm_until[machine.name] = world.loop.now + 300
    machine.power_off()
    await asyncio.sleep(rng.uniform(5.0, 200.0))
    machine.power_on()
    return True


async def node_deleted_and_back(world: World, rng: random.Random) -> bool:
    """By mistake: its machine goes on, its kubelet registers it again."""
    machine = _machine(world, rng)
    if machine is None or world.api.find("nodes", machine.name) is None or not (machine.agent and machine.agent.alive):
        return False
    away = rng.choice((rng.uniform(0.5, 10.0), rng.uniform(10.0, 240.0)))
    _plan(world).node_calm_until[machine.name] = world.loop.now + away + 60
    world.api.remove("nodes", machine.name)
    await asyncio.sleep(away)
    world.put_node(machine.name)
    return True


async def node_replaced(world: World, rng: random.Random) -> bool:
    """The machine is gone for good; after a while a new one comes under its name. Pods go with the old one."""
    machine = _machine(world, rng)
    if machine is None or len([m for m in world.machines.values() if m.powered]) < 3:
        return False
    away = rng.choice((rng.uniform(1.0, 60.0), rng.uniform(60.0, 300.0), 900.0))
    _plan(world).node_calm_until[machine.name] = world.loop.now + away + 60
    machine.power_off(lose_cache=True)
    world.api.remove("nodes", machine.name)
    for key in world.pods_of(machine.name):
        world.api.remove("pods", key)
    await asyncio.sleep(away)
    world.put_node(machine.name)
    machine.power_on()
    return True


async def state_dir_lost(world: World, rng: random.Random) -> bool:
    machine = _machine(world, rng)
    if machine is None:
        return False
    machine.lose_state_dir()
    return True


async def plugin_killed(world: World, rng: random.Random) -> bool:
    machine = _machine(world, rng)
    if machine is None:
        return False
    machine.kill_plugin_after = rng.randrange(0, 9)
    _disturb(world, rng, machine.name)
    await asyncio.sleep(20.0)
    done, machine.kill_plugin_after = machine.kill_plugin_after is None, None
    return done


# Objects


async def nodecidr_deleted(world: World, rng: random.Random) -> bool:
    """By hand, past its finalizer and the policy."""
    found = [n for n in world.api.values("nodecidrs") if _agents_are_calm(world, n["metadata"]["name"])]
    if not found:
        return False
    name = rng.choice(found)["metadata"]["name"]
    world.witness.forgotten(name)
    world.api.remove("nodecidrs", name)
    return True


async def pool_edited(world: World, rng: random.Random) -> bool:
    """Grown, shrunk, disabled, reserved, scaled."""
    name = rng.choice(("default", "extra", "gold"))
    pool = world.api.find("ippools", name)
    if pool is None or "deletionTimestamp" in pool["metadata"]:
        return False
    before = pool["spec"]
    spec = rng.choice((_append_cidr, _remove_cidr, _disable, _reserve, _rescale))(before, rng)
    world.api.put("ippools", name, {**pool, "spec": spec})
    return bool(spec != before)


def _append_cidr(spec: dict[str, object], rng: random.Random) -> dict[str, object]:
    return _with_cidrs(spec, lambda cidrs: [*cidrs, *({rng.choice(_SPARE)} - {*cidrs})])


def _remove_cidr(spec: dict[str, object], rng: random.Random) -> dict[str, object]:
    return _with_cidrs(spec, lambda cidrs: cidrs[1:] if len(cidrs) > 1 else cidrs)


def _with_cidrs(spec: dict[str, object], change: Callable[[list[str]], list[str]]) -> dict[str, object]:
    ipv4 = spec["ipv4"]
    assert isinstance(ipv4, dict)
    return {**spec, "ipv4": {**ipv4, "cidrs": change(ipv4["cidrs"])}}


def _disable(spec: dict[str, object], _rng: random.Random) -> dict[str, object]:
    return {**spec, "disabled": not spec.get("disabled")}


def _reserve(spec: dict[str, object], rng: random.Random) -> dict[str, object]:
    ipv4 = spec["ipv4"]
    assert isinstance(ipv4, dict)
    return {**spec, "reserved": [ipv4["cidrs"][0].replace(".0/", f".{rng.randrange(1, 60)}/").partition("/")[0]]}


def _rescale(spec: dict[str, object], rng: random.Random) -> dict[str, object]:
    scaling = {"minFreeAddresses": rng.choice((0, 4, 12)), "stabilizationWindowSeconds": rng.choice((0, 60)), "lastBlockDelaySeconds": 60}
    return {**spec, "scaling": scaling}


_SPARE = ("10.3.0.0/27", "10.3.0.32/27", "10.4.0.0/26")


async def pool_replaced(world: World, rng: random.Random) -> bool:
    """Deleted, and when it is gone made again over the same space with another block length."""
    pool = world.api.find("ippools", "extra")
    if pool is None or "deletionTimestamp" in pool["metadata"] or world.replacing_pool:
        return False
    world.replacing_pool = True
    world.api.handle("DELETE", "/apis/podcidr.io/v1alpha1/ippools/extra", b"{}")
    length = pool["spec"]["ipv4"]["blockPrefixLength"]
    gone = await _is_gone(world)
    world.replacing_pool = False
    if gone:
        world.put_pool("extra", ["10.2.0.0/26"], 57 - length if rng.random() < 0.7 else length)
    return gone


async def _is_gone(world: World) -> bool:
    """Whoever has to wait long for it deletes the pods that live in it."""
    for look in range(400):
        await asyncio.sleep(3.0)
        if world.api.find("ippools", "extra") is None:
            return True
        if look == 40:
            for machine in world.machines.values():
                living = {s.pod_key for s in machine.sandboxes.values() if any(a.startswith("10.2.0.") for a in s.addresses)}
                for key in sorted(living.intersection(world.pods_of(machine.name))):
                    world.delete_pod(key)
    return False


async def etcd_restored(world: World, rng: random.Random) -> bool:
    """From a backup older than a renewal of the Lease; much older, if no leader lives to see the Lease go back. Every agent runs."""
    now = world.loop.now
    led = any(replica.leads and replica.process and not replica.process.stopped for replica in world.replicas)
    age = RESTORE_AGE_SECONDS if led else UNSEEN_RESTORE_AGE_SECONDS
    old = [(at, snapshot) for at, snapshot in world.snapshots if now - at >= age]
    plan = _plan(world)
    calm = all(now >= until for until in (plan.agents_calm_until, *plan.node_calm_until.values()))
    up = all(m.powered and m.agent and m.agent.alive and not m.agent.stopped for m in world.machines.values())
    if not old or not calm or not up or world.network.cut_off:
        return False
    plan.agents_calm_until = now + RESTORE_CALM_SECONDS
    _, snapshot = rng.choice(old[-4:])
    world.cidrs_before_restore = {p["metadata"]["name"]: p["spec"]["ipv4"]["cidrs"] for p in world.api.values("ippools")}
    world.api.restore(snapshot)
    world.witness.restored({plural: world.api.values(plural) for plural in ("nodecidrs", "ipblocks", "nodes")})
    world.network.restart_servers()
    world.snapshots = [(at, one) for at, one in world.snapshots if one.revision <= snapshot.revision]
    for machine in world.machines.values():
        world.put_node(machine.name)
        machine.nudge()
    await asyncio.sleep(rng.uniform(1.0, 60.0))
    world.apply_pools_again()
    return True


def _disturb(world: World, rng: random.Random, name: str | None = None) -> None:
    """Give whoever is about to crash something to write."""
    name = name or rng.choice(list(world.machines))
    if world.quiet or world.api.find("nodes", name) is None:
        return
    for _ in range(min(4, MAX_PODS // 2 - len(world.pods_of(name)))):
        world.serial += 1
        key = f"default/p{world.serial}"
        meta = {"name": f"p{world.serial}", "namespace": "default"}
        world.api.put("pods", key, {"kind": "Pod", "metadata": meta, "spec": {"nodeName": name}})


FAULTS: dict[str, tuple[float, Fault]] = {
    "storm": (5, storm),
    "watches-cut": (2, watches_cut),
    "watches-expired": (2, watches_expired),
    "replica-stale": (3, replica_stale),
    "servers-restarted": (1, servers_restarted),
    "operator-cut-off": (2, operator_cut_off),
    "agent-cut-off": (2, agent_cut_off),
    "operator-killed": (2, operator_killed),
    "operator-crashed": (5, operator_crashed),
    "enter-held-back": (3, enter_held_back),
    "free-held-back": (2, free_held_back),
    "claim-forestalled": (2, claim_forestalled),
    "burst-at-a-drain": (4, burst_at_a_drain),
    "operator-stopped": (1, operator_stopped),
    "leader-hangs": (4, leader_hangs),
    "operator-clock-set": (1, operator_clock_set),
    "agent-killed": (2, agent_killed),
    "agent-crashed": (3, agent_crashed),
    "agent-hangs": (2, agent_hangs),
    "agent-updated": (1, agent_updated),
    "agent-dead-for-an-hour": (0.15, agent_dead_for_an_hour),
    "node-clock-set": (1, node_clock_set),
    "node-rebooted": (1, node_rebooted),
    "node-deleted-and-back": (2, node_deleted_and_back),
    "node-replaced": (2, node_replaced),
    "state-dir-lost": (1, state_dir_lost),
    "plugin-killed": (2, plugin_killed),
    "nodecidr-deleted": (1, nodecidr_deleted),
    "pool-edited": (4, pool_edited),
    "pool-replaced": (1, pool_replaced),
    "etcd-restored": (4, etcd_restored),
}
