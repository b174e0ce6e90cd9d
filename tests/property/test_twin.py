"""The planner against its golden twin, on snapshots that no cluster would ever reach."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from podcidr.core.model import Snapshot
from podcidr.core.plan import plan
from podcidr.core.prefix import parse_prefix
from tests.property import build
from tests.property.snapshots import NOW, Snapshots
from tests.property.twin import Twin

SEEDS = 1_500
KINDS = {"Claim", "Undrain", "Drain", "Leave", "Free", "Adopt", "CreateNodeCIDR", "SetPools", "RaiseEpoch", "DeleteNodeCIDR"}


def difference(snapshot: Snapshot, now: float) -> str | None:
    """Where planner and twin disagree."""
    real, twin = plan(snapshot, now), Twin(snapshot, now)
    words = [(kind, node, *map(parse_prefix, block)) for kind, node, *block in build.short(real)]
    for what, ours, theirs in [
        ("actions", Counter(words), Counter(twin.words)),
        ("targets", real.targets, twin.targets),
        ("pending", real.pending, twin.pending),
        ("scarce", real.scarce, twin.scarce),
    ]:
        if ours != theirs:
            return f"{what}: the planner has {ours}, the twin {theirs}"
    return None


def smaller(snapshot: Snapshot) -> Iterator[Snapshot]:
    """The same without one object, list entry or wish."""
    for kind in ("pools", "nodes", "nodecidrs", "blocks"):
        objects = getattr(snapshot, kind)
        for name in objects:
            fewer: Any = {kind: {other: value for other, value in objects.items() if other != name}}
            yield replace(snapshot, **fewer)
    for name, nodecidr in snapshot.nodecidrs.items():
        for entry in nodecidr.entries:
            shorter = replace(nodecidr, entries=tuple(other for other in nodecidr.entries if other != entry))
            yield replace(snapshot, nodecidrs={**snapshot.nodecidrs, name: shorter})
        for demand in nodecidr.report.demand if nodecidr.report else ():
            report = replace(nodecidr.report, demand=tuple(other for other in nodecidr.report.demand if other != demand))  # type: ignore[union-attr, type-var]
            yield replace(snapshot, nodecidrs={**snapshot.nodecidrs, name: replace(nodecidr, report=report)})


def smallest(snapshot: Snapshot, now: float) -> Snapshot:
    """Without all that is not needed for a difference."""
    for candidate in smaller(snapshot):
        try:
            if difference(candidate, now):
                return smallest(candidate, now)
        except KeyError:  # a pool that is needed
            continue
    return snapshot


def test_they_agree_on_anything() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        snapshot = Snapshots(seed).make()
        if found := difference(snapshot, NOW):
            least = smallest(snapshot, NOW)
            raise AssertionError(f"seed {seed}: {found}\n\nat least in: {difference(least, NOW)}\n{least}")
        decided = plan(snapshot, NOW)
        seen.update({type(action).__name__ for action in decided.actions})
        seen.update(scarcity=bool(decided.scarce), violation=bool(decided.suspects or decided.violations))
    assert KINDS | {"scarcity", "violation"} == {what for what, count in seen.items() if count >= SEEDS // 50}, seen
