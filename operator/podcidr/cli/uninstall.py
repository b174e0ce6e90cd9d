"""`podcidr uninstall`: the last records go, once nobody needs them any more."""

from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import Console

from podcidr.api import names
from podcidr.cli.asking import acting_options, may_go_on
from podcidr.cli.connect import Api, Object, Refused
from podcidr.cli.cover import Cover
from podcidr.cli.judge import accepted_cidrs
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import console, output_option, print_document, print_wrapped
from podcidr.cli.reading import Reading, read
from podcidr.cli.scene import Leader, read_leader
from podcidr.core.model import NodeCIDR

EXIT_REFUSED = 1
SHOWN = 10
APIS = f"/apis/{names.API_VERSION}"
OURS = "labelSelector=app.kubernetes.io%2Fname%3Dpodcidr"
PODS = f"/api/v1/pods?{OURS}"
POLICIES = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies?{OURS}"
ORDER = (names.PLURAL_IPPOOLS, names.PLURAL_IPBLOCKS, names.PLURAL_NODECIDRS)
"""NodeCIDRs go last: without them nobody knows which addresses a node uses."""
HISTORY = f"/api/v1/configmaps?{OURS}%2Capp.kubernetes.io%2Fcomponent%3Dhistory"
REMOVE_PROGRAMS = "remove operator and agents first: helm uninstall podcidr -n podcidr-system (or kubectl delete -f deploy/podcidr.yaml)"
REST = "on each node: rm /etc/cni/net.d/10-podcidr.conflist /opt/cni/bin/podcidr-ipam; then: kubectl delete -f crds/"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why podcidr can't be removed yet, and what to do about it."""

    reason: str
    remedy: str


@click.command("uninstall")
@acting_options
@output_option
@connection_options
def uninstall(dry_run: bool, yes: bool, output: str) -> int:  # noqa: FBT001, RUF100 - click calls it
    """Remove podcidr's objects, once no address is in use and its programs are gone.

    Refuses, with status 1, while a pod has an address of a pool, while a node reports one in use or has not reported at all, while
    an operator or agents run, and while the admission policies that guard the records are in force. Then it takes the finalizers off
    IPPools, IPBlocks and NodeCIDRs and deletes them, in this order, and last
    the history's ConfigMaps. It can be broken off and run again at any point.

    Leaves alone what is not the API's or not its own: the CRDs, the plugin and its configuration on the nodes. The last line says how
    to remove those.

    \b
    Exit status: 0 done (or could be done: --dry-run), 1 refused, 2 wrong usage, 3 API not reachable, or it refuses this account.
    Examples:
      podcidr uninstall --dry-run
      podcidr uninstall --yes
    """
    api = connect()
    found, objects = _look(api)
    if not found and objects and not dry_run:
        if not may_go_on(f"Delete {_counted(objects)}? Nobody will know any more who had which address.", yes=yes):
            raise click.Abort
        found, objects = _look(api)  # pods may have started while the question stood
        if not found:
            _remove(api, objects)
    _tell(found, objects, output, done=not (found or dry_run))
    return EXIT_REFUSED if found else 0


def _look(api: Api) -> tuple[list[Obstacle], dict[str, list[Object]]]:
    leader, _ = read_leader(api)
    objects = {plural: api.custom(plural) for plural in ORDER} | {"configmaps": _some(api, HISTORY)}
    reading = read(api, with_pods=True)
    running, policies = _some(api, PODS), _some(api, POLICIES)
    return list(obstacles(reading, leader, running, policies)), objects


def _some(api: Api, path: str) -> list[Object]:
    """What of the collection exists; nothing where this account may not look: the deletion itself will be refused then."""
    try:
        return api.all_of(path)
    except Refused:
        return []


def obstacles(reading: Reading, leader: Leader | None, running: list[Object], policies: list[Object]) -> Iterator[Obstacle]:
    """All of them, those that guard addresses first. Pure."""
    yield from _pods_with_addresses(reading)
    for nodecidr in reading.snapshot.nodecidrs.values():
        if words := _in_use(nodecidr):
            remedy = f"start its agent, or if the machine is gone: podcidr release --node {nodecidr.name} --force"
            if nodecidr.known is not None:
                remedy = "move its pods away (kubectl drain), and see that its agent runs to tell when the last has gone"
            yield Obstacle(words, remedy)
    if leader and leader.leads(reading.at):
        yield Obstacle(f"operator {leader.holder} leads: it would make everything anew", REMOVE_PROGRAMS)
    elif running:
        some = ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in running[:3])
        yield Obstacle(f"{len(running)} pods of podcidr are there ({some}{', …' if len(running) > 3 else ''})", REMOVE_PROGRAMS)
    if policies:
        some = ", ".join(policy["metadata"]["name"] for policy in policies)
        yield Obstacle(f"admission policies guard the records: {some}", REMOVE_PROGRAMS)


def _pods_with_addresses(reading: Reading) -> Iterator[Obstacle]:
    if reading.pods is None:
        yield Obstacle(f"which pods have addresses of pools is not known: {reading.pods_missing}", "use an account that may list pods")
        return
    pools = Cover((cidr, pool.name) for pool in reading.snapshot.pools.values() for cidr in accepted_cidrs(pool))
    lists = Cover((e.prefix, e.pool) for nodecidr in reading.snapshot.nodecidrs.values() for e in nodecidr.entries)
    holders = [str(pod) for pod in reading.pods if any(address in pools or address in lists for address in pod.addresses)]
    if holders:
        some = ", ".join(holders[:SHOWN]) + (f" and {len(holders) - SHOWN} more" if len(holders) > SHOWN else "")
        remedy = "restart them on another network: without podcidr nobody releases their addresses, and they may be given twice"
        yield Obstacle(f"{len(holders)} pods have addresses of pools: {some}", remedy)


def _in_use(nodecidr: NodeCIDR) -> str:
    if nodecidr.known is None:
        return f"node {nodecidr.name} holds blocks and has not reported: unknown means used" if nodecidr.entries else ""
    used = sum(usage.in_use for usage in nodecidr.known.blocks.values())
    return f"node {nodecidr.name} reports {used} addresses in use" if used else ""


def _remove(api: Api, objects: dict[str, list[Object]]) -> None:
    """Finalizers, then objects; each by its uid, so that what is made meanwhile stays."""
    for plural in ORDER:
        for obj in objects[plural]:
            meta = obj["metadata"]
            path = f"{APIS}/{plural}/{meta['name']}"
            if meta.get("finalizers") and api.merge(path, {"metadata": {"uid": meta["uid"], "finalizers": None}}) is None:
                continue  # gone meanwhile, or with its finalizer
            api.delete(path, uid=meta["uid"])
    for obj in objects["configmaps"]:
        meta = obj["metadata"]
        api.delete(f"/api/v1/namespaces/{meta['namespace']}/configmaps/{meta['name']}", uid=meta["uid"])


def _counted(objects: dict[str, list[Object]]) -> str:
    return ", ".join(f"{len(found)} {plural}" for plural, found in objects.items())


def _tell(found: list[Obstacle], objects: dict[str, list[Object]], output: str, *, done: bool) -> None:
    if output != "table":
        counts = {plural: len(found) for plural, found in objects.items()}
        print_document("UninstallReport", {"removed": done, "objects": counts, "obstacles": found, "remaining": REST}, output)
        return
    out = console()
    for obstacle in found:
        _tell_obstacle(out, obstacle)
    if found:
        print_wrapped(out, "uninstall: refused, nothing was changed", style="full")
    elif done:
        print_wrapped(out, f"uninstall: removed {_counted(objects)}", style="heading")
        print_wrapped(out, REST)
    else:
        print_wrapped(out, f"uninstall: would remove {_counted(objects)}; dry run: nothing was changed", style="heading")


def _tell_obstacle(out: Console, obstacle: Obstacle) -> None:
    print_wrapped(out, f"in the way: {obstacle.reason}", style="busy")
    print_wrapped(out, f"do: {obstacle.remedy}", "  ")
