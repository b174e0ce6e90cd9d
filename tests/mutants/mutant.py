"""What a mutant is, and what a check is."""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


@dataclass(frozen=True, slots=True)
class Check:
    """A command that fails with status 1 if the tree is broken. `folder`: where it runs."""

    name: str
    command: tuple[str, ...]
    folder: str = "."

    @property
    def clean(self) -> tuple[str, ...]:
        """The same without the simulation's own switch."""
        return self.command[: self.command.index("--mutant")] if "--mutant" in self.command else self.command


@dataclass(frozen=True, slots=True)
class Mutant:
    """One deliberate bug: `old` stands once in `path` and becomes `new` (no path: the check's own switch). `checks`: the cheapest first."""

    name: str
    breaks: str
    path: str
    old: str
    new: str
    checks: tuple[Check, ...]

    def apply(self, root: Path) -> str:
        """Break the tree; returns the file as it was."""
        file = root / self.path
        whole = file.read_text()
        if (count := whole.count(self.old)) != 1:
            raise ValueError(f"mutant {self.name}: its text stands {count} times in {self.path}; it has to be once:\n{self.old}")
        file.write_text(whole.replace(self.old, self.new))
        return whole


def _pytest(name: str, *arguments: str) -> Check:
    return Check(name, (PYTHON, "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider", *arguments))


def unit(where: str) -> Check:
    """Unit tests of a folder, file or test of `tests/unit`."""
    return _pytest(f"unit {where}", f"tests/unit/{where}")


def law(where: str) -> Check:
    """Property tests: a file, or one law of it."""
    return _pytest(f"law {where}", "--hypothesis-profile=broken", f"tests/property/test_{where}")


def contract(where: str) -> Check:
    """On the real API server."""
    return _pytest(f"contract {where}", f"tests/contract/{where}")


def story(number: int) -> Check:
    """A story on the real API server."""
    return _pytest(f"story {number:02}", "tests/stories", "-k", f"{number:02}-")


def plugin(tests: str) -> Check:
    """Go tests of the plugin, by a regular expression of their names."""
    return Check(f"go {tests}", ("go", "test", "-count=1", "-failfast", "-run", f"^({tests})$", "."), "plugin")


def simulation(seeds: int = 100, switch: str | None = None) -> Check:
    """Operators, agents and plugin on virtual time, under faults. `switch`: one of its own mutants."""
    command = (PYTHON, "-m", "tests.simulation", "--seeds", str(seeds), "--workers", "1", "--no-shrink")
    return Check(f"simulation, {seeds} seeds", (*command, "--mutant", switch) if switch else command)
