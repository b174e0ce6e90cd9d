"""`podcidr show`: pools, nodes and blocks with bars of how full they are."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import Cell, Column, console, output_option, print_document, print_table, print_wrapped
from podcidr.cli.reading import Reading, read
from podcidr.cli.rows import BlockRow, NodeRow, PoolRow, block_rows, node_rows, pool_rows
from podcidr.core.prefix import block_name

OVERVIEW_ROWS = 30
ROWS: dict[str, Callable[[Reading], Sequence[PoolRow | NodeRow | BlockRow]]] = {
    "pools": pool_rows,
    "nodes": node_rows,
    "blocks": block_rows,
}
KINDS = {"pools": "PoolList", "nodes": "NodeList", "blocks": "BlockList"}
STATE_STYLES = {
    "Accepted": "good", "Ready": "good", "Active": "good", "Draining": "busy", "Claimed": "busy", "Quarantined": "dim", "Drained": "dim",
    "Disabled": "dim",
}  # fmt: skip

POOL_COLUMNS = (
    Column("POOL"), Column("FAMILY", 2), Column("USED"), Column("IN USE", 1, right=True), Column("COOLING", 3, right=True),
    Column("FREE", 1, right=True), Column("BLOCKS", 2, right=True), Column("RESTING", 3, right=True),
    Column("OF", 3, right=True), Column("KIND", 4), Column("STATE", 1), Column("CIDRS", 5),
)  # fmt: skip
NODE_COLUMNS = (
    Column("NODE"), Column("USED"), Column("IN USE", 1, right=True), Column("COOLING", 3, right=True),
    Column("CAPACITY", 2, right=True), Column("PENDING", 1, right=True), Column("BLOCKS", 2, right=True),
    Column("DRAINING", 3, right=True), Column("REPORTED", 4, right=True), Column("STATE", 1), Column("NOTE", wraps=True),
)  # fmt: skip
BLOCK_COLUMNS = (
    Column("BLOCK"), Column("NODE", 1), Column("USED"), Column("IN USE", 2, right=True), Column("COOLING", 3, right=True),
    Column("OF", 3, right=True), Column("POOL", 4), Column("STATE", 1), Column("NOTE", wraps=True),
)  # fmt: skip


@click.command("show")
@click.argument("what", metavar="[pools|nodes|blocks]", required=False)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@output_option
@connection_options
def show(what: str | None, names: tuple[str, ...], output: str) -> int:
    """Show pools, nodes and blocks and how full they are.

    Without arguments an overview of all three. NAME is a pool's, a node's, or a block's (10.64.3.0/28 or 10-64-3-0-28);
    `show blocks` takes names of nodes too.

    USED counts addresses in use and those that cool down after use. A block with several nodes, or marked CONFLICT, breaks an
    invariant: `podcidr check` says more. An ORPHAN is a block whose pool or CIDR is gone; it stays until it is empty.

    \b
    Examples:
      podcidr show
      podcidr show nodes n1 n2
      podcidr show blocks n1 -o json
    """
    if what is not None and what not in ROWS:
        raise click.BadParameter(f"{what!r}: use pools, nodes or blocks", param_hint="'show'")
    reading = read(connect(), with_pods=False)
    if what is None:
        _overview(reading, output)
        return 0
    rows = [row for row in ROWS[what](reading) if not names or _names_of(row) & set(names)]
    _expect_all(what, names, rows, reading)
    if output == "table":
        _table(console(), what, rows, reading.at)
    else:
        print_document(KINDS[what], {"items": rows}, output)
    return 0


def _names_of(row: PoolRow | NodeRow | BlockRow) -> set[str]:
    if isinstance(row, BlockRow):
        return {str(row.cidr), block_name(row.cidr), *row.nodes}
    return {row.name}


def _expect_all(what: str, names: Iterable[str], rows: Sequence[Any], reading: Reading) -> None:
    found = set().union(*map(_names_of, rows)) if rows else set()
    if what == "blocks":
        found |= reading.snapshot.nodes.keys()
    if missing := [name for name in names if name not in found]:
        raise click.UsageError(f"no such {what.removesuffix('s')}: {', '.join(missing)}; podcidr show {what} lists them all")


def _overview(reading: Reading, output: str) -> None:
    pools, nodes, blocks = pool_rows(reading), node_rows(reading), block_rows(reading)
    if output != "table":
        print_document("Overview", {"pools": pools, "nodes": nodes, "blocks": blocks}, output)
        return
    out = console()
    print_wrapped(out, summary(pools, nodes, blocks))
    if not pools:
        print_wrapped(out, "There is no IPPool yet: nodes get no blocks before you create one.")
    for what, rows in (("pools", pools), ("nodes", nodes), ("blocks", _worth_a_line(blocks))):
        if rows:
            out.print()
            _table(out, what, rows[:OVERVIEW_ROWS], reading.at)
            total = len(blocks) if what == "blocks" else len(rows)
            if (more := total - len(rows[:OVERVIEW_ROWS])) > 0:
                print_wrapped(out, f"… and {more} more: podcidr show {what}", style="dim")


def _worth_a_line(blocks: Sequence[BlockRow]) -> list[BlockRow]:
    """All of a small cluster; of a large one what is not simply Active."""
    if len(blocks) <= OVERVIEW_ROWS:
        return list(blocks)
    return [row for row in blocks if row.state != "Active" or row.orphan or row.conflict] or list(blocks[:OVERVIEW_ROWS])


def summary(pools: Sequence[PoolRow], nodes: Sequence[NodeRow], blocks: Sequence[BlockRow]) -> str:
    """The counts in one line."""
    counts = Counter(row.state for row in blocks)
    detail = [f"{counts[state]} {state}" for state in ("Draining", "Quarantined") if counts[state]]
    if orphaned := sum(bool(row.orphan) for row in blocks):
        detail.append(_many(orphaned, "orphan"))
    if disputed := sum(bool(row.conflict) for row in blocks):
        detail.append(f"{disputed} in conflict")
    parts = [
        _many(len({row.name for row in pools}), "pool"),
        _many(len(nodes), "node"),
        _many(len(blocks), "block") + (f" ({', '.join(detail)})" if detail else ""),
        _many(sum(row.in_use for row in nodes), "address", "addresses") + " in use",
        _many(sum(row.pending for row in nodes), "pod") + " waiting",
    ]
    return " · ".join(parts)


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _table(out: Console, what: str, rows: Sequence[Any], at: datetime) -> None:
    if not rows:
        print_wrapped(out, f"no {what}")
    elif what == "pools":
        print_table(out, POOL_COLUMNS, [_pool_cells(row) for row in rows])
    elif what == "nodes":
        print_table(out, NODE_COLUMNS, [_node_cells(row, at) for row in rows])
    else:
        print_table(out, BLOCK_COLUMNS, [_block_cells(row) for row in rows])


def _pool_cells(row: PoolRow) -> list[Cell]:
    return [
        Cell(row.name), Cell(row.family), _used(row.utilization_percent), _number(row.in_use), _number(row.cooling),
        _number(row.free), _number(row.blocks_claimed), _number(row.blocks_quarantined), _number(row.blocks_total),
        Cell(row.allocation), _state(row.state), Cell(", ".join(map(str, row.cidrs))),
    ]  # fmt: skip


def _node_cells(row: NodeRow, at: datetime) -> list[Cell]:
    note = f"CONFLICT × {row.conflicts}" if row.conflicts else ""
    if not note and row.observed_epoch and row.observed_epoch < row.epoch:
        note = f"epoch {row.observed_epoch} of {row.epoch}"
    return [
        Cell(row.name), _used(row.utilization_percent), _number(row.in_use), _number(row.cooling), _number(row.capacity),
        _number(row.pending, "busy"), _number(row.blocks_active + row.blocks_draining), _number(row.blocks_draining),
        Cell(_age(row.reported_at, at)), _state(row.state), Cell(note, "full" if row.conflicts else "dim"),
    ]  # fmt: skip


def _block_cells(row: BlockRow) -> list[Cell]:
    note = f"CONFLICT: {row.conflict}" if row.conflict else f"ORPHAN: {row.orphan}" if row.orphan else ""
    return [
        Cell(str(row.cidr)), Cell(", ".join(row.nodes)), _used(row.utilization_percent), _number(row.in_use), _number(row.cooling),
        _number(row.capacity), Cell(row.pool), _state(row.state), Cell(note, "full" if row.conflict else "busy"),
    ]  # fmt: skip


def _used(percent: int) -> Cell:
    return Cell(f"{percent:3d} %", percent=percent)


def _number(number: int, style: str = "") -> Cell:
    return Cell(f"{number:,}", style if number else "dim")


def _state(state: str) -> Cell:
    return Cell(state, STATE_STYLES.get(state, "full"))


def _age(moment: datetime | None, now: datetime) -> str:
    """How long ago, as kubectl says it."""
    if moment is None:
        return "never"
    seconds = max(0, int((now - moment).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
