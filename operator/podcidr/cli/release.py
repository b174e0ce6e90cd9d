"""`podcidr release`: a person's word that a machine is gone for good, in place of ten minutes of silence."""

from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import Console

from podcidr.api import names
from podcidr.cli.asking import acting_options, may_go_on
from podcidr.cli.connect import Api, Changed, Object
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import camel, console, output_option, print_document, print_wrapped
from podcidr.cli.reading import Reading, read
from podcidr.cli.scene import duration, moment, quarantine_seconds, read_leader
from podcidr.core.model import NodeCIDR
from podcidr.core.prefix import Prefix

EXIT_REFUSED = 1
ALIVE_SECONDS = 60.0
"""An agent that reported so recently is alive, as far as clocks agree."""
SHOWN = 10


@dataclass(frozen=True)
class Release:
    """What would be given up, and what speaks against it."""

    node: str
    blocks: tuple[Prefix, ...]
    addresses_in_use: int
    pods: tuple[str, ...]
    warning: tuple[str, ...]
    refused_because: tuple[str, ...] = ()


@click.command("release")
@click.option("--node", "name", metavar="NODE", required=True, help="The node whose machine is gone.")
@click.option("--force", is_flag=True, help="Your word that the machine is switched off for good. Without it nothing is done.")
@acting_options
@output_option
@connection_options
def release(name: str, force: bool, dry_run: bool, yes: bool, output: str) -> int:  # noqa: FBT001, RUF100 - click calls it
    """Give up a node whose machine is gone for good, so that its blocks come back without the wait for lost nodes.

    For a machine that has burned down. Usually it is enough to delete its Node: the operator takes the blocks back after ten minutes
    without a sign of life. This command notes on the NodeCIDR that you say so, deletes the Node, and the operator takes the blocks back
    at once (they still rest in quarantine). Refuses while the Node is Ready or its agent has reported within the last minute. A report
    that comes after your word voids it.

    If the machine is only cut off and its pods live on, their addresses will be given to others: two pods then have one address.

    \b
    Exit status: 0 done (or could be done: --dry-run), 1 refused, 2 wrong usage, 3 API not reachable, or it refuses this account.
    Examples:
      podcidr release --node n7 --dry-run
      podcidr release --node n7 --force
    """
    api = connect()
    found = weigh_release(reading := read(api, with_pods=True), name)
    refused = list(found.refused_because)
    if not (force or dry_run):
        refused.append("--force is missing: it says that the machine is switched off for good")
    done = False
    if not (refused or dry_run):
        for line in found.warning:
            click.echo(f"WARNING: {line}", err=True)
        if not may_go_on(f"Is the machine of node {name} switched off for good, and may its addresses be given to others?", yes=yes):
            raise click.Abort
        _give_up(api, name, reading)
        done = True
    _tell(api, found, refused, output, done=done)
    return EXIT_REFUSED if refused else 0


def weigh_release(reading: Reading, name: str) -> Release:
    """What the node holds, and whether it gives a sign of life. Pure."""
    snapshot = reading.snapshot
    nodecidr = snapshot.nodecidrs.get(name)
    claims = {block.prefix for block in snapshot.blocks.values() if block.node == name and not block.quarantined}
    if nodecidr is None and name not in snapshot.nodes and not claims:
        raise click.UsageError(f"no such node: {name}; podcidr show nodes lists them all")
    blocks = sorted(claims | {entry.prefix for entry in nodecidr.entries} if nodecidr else claims)
    in_use = sum(usage.in_use for usage in nodecidr.known.blocks.values()) if nodecidr and nodecidr.known else 0
    pods = tuple(f"{pod.namespace}/{pod.name}" for pod in reading.pods or () if pod.node == name and pod.addresses)
    warning = tuple(_warning(reading, name, blocks, in_use, pods))
    return Release(name, tuple(blocks), in_use, pods, warning, tuple(_signs_of_life(reading, name)))


def _warning(reading: Reading, name: str, blocks: list[Prefix], in_use: int, pods: tuple[str, ...]) -> Iterator[str]:
    pools = {block.pool for block in reading.snapshot.blocks.values() if block.node == name}
    rest = max((quarantine_seconds(reading.snapshot, pool) for pool in pools), default=0.0)
    yield f"node {name} holds {len(blocks)} blocks and last reported {in_use} addresses in use"
    if blocks:
        yield f"all of them may be given to other pods {duration(rest)} after this (quarantineSeconds)"
    yield "if the machine still runs, cut off from the API server alone, two pods will then have one address: switch it off first, for good"
    if pods:
        more = f" and {len(pods) - SHOWN} more" if len(pods) > SHOWN else ""
        yield f"pods that the API server still has there, with their addresses: {', '.join(pods[:SHOWN])}{more}"


def _signs_of_life(reading: Reading, name: str) -> Iterator[str]:
    node = reading.snapshot.nodes.get(name)
    if node and node.ready:
        yield f"node {name} is Ready: its kubelet is alive. Drain it, switch the machine off, and wait until it is NotReady"
    reported = reading.reported_at.get(name)
    if reported and (reading.at - reported).total_seconds() < ALIVE_SECONDS:
        yield f"the agent of node {name} reported at {moment(reported)}: it is alive. Switch the machine off, and try again in a minute"


def _give_up(api: Api, name: str, reading: Reading) -> None:
    """The word first, then the Node: broken off in between, the operator goes on waiting, and the command can be run again."""
    if nodecidr := reading.snapshot.nodecidrs.get(name):
        _say_gone(api, nodecidr)
    path = f"/api/v1/nodes/{name}"
    if name in reading.snapshot.nodes and (node := api.get(path)):
        _expect_dead(node)
        api.delete(path, uid=node["metadata"]["uid"], resource_version=node["metadata"]["resourceVersion"])


def _expect_dead(node: Object) -> None:
    conditions = node.get("status", {}).get("conditions") or ()
    if any(c["type"] == "Ready" and c["status"] == names.STATUS_TRUE for c in conditions):
        raise Changed(f"node {node['metadata']['name']} has become Ready meanwhile: nothing was released")


def _say_gone(api: Api, nodecidr: NodeCIDR) -> None:
    """It holds for the last report seen only; one that comes meanwhile voids it."""
    stamp = (nodecidr.report and nodecidr.report.reported_at) or names.NEVER
    meta = {"uid": nodecidr.uid, "annotations": {names.ANNOTATION_MACHINE_GONE: stamp}}
    if api.merge(f"/apis/{names.API_VERSION}/{names.PLURAL_NODECIDRS}/{nodecidr.name}", {"metadata": meta}) is None:
        raise Changed(f"NodeCIDR {nodecidr.name} is gone meanwhile: run the command again")


def _tell(api: Api, found: Release, refused: list[str], output: str, *, done: bool) -> None:
    leader, _ = read_leader(api)
    if output != "table":
        content = {camel(key): value for key, value in found.__dict__.items()}
        print_document("ReleaseReport", {"released": done, **content, "refusedBecause": refused}, output)
        return
    _print(console(), found, refused, done=done, leader=leader.holder if leader else "")


def _print(out: Console, found: Release, refused: list[str], *, done: bool, leader: str) -> None:
    if not done:
        for line in found.warning:
            print_wrapped(out, f"warning: {line}", style="busy")
    for reason in refused:
        print_wrapped(out, f"refused: {reason}", style="full")
    if refused:
        print_wrapped(out, f"release: nothing was changed; node {found.node} keeps its {len(found.blocks)} blocks", style="heading")
    elif done:
        who = f"operator {leader}" if leader else "the operator, once one runs,"
        print_wrapped(out, f"release: node {found.node} is given up; {who} takes {len(found.blocks)} blocks back now", style="heading")
        print_wrapped(out, f"follow it: podcidr explain node {found.node}; podcidr show blocks")
    else:
        print_wrapped(out, f"release: would give up node {found.node}; dry run: nothing was changed", style="heading")
