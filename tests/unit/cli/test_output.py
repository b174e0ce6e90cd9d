"""Bars, tables in wide and narrow terminals and pipes, JSON."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.text import Text

from podcidr.cli.output import Cell, Column, as_json, bar, print_table
from podcidr.core.prefix import Family, parse_prefix

COLUMNS = (Column("NAME"), Column("USED"), Column("LEFT", 2, right=True), Column("KIND", 1), Column("WHY", wraps=True))
ROWS = [
    [Cell("a"), Cell(" 50 %", percent=50), Cell("1,000"), Cell("Automatic"), Cell("because of a long list of reasons that wrap")],
    [Cell("b", "full"), Cell("100 %", percent=100), Cell("0", "dim"), Cell("Pinned"), Cell("")],
]


@pytest.mark.parametrize(
    ("percent", "drawn"), [(0, "........"), (1, "#......."), (50, "####...."), (99, "#######."), (100, "########"), (140, "########")]
)
def test_a_bar_is_empty_or_full_only_if_that_is_true(percent: int, drawn: str) -> None:
    assert "".join(bar(percent, 8, fancy=False)) == drawn


def printed(width: int | None) -> list[str]:
    file = io.StringIO()
    if width:
        out = Console(file=file, width=width, force_terminal=True, color_system="standard", soft_wrap=True, _environ={"TERM": "xterm"})
    else:
        out = Console(file=file, soft_wrap=True, _environ={})
    print_table(out, COLUMNS, ROWS)
    return file.getvalue().splitlines()


def plain(lines: list[str]) -> list[str]:
    return [Text.from_ansi(line).plain for line in lines]


def test_piped_it_is_plain_and_whole() -> None:
    lines = printed(None)
    assert "\x1b" not in "".join(lines)
    assert lines[0] == "NAME  USED                         LEFT  KIND       WHY"
    assert lines[1].endswith(" 50 %  1,000  Automatic  because of a long list of reasons that wrap")
    assert lines[2] == lines[2].rstrip()
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (120, "NAME USED LEFT KIND WHY"),
        (70, "NAME USED LEFT KIND WHY"),
        (60, "NAME USED KIND WHY"),
        (50, "NAME USED WHY"),
        (30, "NAME USED WHY"),
    ],
)
def test_narrow_terminals_lose_the_least_important_columns(width: int, titles: str) -> None:
    lines = plain(printed(width))
    assert lines[0].split() == titles.split()
    assert max(map(len, lines)) <= width
    assert "reasons" in " ".join(lines), "what wraps is never cut"


def test_on_a_terminal_it_is_coloured() -> None:
    assert "\x1b[31m" in "".join(printed(100))


def test_json_speaks_like_the_api() -> None:
    row = {"cidr": parse_prefix("10.0.0.0/8"), "family": Family.IPV6, "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "all": (1, None)}
    assert as_json(row) == {"cidr": "10.0.0.0/8", "family": "ipv6", "at": "2026-01-02T03:04:05Z", "all": [1, None]}
