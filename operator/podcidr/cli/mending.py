"""`check --repair` from question to report: who does what, and what is left."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import click
from rich.console import Console

from podcidr.cli.acting import mend
from podcidr.cli.asking import may_go_on
from podcidr.cli.connect import Api
from podcidr.cli.findings import Findings
from podcidr.cli.forecast import memory_of
from podcidr.cli.output import print_wrapped
from podcidr.cli.reading import Reading, read
from podcidr.cli.repair import Held, Untouched, all_repairs, untouched
from podcidr.cli.scene import Leader, read_leader
from podcidr.cli.statedirs import StateDir
from podcidr.core.actions import Action, BlockAction

WAIT_SECONDS = 30.0
EVERY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Step:
    """One repair. `by`: this command, or the operator that leads; `refused`: what the API server said to it."""

    action: str
    node: str
    block: str
    reason: str
    by: str
    refused: str = ""


@dataclass(frozen=True)
class Mending:
    """All steps and what stays as it is."""

    steps: tuple[Step, ...] = ()
    pending: tuple[Step, ...] = ()
    """What the operator that leads had not done when the wait ended."""
    rest: tuple[Untouched, ...] = ()

    def with_rest(self, reading: Reading, findings: Findings) -> "Mending":
        """What the check after the repair still finds."""
        return replace(self, rest=tuple(untouched(reading, findings.violations)))

    def document(self) -> dict[str, object]:
        """For programs."""
        return {"steps": self.steps, "pending": self.pending, "untouched": self.rest}


def repair_ledger(api: Api, dirs: Sequence[StateDir], *, yes: bool) -> Mending:
    """Say what would be done, ask, do it."""
    leader, _ = read_leader(api)
    reading = read(api, with_pods=True)
    held = list(held_addresses(reading, dirs))
    planned, lost = _repairs(reading, held)
    if not (planned or lost):
        return Mending()
    leads = leader is not None and leader.leads(reading.at)
    for step in _steps(planned, _doer(leader, leads=leads)) + _steps(lost, "this command"):
        click.echo(f"repair: {step.action} {step.block} of node {step.node}: {step.reason} (by {step.by})", err=True)
    if not may_go_on("Do it?", yes=yes):
        raise click.Abort
    mended = mend(api.credentials(), held, planned_too=not leads)
    steps = _steps(mended.done, "this command")
    steps += [replace(step, refused=why) for (action, why) in mended.refused for step in _steps([action], "this command")]
    waiting = _wait_for_operator(api) if leads and planned else []
    done_by_operator = [action for action in planned if action not in waiting] if leads else []
    return Mending((*steps, *_steps(done_by_operator, _doer(leader, leads=leads))), tuple(_steps(waiting, _doer(leader, leads=leads))))


def _doer(leader: Leader | None, *, leads: bool) -> str:
    return f"operator {leader.holder}" if leader and leads else "this command"


def held_addresses(reading: Reading, dirs: Sequence[StateDir]) -> Iterator[Held]:
    """By pods, and by attachments on disk."""
    for pod in reading.pods or ():
        for address in pod.addresses:
            yield Held(pod.node, address, str(pod))
    for directory in dirs:
        for attachment in directory.attachments:
            if directory.node:
                yield Held(directory.node, attachment.address, str(attachment))


def _repairs(reading: Reading, held: Sequence[Held]) -> tuple[list[Action], list[Action]]:
    now = reading.at.timestamp()
    snapshot = replace(reading.snapshot, memory=memory_of(reading.snapshot, now, settled=False, confirmed=frozenset()))
    planned, lost = all_repairs(snapshot, now, held)
    return planned, list(lost)


def _steps(actions: Iterable[Action], by: str) -> list[Step]:
    return [
        Step(type(action).__name__, action.node, str(action.prefix) if isinstance(action, BlockAction) else "", action.reason, by)
        for action in actions
    ]


def _wait_for_operator(api: Api) -> list[Action]:
    """Until it has done its part, or long enough; what is left of it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        planned, _ = _repairs(read(api, with_pods=False), [])
        if not planned or time.monotonic() >= deadline:
            return planned
        time.sleep(EVERY_SECONDS)


def print_mending(out: Console, mending: Mending) -> None:
    """After the findings."""
    out.print()
    for step in mending.steps:
        words = f"refused ({step.refused})" if step.refused else f"done by {step.by}"
        print_wrapped(out, f"repair: {step.action} {step.block} of node {step.node}: {words}", style="busy" if step.refused else "good")
    for step in mending.pending:
        words = "the operator leads but has not done it yet: its log says why (it waits for reports, or is refused)"
        print_wrapped(out, f"repair: {step.action} {step.block} of node {step.node}: {words}", style="busy")
    for one in mending.rest:
        print_wrapped(out, f"left alone: {one.what}", style="busy")
        print_wrapped(out, f"because: {one.why}", "  ")
        print_wrapped(out, f"do: {one.remedy}", "  ")
    done = sum(not step.refused for step in mending.steps)
    print_wrapped(out, f"repair: {done} done, {len(mending.pending)} pending, {len(mending.rest)} left alone", style="heading")
