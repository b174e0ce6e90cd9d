"""`podcidr migrate`: from one pool to another, step by step, to be broken off and gone on with anywhere."""

import time
from collections.abc import Callable
from functools import cache

import click
from rich.console import Console

from podcidr.api import names
from podcidr.cli.asking import acting_options, may_go_on
from podcidr.cli.connect import Api, Changed, Object, Refused
from podcidr.cli.migration import Migration, Progress, holders, obstacles, progress_of, stage_of
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import console, output_option, print_document, print_wrapped
from podcidr.cli.reading import read
from podcidr.cli.scene import read_leader
from podcidr.cli.workloads import Owner, Workload, budget, workloads
from podcidr.core.model import Pool

EXIT_NOT_DRAINED = 1
POOLS = f"/apis/{names.API_VERSION}/{names.PLURAL_IPPOOLS}"
BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
EVERY_SECONDS = 2.0
SHOWN_COMMANDS = 3


@click.command("migrate")
@click.argument("kind", metavar="pool", type=click.Choice(["pool"]))
@click.argument("source", metavar="OLD")
@click.option("--to", "target", metavar="NEW", required=True, help="The pool that pods move to. It has to have space of its own.")
@click.option(
    "--wait-seconds", metavar="SECONDS", type=click.FloatRange(0, 7 * 86400), default=3600.0, show_default=True,
    help="Watch for so long until OLD is drained; 0: say how it stands, and return.",
)  # fmt: skip
@acting_options
@output_option
@connection_options
def migrate(kind: str, source: str, target: str, wait_seconds: float, dry_run: bool, yes: bool, output: str) -> int:  # noqa: ARG001, FBT001, RUF100 - click calls it
    """Move pods from pool OLD to pool NEW: other space, or other blocks.

    \b
    1. Checks that each pod with an address of OLD could have one of NEW: families, nodes, namespaces, pins, room. Refuses otherwise.
    2. Asks, and sets spec.disabled of OLD: no new address comes from it. Pods that run keep theirs.
    3. Lists who still has addresses of OLD, with the commands that restart them: whom no PodDisruptionBudget guards first, then by
       how much budgets allow. It runs none of them: when a pod may go is yours to say.
    4. Waits until OLD is Drained: no address in use, every block back and rested. Then it can be deleted.

    All state is in the cluster: break it off anywhere, and run the same command again to go on. To turn back before the end, set
    spec.disabled of OLD to false: blocks that drain are taken into use again, and nobody has lost an address.

    \b
    Exit status: 0 drained (--dry-run: could begin), 1 refused or not drained yet, 2 wrong usage, 3 no API, or it refuses this account.
    Examples:
      podcidr migrate pool old --to new --dry-run
      podcidr migrate pool old --to new
      podcidr migrate pool old --to new --yes --wait-seconds 0 -o json
    """
    if source == target:
        raise click.BadParameter(f"{target!r}: is the pool to move from", param_hint="'--to'")
    api = connect()
    found, pool = survey(api, source, target)
    out = console() if output == "table" else None
    if out:
        print_survey(out, found)
    if found.stage == "Ready" and not dry_run:
        question = f"Disable pool {source}? Pods keep their addresses; new ones get addresses of other pools."
        if not may_go_on(question, yes=yes):
            raise click.Abort
        disable(api, pool)
    if found.stage in ("Ready", "Draining") and not dry_run:
        try:
            _watch(api, source, wait_seconds, out)
        except KeyboardInterrupt:  # a document is wanted all the same: it says how it stands
            if not out:
                print_document("MigrationReport", survey(api, source, target)[0].__dict__, output)
            raise
        found, _ = survey(api, source, target)
        if out:
            print_rest(out, found)
    if out:
        print_wrapped(out, last_line(found, dry_run=dry_run), style="heading")
    else:
        print_document("MigrationReport", found.__dict__, output)
    return 0 if found.stage == "Drained" or (dry_run and found.stage != "Refused") else EXIT_NOT_DRAINED


def survey(api: Api, source_name: str, target_name: str) -> tuple[Migration, Pool]:
    """Look at everything."""
    leader, _ = read_leader(api)
    pods = api.workload_pods()
    namespaces = {item["metadata"]["name"]: item for item in api.namespaces()}
    reading = read(api, with_pods=False)
    snapshot = reading.snapshot
    for name in (source_name, target_name):
        if name not in snapshot.pools:
            raise click.UsageError(f"no such pool: {name}; podcidr show pools lists them all")
    source, target = snapshot.pools[source_name], snapshot.pools[target_name]
    held = holders(snapshot, source, pods)
    progress = progress_of(reading, source, len(held))
    blocking = () if progress.drained else tuple(obstacles(reading, source, target, held, namespaces, leader))
    rest = workloads(held, owners(api), [budget(item) for item in _budgets(api)]) if held else []
    stage = stage_of(source, blocking, progress)
    return Migration(source_name, target_name, stage, blocking, progress, tuple(rest)), source


def _budgets(api: Api) -> list[Object]:
    try:
        return api.all_of(BUDGETS)
    except Refused as error:
        click.echo(f"podcidr: PodDisruptionBudgets could not be read, the order does not regard them: {error.message}", err=True)
        return []


def owners(api: Api) -> Callable[[Object], Owner]:
    """What makes a pod again: its controller, of a ReplicaSet the Deployment."""

    @cache
    def above(namespace: str, name: str) -> Owner:
        try:
            found = api.get(f"/apis/apps/v1/namespaces/{namespace}/replicasets/{name}")
        except Refused:
            found = None
        return _controller(found, ("ReplicaSet", name)) if found else ("ReplicaSet", name)

    def owner_of(pod: Object) -> Owner:
        kind, name = _controller(pod, ("", ""))
        return above(pod["metadata"]["namespace"], name) if kind == "ReplicaSet" else (kind, name)

    return owner_of


def _controller(obj: Object, nobody: Owner) -> Owner:
    references = obj["metadata"].get("ownerReferences") or ()
    return next(((owner["kind"], owner["name"]) for owner in references if owner.get("controller")), nobody)


def disable(api: Api, pool: Pool) -> None:
    """On the version that was looked at: whoever changed the pool meanwhile is not overruled."""
    meta = {"uid": pool.uid, "resourceVersion": str(pool.resource_version)}
    for _ in range(5):
        try:
            if api.merge(f"{POOLS}/{pool.name}", {"metadata": meta, "spec": {"disabled": True}}) is None:
                raise Changed(f"pool {pool.name} is gone meanwhile")
            return
        except Changed:
            fresh = api.get(f"{POOLS}/{pool.name}")  # the operator writes counts into its status all the time
            if fresh is None or fresh["metadata"]["uid"] != pool.uid or fresh["metadata"]["generation"] != pool.generation:
                raise
            meta["resourceVersion"] = fresh["metadata"]["resourceVersion"]
    raise Changed(f"pool {pool.name} is written by others all the time; run the command again")


def _watch(api: Api, source: str, wait_seconds: float, out: Console | None) -> None:
    """By ledger and reports alone: pods are many, and listed again at the end."""
    deadline = time.monotonic() + wait_seconds
    said: Progress | None = None
    while time.monotonic() < deadline:
        reading = read(api, with_pods=False)
        if (pool := reading.snapshot.pools.get(source)) is None:
            return
        now = progress_of(reading, pool, 0)
        if out and now != said:
            print_wrapped(out, progress_line(source, now), style="dim")
            out.file.flush()  # whoever reads it through a pipe waits for it
            said = now
        if now.drained or not pool.disabled:  # somebody has turned back
            return
        time.sleep(min(EVERY_SECONDS, max(0.0, deadline - time.monotonic())))


def progress_line(source: str, now: Progress) -> str:
    """How far it is."""
    if now.drained:
        return f"pool {source}: drained"
    nodes = f" on {len(now.nodes)} node{'' if len(now.nodes) == 1 else 's'}" if now.nodes else ""
    used = f"{now.addresses_in_use} addresses in use and {now.addresses_cooling} cooling down{nodes}"
    return f"pool {source}: {used}; {now.blocks} blocks left, {now.blocks_resting} of them resting"


def print_survey(out: Console, found: Migration) -> None:
    """Obstacles, then who is concerned."""
    for obstacle in found.obstacles:
        style = "full" if obstacle.stops and found.stage == "Refused" else "busy"
        print_wrapped(out, f"{'in the way' if obstacle.stops else 'note'}: {obstacle.what}", style=style)
        print_wrapped(out, f"do: {obstacle.remedy}", "  ")
    print_rest(out, found)


def print_rest(out: Console, found: Migration) -> None:
    """Workloads in order, with commands."""
    if found.workloads:
        when = "once the pool is disabled, restart" if found.stage in ("Refused", "Ready") else "restart now"
        print_wrapped(out, f"{found.progress.pods} pods have addresses of pool {found.source}; {when}, in this order:")
    for number, workload in enumerate(found.workloads, 1):
        _print_workload(out, number, workload)


def _print_workload(out: Console, number: int, workload: Workload) -> None:
    name = f"{workload.kind or 'Pod'} {workload.namespace}/{workload.name}"
    note = f" ({workload.note})" if workload.note else ""
    print_wrapped(out, f"{number}. {name}: {len(workload.pods)} pods{note}", "  ")
    for command in workload.commands[:SHOWN_COMMANDS]:
        out.print(f"       {command}")
    if (more := len(workload.commands) - SHOWN_COMMANDS) > 0:
        print_wrapped(out, f"… and {more} more like it: -o json has them all", "       ", style="dim")


def last_line(found: Migration, *, dry_run: bool) -> str:
    """How it stands and what to do next."""
    if found.stage == "Drained":
        return f"migrate: pool {found.source} is drained; it can be deleted: kubectl delete ippools.podcidr.io {found.source}"
    if found.stage == "Refused":
        return "migrate: refused, nothing was changed; solve what is in the way, then run the command again"
    if dry_run:
        verb = "would be disabled" if found.stage == "Ready" else "is disabled already"
        return f"migrate: pool {found.source} {verb}; dry run: nothing was changed"
    back = "to turn back, set its spec.disabled to false"
    return f"migrate: {progress_line(found.source, found.progress)}; run the command again to go on ({back})"
