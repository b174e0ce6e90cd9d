"""`podcidr history`: who held an address, what a node or a pool held, and when."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import click

from podcidr.api import names
from podcidr.cli.connect import Api
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import Cell, Column, console, output_option, print_document, print_table, print_wrapped
from podcidr.cli.scene import read_leader
from podcidr.core.errors import BadValue
from podcidr.core.history import SEGMENTS, Holding, Record, holdings, parse
from podcidr.core.prefix import BITS, Prefix, parse_address, parse_prefix
from podcidr.reconcile.history import segment_of

COLUMNS = (
    Column("SINCE"), Column("UNTIL"), Column("BLOCK"), Column("NODE"), Column("POOL", 1), Column("DRAINING", 2), Column("FREE", 3),
    Column("WHY IT ENDED", wraps=True),
)  # fmt: skip
BEFORE, STILL = "before", "now"


@click.command("history")
@click.argument("name", metavar="ADDRESS|BLOCK|NODE|POOL")
@click.option("--limit", metavar="N", type=click.IntRange(1), default=100, show_default=True, help="At most so many, the newest.")
@click.option("--operator-namespace", metavar="NAMESPACE", help="Where the operator runs, and keeps the record; else where its Lease is.")
@output_option
@connection_options
def history(name: str, limit: int, operator_namespace: str | None, output: str) -> int:
    """Say which node held an address or a block, or what a node or a pool held, and when.

    The record is the operator's: it writes a line when a block is claimed, adopted, drains, is taken back into use, leaves, and is free
    again. It is kept in 16 ConfigMaps beside the operator's Lease, under 1 MB and about ten thousand lines in all; the oldest lines go
    first, and operators that come and go leave them alone.

    It knows nodes, not pods: which pod of a node had an address at some moment is in the API server's audit log, if anywhere. Which pod
    has it now, `podcidr explain ip` says.

    \b
    Examples:
      podcidr history 10.64.3.7
      podcidr history n1 --limit 20
      podcidr history default -o json
    """
    api = connect()
    records = read_records(api, operator_namespace or _namespace(api))
    found = [holding for holding in holdings(records) if chosen(name)(holding)]
    if records and not found:
        _expect_known(api, name)
    shown = found[-limit:]
    since = records[0].at if records else ""
    if output != "table":
        print_document("History", {"name": name, "recordedSince": since, "left": len(found) - len(shown), "items": shown}, output)
        return 0
    out = console()
    if shown:
        print_table(out, COLUMNS, [_cells(holding) for holding in shown])
    else:
        print_wrapped(out, f"no line of the record names {name}; podcidr explain says what is now")
    if len(found) > len(shown):
        print_wrapped(out, f"… and {len(found) - len(shown)} older ones: --limit {len(found)}", style="dim")
    print_wrapped(
        out, f"The record reaches back to {since}." if since else "There is no record yet: no operator has written one.", style="dim"
    )
    return 0


def _expect_known(api: Api, name: str) -> None:
    """An address, or a node or pool that is there, may have no history; any other name is a slip of the pen."""
    pool = f"/apis/{names.API_VERSION}/{names.PLURAL_IPPOOLS}/{name}"
    if _prefix(name) is None and not api.get(f"/api/v1/nodes/{name}") and not api.get(pool):
        raise click.UsageError(f"neither node nor pool is called {name}, and no line of the record names it; podcidr show lists them all")


def _namespace(api: Api) -> str:
    leader, _ = read_leader(api)
    return leader.namespace if leader else names.NAMESPACE


def read_records(api: Api, namespace: str) -> list[Record]:
    """All lines, in the order of their time. A segment is read by its name: nothing else of the namespace is looked at."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    objects = (api.get(f"{path}/{names.history_name(slot)}") for slot in range(SEGMENTS))
    segments = sorted((segment_of(obj) for obj in objects if obj), key=lambda segment: segment.number)
    return list(_parsed(line for segment in segments for line in segment.lines))


def _parsed(lines: Iterable[str]) -> Iterator[Record]:
    yield from sorted((record for line in lines if (record := parse(line))), key=lambda record: record.at)


def chosen(name: str) -> Callable[[Holding], bool]:
    """By address or block; else by the name of node or pool."""
    if (prefix := _prefix(name)) is not None:
        return lambda holding: holding.prefix.overlaps(prefix)
    return lambda holding: name in (holding.node, holding.pool)


def _prefix(text: str) -> Prefix | None:
    try:
        if "/" in text:
            return parse_prefix(text)
        family, number = parse_address(text)
    except BadValue as error:
        if "/" in text or text.replace(".", "").isdigit():
            raise click.BadParameter(str(error), param_hint="'ADDRESS'") from error
        return None
    return Prefix(family, number, BITS[family])


def _cells(holding: Holding) -> list[Cell]:
    until = Cell(_short(holding.until) or STILL, "" if holding.until else "good")
    return [
        Cell(_short(holding.since) or BEFORE, "" if holding.since else "dim"), until, Cell(str(holding.prefix)), Cell(holding.node),
        Cell(holding.pool), Cell(_short(holding.draining_since)), Cell(_short(holding.free_since)),
        Cell(holding.end_reason if holding.until else "", "dim"),
    ]  # fmt: skip


def _short(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%S") if at else ""
