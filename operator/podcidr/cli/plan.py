"""`podcidr plan`: what the operator would do now, and why."""

import time

import click
from rich.console import Console

from podcidr.cli.connect import Api, Refused
from podcidr.cli.forecast import Forecast, PlannedRow, forecast, suspects
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import Cell, Column, console, output_option, print_document, print_table, print_wrapped
from podcidr.cli.reading import read
from podcidr.core.prefix import Prefix

CONFIRM_SECONDS = 1.0
COLUMNS = (Column("ACTION"), Column("NODE", 1), Column("BLOCK"), Column("POOL", 2), Column("WHY", wraps=True))
STYLES = {
    "Claim": "good", "Undrain": "good", "Accept": "good", "CreateNodeCIDR": "good", "Drain": "busy", "Adopt": "busy", "Wait": "busy",
    "Refuse": "full",
}  # fmt: skip


@click.command("plan")
@click.option("--dry-run", is_flag=True, help="The only mode there is: nothing is ever changed. Accepted for clarity.")
@click.option("--assume-settled", is_flag=True, help="Plan as a leader whose windows and waits have run out: shows what will shrink.")
@output_option
@connection_options
def plan(dry_run: bool, assume_settled: bool, output: str) -> int:  # noqa: ARG001, FBT001, RUF100 - dry is what it always is
    """Show what the operator would do now and why, without doing it.

    Runs the operator's own planner on what the API server holds. One round: what it does may give the next round more to do.

    Stabilization windows and the waits for nodes that are gone are measured in the leader's memory, which no object holds. So the
    plan is that of a leader that has just begun, and shows no shrinking; --assume-settled shows it as if all of them had run out.
    Quarantines are measured by their releasedAt.

    \b
    Actions: Accept, Wait, Refuse (a pool's CIDR), CreateNodeCIDR, SetPools, DeleteNodeCIDR, RaiseEpoch (a node),
             Claim, Undrain, Drain, Adopt, Leave, Free (a block).
    Examples:
      podcidr plan
      podcidr plan --assume-settled -o json
    """
    found = _forecast(connect(), settled=assume_settled)
    if output == "table":
        _print(console(), found)
    else:
        content = {"assumes": found.assumes, "idleBecause": found.idle_because, "violations": found.violations, "items": found.rows}
        print_document("Plan", content, output)
    return 0


def _forecast(api: Api, *, settled: bool) -> Forecast:
    """As the operator does it: what looks like a violation is read again."""
    reading = read(api, with_pods=False)
    confirmed: frozenset[Prefix] = frozenset()
    if doubtful := suspects(reading):
        time.sleep(CONFIRM_SECONDS)
        reading = read(api, with_pods=False)
        confirmed = doubtful & suspects(reading)
    return forecast(reading, has_pods=_has_pods(api), settled=settled, confirmed=confirmed)


def _has_pods(api: Api) -> bool:
    """Where this account may not look there may be some."""
    try:
        return api.has_pods()
    except Refused:
        return True


def _print(out: Console, found: Forecast) -> None:
    for words in found.violations:
        print_wrapped(out, f"VIOLATION: {words}; these blocks are frozen (podcidr check says more)", style="full")
    if found.rows:
        print_table(out, COLUMNS, [_cells(row) for row in found.rows])
    else:
        print_wrapped(out, f"nothing to do{f': {found.idle_because}' if found.idle_because else ''}")
    print_wrapped(out, f"As {found.assumes}. Dry run: nothing was changed.", style="dim")


def _cells(row: PlannedRow) -> list[Cell]:
    return [Cell(row.action, STYLES.get(row.action, "")), Cell(row.node), Cell(row.block), Cell(row.pool), Cell(row.reason)]
