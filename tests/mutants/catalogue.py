"""All of them, and the few that every run of CI shows."""

from tests.mutants.agent import AGENT_MUTANTS
from tests.mutants.kube import CLIENT
from tests.mutants.mutant import Mutant, simulation
from tests.mutants.planner import PLANNER
from tests.mutants.plugin import PLUGIN_MUTANTS
from tests.mutants.writes import WRITES
from tests.simulation.mutants import MUTANTS as SWITCHES

RARE = frozenset(
    {
        "enter-without-test",
        "trust-a-report-of-another-uid",
        "go-back-an-epoch",
        "two-agents-at-once",
    }
)
"""They take a late message in a window of seconds, more than 60 seeds: of these the unit tests, the twin and the model are the proof."""
SIMULATED = tuple(
    Mutant(f"simulated:{name}", switch.__doc__ or "", "", "", "", (simulation(60, name),))
    for name, switch in SWITCHES.items()
    if name not in RARE
)
"""The simulation's own bugs, which it has to notice by itself."""
MUTANTS = (*PLANNER, *WRITES, *CLIENT, *AGENT_MUTANTS, *PLUGIN_MUTANTS, *SIMULATED)
QUICK = (
    "skip-quarantine",
    "leave-while-in-use",
    "leave-under-another-uid",
    "enter-what-another-attempt-claimed",
    "patch-without-epoch",
    "write-after-losing-the-lease",
    "go-back-an-epoch",
    "draining-stays-published",
)
