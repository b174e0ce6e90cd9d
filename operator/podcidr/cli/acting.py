"""Carries repairs out as an operator does: the same Adopt and Leave, through the same patches that test uid and epoch.

It holds no Lease, and needs none: whatever another operator does at the same time, of two writers the second is refused.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from podcidr.api import names
from podcidr.cli.connect import Unreachable
from podcidr.cli.forecast import memory_of
from podcidr.cli.repair import Held, all_repairs
from podcidr.core.actions import Action
from podcidr.core.model import Memory, Snapshot
from podcidr.core.plan import plan
from podcidr.core.prefix import Prefix
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.kube.credentials import Credentials
from podcidr.kube.errors import KubeError
from podcidr.kube.transport import AiohttpTransport
from podcidr.reconcile.apply import Applier, Doubt
from podcidr.reconcile.observed import Observed
from podcidr.reconcile.writes import Writes

ROUNDS = 10
CONFIRM_SECONDS = 1.0
LOST_NODE_SECONDS = 600.0


@dataclass
class Mended:
    """What was done, and what the API server refused."""

    done: list[Action] = field(default_factory=list)
    refused: list[tuple[Action, str]] = field(default_factory=list)


def mend(credentials: Credentials, held: Sequence[Held], *, planned_too: bool) -> Mended:
    """Round after round until nothing is left to do, or nothing works. `planned_too`: no operator leads that would do its part."""
    return asyncio.run(_mend(credentials, held, planned_too=planned_too))


async def _mend(credentials: Credentials, held: Sequence[Held], *, planned_too: bool) -> Mended:
    clock = SystemClock()
    client = KubeClient(AiohttpTransport(credentials, user_agent=names.MANAGER_CLI), clock, program=names.MANAGER_CLI)
    try:
        observed = Observed(client, clock, lambda: None)
        applier, mended = Applier(Writes(client, clock, observed)), Mended()
        confirmed = await _confirmed(observed) if planned_too else frozenset()
        for _ in range(ROUNDS):
            await observed.relist()
            snapshot = _snapshot(observed, confirmed)
            planned, lost = all_repairs(snapshot, clock.wall().timestamp(), held)
            outcome = await applier.apply([*planned, *lost] if planned_too else lost, snapshot)
            mended.done += outcome.done
            mended.refused += outcome.refused
            if not outcome.done:
                return mended
        return mended
    except (KubeError, Doubt) as error:
        raise Unreachable(f"the repair was broken off: {error}; run it again, it goes on from what it finds") from error
    finally:
        await client.close()


async def _confirmed(observed: Observed) -> frozenset[Prefix]:
    """Lists of two kinds are never of one instant: what looks wrong is believed when a second look shows it too."""
    found: list[frozenset[Prefix]] = []
    for pause_seconds in (0.0, CONFIRM_SECONDS):
        await asyncio.sleep(pause_seconds)
        await observed.relist()
        suspects = plan(_snapshot(observed, frozenset()), 0.0).suspects
        found.append(frozenset(prefix for violation in suspects for prefix in violation.prefixes))
        if not found[0]:
            break
    return found[0] & found[-1]


def _snapshot(observed: Observed, confirmed: frozenset[Prefix]) -> Snapshot:
    snapshot = observed.snapshot(Memory(), None, LOST_NODE_SECONDS)
    now = SystemClock().wall().timestamp()
    return replace(snapshot, memory=memory_of(snapshot, now, settled=False, confirmed=confirmed))
