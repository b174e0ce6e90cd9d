"""Asking before a command changes anything."""

import sys
from collections.abc import Callable
from typing import Any

import click


def acting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--dry-run` and `--yes`."""
    dry = click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
    yes = click.option("--yes", is_flag=True, help="Do it without asking.")
    return dry(yes(command))


def may_go_on(question: str, *, yes: bool) -> bool:
    """The person's word. Where nobody can be asked, only --yes is one."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here (standard input is no terminal): add --yes to do it, or --dry-run to see what")
    return click.confirm(question, default=False, err=True)
