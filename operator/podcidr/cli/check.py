"""`podcidr check`: are the invariants kept? Exit status 1 if one is broken."""

import time
from collections.abc import Sequence

import click
from rich.console import Console

from podcidr.cli.connect import Api
from podcidr.cli.findings import IN_TESTS_ONLY, TITLES, Findings, Proof
from podcidr.cli.judge import judge
from podcidr.cli.mending import print_mending, repair_ledger
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import console, output_option, print_document, print_wrapped
from podcidr.cli.reading import read
from podcidr.cli.statedirs import read_state_dirs

EXIT_VIOLATIONS = 1
NOTES_A_TOPIC = 10


@click.command("check")
@click.option(
    "--state-dir", "state_dirs", metavar="DIR", multiple=True, type=click.Path(exists=True, file_okay=False),
    help="A node's state directory (/run/podcidr there): checks the attachments on disk too. May be given several times.",
)  # fmt: skip
@click.option(
    "--confirm-seconds", metavar="SECONDS", type=click.FloatRange(0), default=1.0, show_default=True,
    help="A violation is reported only if a second look, this long after the first, shows it too.",
)  # fmt: skip
@click.option("--repair", is_flag=True, help="Mend the ledger where that is safe: say what would be done, ask, do it, and check again.")
@click.option("--yes", is_flag=True, help="With --repair: do it without asking.")
@output_option
@connection_options
def check(state_dirs: tuple[str, ...], confirm_seconds: float, repair: bool, yes: bool, output: str) -> int:  # noqa: FBT001, RUF100 - click calls it
    """Check that no address is or can become used twice.

    Looks at pools, nodes, NodeCIDRs, IPBlocks and pods, and with --state-dir at attachments on disk; changes nothing. Says for each
    invariant how many objects it was checked on; one that had nothing to be checked on is "not checked".

    The API server's lists of two kinds are never of the same instant, so a block on its way can look wrong for a moment. What
    looks wrong is read again after --confirm-seconds, and only what still does is a violation.

    Warnings (orphans, silent agents, pools that are not accepted, addresses of nodes inside a pool) do not change the exit status.

    --repair adopts what the ledger has lost (a listed block without IPBlock, use that no list shows, addresses of pods whose agent is
    silent) and releases what nobody holds (claims in no list, orphans that are reported empty). Where an operator leads, it does its part
    itself and the command waits for it. Everything else is left alone, and the report says why and what you can do.

    \b
    Exit status: 0 no violation, 1 violations, 2 wrong usage, 3 API not reachable, or it refuses this account.
    Examples:
      podcidr check
      podcidr check --state-dir /run/podcidr      # on a node
      podcidr check --repair
      podcidr check -o json
    """
    if yes and not repair:
        raise click.UsageError("--yes answers what --repair asks: give both, or neither")
    api = connect()
    findings = _confirmed(api, state_dirs, confirm_seconds)
    mending = None
    if repair:
        mending = repair_ledger(api, read_state_dirs(state_dirs), yes=yes)
        findings = _confirmed(api, state_dirs, confirm_seconds)
        mending = mending.with_rest(read(api, with_pods=False), findings)
    if output == "table":
        _print(console(), findings)
        if mending:
            print_mending(console(), mending)
    else:
        print_document("CheckReport", _document(findings) | ({"repair": mending.document()} if mending else {}), output)
    return EXIT_VIOLATIONS if findings.violations else 0


def _confirmed(api: Api, state_dirs: Sequence[str], confirm_seconds: float) -> Findings:
    """The disk is read before the API: the block of an attachment seen was listed already, and stays until that is gone."""

    def look() -> Findings:
        dirs = read_state_dirs(state_dirs)
        return judge(read(api, with_pods=True), dirs)

    first = look()
    if not first.violations:
        return first
    time.sleep(confirm_seconds)
    return look().confirmed(first)


def _print(out: Console, findings: Findings) -> None:
    for proof in findings.proofs:
        print_wrapped(out, _proof_line(proof, findings), style=_proof_style(proof, findings))
    for finding in findings.violations:
        out.print()
        print_wrapped(out, f"VIOLATION of invariant {finding.invariant}: {finding.words}", style="full")
        print_wrapped(out, f"objects: {', '.join(finding.objects)}", "  ")
        print_wrapped(out, f"do: {finding.remedy}", "  ")
    _print_notes(out, findings)
    out.print()
    print_wrapped(out, last_line(findings), style="full" if findings.violations else "heading")


def _proof_line(proof: Proof, findings: Findings) -> str:
    title = f"{proof.invariant}  {TITLES[proof.invariant]}"
    if proof.not_checked:
        return f"{title}: not checked: {proof.not_checked}"
    broken = sum(finding.invariant == proof.invariant for finding in findings.violations)
    result = f"BROKEN × {broken}" if broken else "ok"
    return f"{title}: {result} ({_counted(proof)})"


def _counted(proof: Proof) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in proof.checked.items() if count)


def _proof_style(proof: Proof, findings: Findings) -> str:
    if any(finding.invariant == proof.invariant for finding in findings.violations):
        return "full"
    return "dim" if proof.invariant in IN_TESTS_ONLY else "busy" if proof.not_checked else ""


def _print_notes(out: Console, findings: Findings) -> None:
    shown: dict[str, int] = {}
    for note in findings.notes:
        shown[note.topic] = number = shown.get(note.topic, 0) + 1
        if number == 1 and len(shown) == 1:
            out.print()
        if number <= NOTES_A_TOPIC:
            kind = "warning" if note.is_warning else "note"
            print_wrapped(out, f"{kind}: {note.topic}: {note.words}", style="busy" if note.is_warning else "dim")
    for topic, count in shown.items():
        if count > NOTES_A_TOPIC:
            print_wrapped(out, f"… and {count - NOTES_A_TOPIC} more of {topic}: podcidr check -o json", style="dim")


def last_line(findings: Findings) -> str:
    """The verdict and what it rests on; a check of nothing is none."""
    counts = ", ".join(f"{count:,} {what}" for what, count in findings.counts.items())
    checkable = len(TITLES) - len(IN_TESTS_ONLY)
    if len(findings.unproved) == checkable:
        return f"check: nothing to check ({counts})"
    unproved = f"; not checked: {', '.join(map(str, findings.unproved))}" if findings.unproved else ""
    number = len(findings.violations)
    return f"check: {number} violation{'' if number == 1 else 's'} ({counts}{unproved})"


def _document(findings: Findings) -> dict[str, object]:
    return {
        "summary": last_line(findings),
        "violations": [
            {"invariant": f.invariant, "title": TITLES[f.invariant], "message": f.words, "objects": f.objects, "remedy": f.remedy}
            for f in findings.violations
        ],
        "invariants": [
            {
                "invariant": proof.invariant,
                "title": TITLES[proof.invariant],
                "checked": not proof.not_checked,
                "objects": proof.checked,
                "notCheckedBecause": proof.not_checked,
            }
            for proof in findings.proofs
        ],
        "notes": [
            {"severity": "warning" if n.is_warning else "info", "topic": n.topic, "message": n.words, "objects": n.objects}
            for n in findings.notes
        ],
        "counts": findings.counts,
    }
