"""The files in namespaces/: what each namespace may use, resolved from its pin and the pools' selectors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from podcidr import files
from podcidr.agent.observed import NamespaceSeen, PoolSeen
from podcidr.agent.statedir import StateDir
from podcidr.core.pins import Resolution, resolve


class NamespaceFiles:
    """Resolves and writes; touches only files whose content changes."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._written: dict[str, Resolution | None] = {}  # None: a file is there whose content is not ours
        self._stamps: dict[str, int | None] = {}
        self._due: set[str] = set()  # names whose file differs from what is resolved
        self.resolved: dict[str, Resolution] = {}

    def load(self, state_id: str) -> None:
        """Learn what an earlier agent wrote."""
        for path in self._state.namespaces.iterdir():
            if not path.name.startswith("."):
                self._learn(path, state_id)

    def verify(self, state_id: str) -> bool:
        """Look whether the files are as they were written; what is not becomes due. Returns whether any is not."""
        before = set(self._due)
        found = {path.name: path for path in self._state.namespaces.iterdir() if not path.name.startswith(".")}
        for name in self._written.keys() - found.keys():
            del self._written[name]
            self._due.add(name)
        for name, path in found.items():
            if name not in self._written or self._state.stamp(path) != self._stamps.get(name):
                self._learn(path, state_id)
                if self._written[name] != self.resolved.get(name) or self._written[name] is None:
                    self._due.add(name)
        return self._due != before

    def _learn(self, path: Path, state_id: str) -> None:
        self._stamps[path.name] = self._state.stamp(path)
        self._written[path.name] = _read(path, state_id)

    def update(
        self,
        names: Iterable[str] | None,
        namespaces: Mapping[str, NamespaceSeen],
        pools: Mapping[str, PoolSeen],
        automatic: tuple[str, ...],
    ) -> None:
        """Resolve the named namespaces anew, or all (None): after a change of a pool or of the automatic list."""
        if names is None:
            names = namespaces.keys() | self.resolved.keys() | self._written.keys()
        rules = {name: seen.rule for name, seen in pools.items()}
        for name in names:
            seen = namespaces.get(name)
            wanted = resolve(name, seen.annotations, seen.labels, rules, automatic) if seen else None
            if wanted is None:
                self.resolved.pop(name, None)
            else:
                self.resolved[name] = wanted
            if name not in self._written or self._written[name] != wanted or wanted is None:
                self._due.add(name)

    def restrict(self, published: Iterable[str], state_id: str) -> None:
        """Before the allocation file: errors, and lists of pools that are published already.

        So a namespace that lost a pool, or never may use a new automatic one, is told before that pool is offered.
        """
        known = set(published)
        for name in sorted(self._due & self.resolved.keys()):
            resolution = self.resolved[name]
            if resolution.error or (resolution.pools is not None and known.issuperset(resolution.pools)):
                self._write(name, resolution, state_id)

    def complete(self, state_id: str) -> None:
        """After the allocation file: everything else, and the files of namespaces that are gone."""
        for name in sorted(self._due):
            if name in self.resolved:
                self._write(name, self.resolved[name], state_id)
            else:
                self._state.remove(self._state.namespaces / name)
                self._written.pop(name, None)
                self._stamps.pop(name, None)
                self._due.discard(name)

    def _write(self, name: str, resolution: Resolution, state_id: str) -> None:
        document: dict[str, object] = {"stateID": state_id}
        if resolution.error is not None:
            document["error"] = resolution.error
        elif resolution.pools is not None:
            document["pools"] = resolution.pools
        path = self._state.namespaces / name
        self._state.replace(path, document)
        self._stamps[name] = self._state.stamp(path)
        self._written[name] = resolution
        self._due.discard(name)


def _read(path: Path, state_id: str) -> Resolution | None:
    try:
        found = files.document(path)
        if found["stateID"] != state_id:
            return None
        pools = found.get("pools")
        return Resolution(None if pools is None else tuple(pools), found.get("error"))
    except (files.Damaged, FileNotFoundError, *files.MALFORMED):
        return None
