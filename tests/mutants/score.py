"""python -m tests.mutants.score [--every N] [--again] [--workers N]: mutants that mutmut makes of the core, and how many a test kills.

mutmut runs in a copy below `build/mutation`, in two passes: first on a short form of the twin, then what survived on the
whole of it. `--every 4` draws one in four, the same ones each time. Exit 0; 2: mutmut did not run to its end.
What survives is printed; docs/verification.md says what it is.
"""

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

from tests.mutants.mutant import ROOT

TREE = ROOT / "build" / "mutation"
SHORT = 300
SEEDS = re.compile(r"^SEEDS = (\S+)$", re.MULTILINE)
CHECKS = ["tests/unit/core", "tests/property/test_twin.py"]
CONFIG = f"""
[tool.mutmut]
source_paths = ["src/"]
only_mutate = ["src/podcidr/core/*"]
also_copy = ["tests/", "tools/", "pyproject.toml"]
track_dependencies = false
timeout_multiplier = 10.0
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-profile=broken"]
pytest_add_cli_args_test_selection = {json.dumps(CHECKS)}
"""
FIRST = "podcidr.core.errors.*"
KILLED = {1: "killed", 3: "killed", 0: "survived", 33: "no test"}
"""pytest's status by mutmut's notes; all else is a mutant that did not end, or took the interpreter with it."""


def undecorated(source: str) -> str:
    """The same without `@property` and caches: mutmut passes decorated functions by, and a cache would keep what was before the mutant."""
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):
        if node.name.startswith("_") and any("cached" in ast.unparse(decorator) for decorator in node.decorator_list):
            continue  # a memo: without its cache there is nothing
        words = {ast.unparse(decorator).partition("(")[0]: decorator.lineno for decorator in node.decorator_list}
        if words.keys() & {"property", "cached_property"}:
            spaces = " " * node.col_offset
            lines.insert(node.end_lineno or 0, f"{spaces}{node.name} = property(get_{node.name})")
            lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"def {node.name}(", f"def get_{node.name}(")
        for word in words.keys() & {"property", "cached_property", "lru_cache"}:
            del lines[words[word] - 1]
    return "\n".join(lines) + "\n"


def prepare() -> None:
    """A tree as mutmut wants it: sources in `src`."""
    shutil.rmtree(TREE, ignore_errors=True)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "operator" / "podcidr", TREE / "src" / "podcidr", ignore=unwanted)
    for folder in ("tests", "tools"):
        shutil.copytree(ROOT / folder, TREE / folder, ignore=unwanted)
    for file in (TREE / "src" / "podcidr" / "core").glob("*.py"):
        file.write_text(undecorated(file.read_text()))
    project = (ROOT / "pyproject.toml").read_text().replace('pythonpath = ["operator", "."]', 'pythonpath = ["src", "."]')
    (TREE / "pyproject.toml").write_text(project + CONFIG)


def twin_of(seeds: str) -> None:
    """Let the twin look at so many snapshots."""
    file = TREE / "tests" / "property" / "test_twin.py"
    file.write_text(SEEDS.sub(f"SEEDS = {seeds}", file.read_text()))


def mutmut(workers: int, *names: str) -> None:
    """Judge these mutants."""
    if not names:  # to mutmut it would mean all
        return
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONHASHSEED": "0"}
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(workers), *names]
    if subprocess.run(command, cwd=TREE, env=environment, stdin=subprocess.DEVNULL, check=False).returncode:
        sys.exit(2)


def verdicts() -> dict[str, str]:
    """Each mutant and what became of it."""
    notes = [json.loads(file.read_text()) for file in sorted((TREE / "mutants" / "src" / "podcidr" / "core").glob("*.meta"))]
    codes = {name: code for note in notes for name, code in note["exit_code_by_key"].items()}
    return {name: "not drawn" if code is None else KILLED.get(code, "timeout") for name, code in codes.items()}


def alive(found: dict[str, str]) -> list[str]:
    """Those that no test noticed."""
    return [name for name, verdict in found.items() if verdict in ("survived", "no test")]


def drawn(every: int) -> list[str]:
    """One in so many of those that are not judged yet."""
    left = sorted(name for name, verdict in verdicts().items() if verdict == "not drawn")
    return Random(0).sample(left, len(left) // every)


def difference(name: str) -> str:
    """What the mutant changes, two lines."""
    command = [str(Path(sys.executable).with_name("mutmut")), "show", name]
    said = subprocess.run(command, cwd=TREE, text=True, capture_output=True, check=False).stdout
    return "\n".join(line for line in said.splitlines() if re.match(r"[-+](?![-+])", line))


def table(found: dict[str, str]) -> str:
    """Counts by module, as Markdown."""
    rows: dict[str, Counter[str]] = {}
    for name, verdict in found.items():
        rows.setdefault(name.split(".")[2], Counter())[verdict] += 1
    rows["all"] = Counter(found.values())
    lines = ["| module | mutants tried | killed | timed out | survived | killed % |", "|---|---|---|---|---|---|"]
    for module, counts in rows.items():
        left = counts["survived"] + counts["no test"]
        if tried := counts["killed"] + counts["timeout"] + left:
            lines.append(f"| {module} | {tried} | {counts['killed']} | {counts['timeout']} | {left} | {100 - 100 * left / tried:.1f} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.score")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only one mutant in so many (default: all)")
    parser.add_argument("--again", action="store_true", help="only what survived the run before, on the tests as they are now")
    parser.add_argument("--workers", type=int, default=2, help="mutants side by side (default: 2)")
    options = parser.parse_args(argv)
    whole = SEEDS.search((ROOT / CHECKS[1]).read_text())
    assert whole, f"{CHECKS[1]} has no line SEEDS = n"
    if not options.again:
        prepare()
        twin_of(str(SHORT))
        mutmut(options.workers, FIRST)  # all are made, these are judged
        mutmut(options.workers, *drawn(options.every))
    else:
        shutil.copytree(ROOT / "tests", TREE / "tests", dirs_exist_ok=True)
    twin_of(whole[1])
    mutmut(options.workers, *alive(verdicts()))
    found = verdicts()
    for name in alive(found):
        print(f"== {name}\n{difference(name)}")
    print(f"\n{table(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
