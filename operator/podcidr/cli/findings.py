"""What `check` can find, as values, and what a person should do about each."""

from collections.abc import Mapping
from dataclasses import dataclass

TITLES: Mapping[int, str] = {
    1: "no two live attachments hold one address",
    2: "a block is in one NodeCIDR at most, and its IPBlock names that node",
    3: "listed blocks overlap neither each other nor a quarantined one",
    4: "every block lies inside its pool, or is an orphan",
    5: "a block leaves a node only when it is reported empty",
    6: "no block is handed out before its quarantine ended",
    7: "every address in use lies in a block of its node",
}
"""The invariants of the design, by their numbers."""

IN_TESTS_ONLY: Mapping[int, str] = dict.fromkeys((5, 6), "about what happens over time: proved by tests and simulation")

REMEDIES: Mapping[int, str] = {
    1: "delete the younger pod (its traffic is at risk now), then look for what assigned the address outside podcidr",
    2: "the operator drains a block that two nodes hold and adopts one without IPBlock; see that it runs, and do not edit either by hand",
    3: "the operator freezes these blocks; take the smaller one's pods away (kubectl drain NODE), and correct the pools that overlap",
    4: "drain the node that holds it (kubectl drain NODE); IPBlocks are the operator's: do not create them by hand",
    7: "restart the pod, so that it gets an address of its node's blocks; if it comes back, look at the agent's log on that node",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken invariant."""

    invariant: int
    words: str
    objects: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """What to do next."""
        return REMEDIES[self.invariant]


@dataclass(frozen=True, slots=True)
class Note:
    """Worth a look, but no violation."""

    topic: str
    words: str
    objects: tuple[str, ...] = ()
    is_warning: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """On what an invariant was checked. Nothing to check it on is not the same as no violation."""

    invariant: int
    checked: Mapping[str, int]
    not_checked: str = ""


@dataclass(frozen=True)
class Findings:
    """The whole answer of `check`."""

    violations: tuple[Finding, ...]
    notes: tuple[Note, ...]
    proofs: tuple[Proof, ...]
    counts: Mapping[str, int]

    @property
    def unproved(self) -> tuple[int, ...]:
        """Invariants that this command could check, but had nothing to check on."""
        return tuple(proof.invariant for proof in self.proofs if proof.not_checked and proof.invariant not in IN_TESTS_ONLY)

    def confirmed(self, earlier: "Findings") -> "Findings":
        """Without the violations that an earlier look did not show: lists of two kinds are never in step."""
        both = tuple(violation for violation in self.violations if violation in earlier.violations)
        return Findings(both, self.notes, self.proofs, self.counts)
