"""Printing: tables for people (plain when piped, fewer columns when narrow), JSON and YAML for programs."""

import dataclasses
import enum
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from podcidr.api import names
from podcidr.core.prefix import Prefix

BAR_WIDTH = 20
NARROW_BAR_WIDTH = 8
WRAPPED_WIDTH = 24
"""Columns are left out before one that wraps gets narrower than this."""
GAP = "  "
STYLES = {"good": "green", "busy": "yellow", "full": "red", "dim": "dim", "heading": "bold", "": ""}


class Cell(NamedTuple):
    """Text with a style of `STYLES`, or a share (0 to 100) to be drawn as a bar."""

    text: str
    style: str = ""
    percent: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Where it is too narrow those of the highest `rank` go first; 0 stays. `wraps`: the last one, of words."""

    title: str
    rank: int = 0
    right: bool = False
    wraps: bool = False


def console() -> Console:
    """Standard output: colours on a terminal only (NO_COLOR and TERM=dumb are obeyed)."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, emoji=False, markup=False)


def terminal_width(out: Console) -> int | None:
    """Columns of the terminal; None where there is none: what is piped is never cut."""
    return out.width if out.is_terminal else None


def print_table(out: Console, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """A table as wide as it has to be, at most as wide as the terminal if that can be had by leaving columns out."""
    width = terminal_width(out)
    kept, bar_width = list(range(len(columns))), BAR_WIDTH
    while width is not None and _total(columns, rows, kept, bar_width) > width:
        if bar_width > NARROW_BAR_WIDTH and _has_bar(rows):
            bar_width = NARROW_BAR_WIDTH
        elif rank := max(columns[index].rank for index in kept):
            kept = [index for index in kept if columns[index].rank < rank]
        else:
            break
    widths = {index: _width(columns[index], [row[index] for row in rows], bar_width) for index in kept}
    if width is not None and columns[kept[-1]].wraps:
        widths[kept[-1]] = max(1, min(widths[kept[-1]], width - sum(widths[i] + len(GAP) for i in kept[:-1])))
    _print_row(out, [_aligned(Text(columns[i].title, style=STYLES["heading"]), columns[i], widths[i]) for i in kept])
    fancy = _speaks_unicode(out)
    if width is None:  # rich needs a second for three hundred rows
        out.file.writelines(_plain(columns, row, widths, fancy=fancy) for row in rows)
        return
    for row in rows:
        drawn = {i: _drawn(row[i], bar_width, fancy=fancy) for i in kept}
        lines = {i: list(drawn[i].wrap(out, widths[i])) if columns[i].wraps else [drawn[i]] for i in kept}
        for number in range(max(map(len, lines.values()))):
            cells = {i: lines[i][number] if number < len(lines[i]) else Text() for i in kept}
            _print_row(out, [_aligned(cells[i], columns[i], widths[i]) for i in kept])


def _plain(columns: Sequence[Column], row: Sequence[Cell], widths: Mapping[int, int], *, fancy: bool) -> str:
    cells = []
    for index, width in widths.items():
        cell = row[index]
        drawn = cell.text if cell.percent is None else f"{''.join(bar(cell.percent, BAR_WIDTH, fancy=fancy))} {cell.text}"
        padding = " " * (width - cell_len(drawn))
        cells.append(padding + drawn if columns[index].right else drawn + padding)
    return GAP.join(cells).rstrip() + "\n"


def _total(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], kept: Sequence[int], bar_width: int) -> int:
    widths = ((columns[i], _width(columns[i], [row[i] for row in rows], bar_width)) for i in kept)
    return sum((min(width, WRAPPED_WIDTH) if column.wraps else width) + len(GAP) for column, width in widths) - len(GAP)


def _has_bar(rows: Sequence[Sequence[Cell]]) -> bool:
    return any(cell.percent is not None for row in rows for cell in row)


def _width(column: Column, cells: Sequence[Cell], bar_width: int) -> int:
    lengths = (cell_len(cell.text) + (bar_width + 1 if cell.percent is not None else 0) for cell in cells)
    return max([cell_len(column.title), *lengths])


def _drawn(cell: Cell, bar_width: int, *, fancy: bool) -> Text:
    text = Text(cell.text, style=STYLES[cell.style])
    if cell.percent is None:
        return text
    full, empty = bar(cell.percent, bar_width, fancy=fancy)
    style = STYLES["full" if cell.percent >= 95 else "busy" if cell.percent >= 80 else "good"]
    return Text.assemble((full, style), (empty, STYLES["dim"]), " ", text)


def bar(percent: int, width: int, *, fancy: bool) -> tuple[str, str]:
    """The full and the empty part. Something used is never drawn as nothing, nor something free as full."""
    full = min(width, max(0, round(percent * width / 100)))
    full = max(full, 1) if percent > 0 else full
    full = min(full, width - 1) if percent < 100 else full
    return ("█" * full, "░" * (width - full)) if fancy else ("#" * full, "." * (width - full))


def _aligned(text: Text, column: Column, width: int) -> Text:
    padding = " " * (width - text.cell_len)
    return Text.assemble(padding, text) if column.right else Text.assemble(text, padding)


def _print_row(out: Console, cells: Sequence[Text]) -> None:
    line = Text(GAP).join(cells)
    line.rstrip()
    out.print(line)


def _speaks_unicode(out: Console) -> bool:
    return out.encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def print_wrapped(out: Console, text: str, indent: str = "", style: str = "") -> None:
    """A paragraph, wrapped on a terminal, one line where it is piped."""
    width = terminal_width(out)
    for line in Text(text).wrap(out, width - len(indent)) if width else [Text(text)]:
        out.print(Text(indent).append(line.plain.rstrip(), style=STYLES[style]))


def print_document(kind: str, content: Mapping[str, Any], output: str) -> None:
    """One JSON or YAML document with apiVersion and kind."""
    document = {"apiVersion": names.CLI_API_VERSION, "kind": kind, **as_json(content)}
    if output == "json":
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


def as_json(value: Any) -> Any:
    """Values of ours in the API's manner: camelCase keys, CIDRs as text, times in RFC 3339."""
    if isinstance(value, Prefix):
        return str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {camel(f.name): as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def camel(name: str) -> str:
    """`in_use` → `inUse`."""
    return re.sub(r"_(\w)", lambda found: found[1].upper(), name)


def output_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-o table|json|yaml`."""
    choice = click.Choice(["table", "json", "yaml"])
    text = f"A table for people, or a document of {names.CLI_API_VERSION} for programs."
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help=text)(command)
