"""Who has addresses of a pool, whose pods they are, and how each is restarted without breaking a PodDisruptionBudget: pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from podcidr.cli.connect import Object
from podcidr.core.errors import PodcidrError
from podcidr.core.selectors import LabelSelector

ROLLS_OUT = ("Deployment", "StatefulSet", "DaemonSet")
SHOWN_PODS = 5
Owner = tuple[str, str]
"""Kind and name of what makes the pod again; both empty: nobody does."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget, as it stands now."""

    namespace: str
    name: str
    selector: LabelSelector | None
    """None: it selects nothing (an absent selector), or can't be understood."""
    allowed: int

    def covers(self, pod: Object) -> bool:
        """Whether it speaks of the pod."""
        meta = pod["metadata"]
        return meta["namespace"] == self.namespace and self.selector is not None and self.selector.matches(meta.get("labels") or {})


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods of one owner that still have addresses of the pool, and the commands that restart them."""

    namespace: str
    kind: str
    name: str
    pods: tuple[str, ...]
    commands: tuple[str, ...]
    budgets: tuple[str, ...] = ()
    allowed: int | None = None
    """Disruptions that its budgets allow now; None: it has none."""
    note: str = ""

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Whom no budget guards first, then by how much budgets allow; whom nobody makes again, last."""
        group = 3 if not self.kind else 0 if self.allowed is None else 1 if self.allowed else 2
        return group, -(self.allowed or 0), self.namespace, self.name


def budget(obj: Object) -> Budget:
    """A PodDisruptionBudget of the API."""
    meta, selector = obj["metadata"], obj.get("spec", {}).get("selector")
    try:
        parsed = None if selector is None else LabelSelector.parse(selector)
    except PodcidrError:
        parsed = None
    return Budget(meta["namespace"], meta["name"], parsed, obj.get("status", {}).get("disruptionsAllowed", 0))


def workloads(pods: Iterable[Object], owner_of: Callable[[Object], Owner], budgets: Sequence[Budget]) -> list[Workload]:
    """By owner, in the order in which to restart them."""
    grouped: Mapping[tuple[str, Owner], list[Object]] = defaultdict(list)
    for pod in pods:
        grouped[pod["metadata"]["namespace"], owner_of(pod)].append(pod)
    found = [_workload(namespace, owner, group, budgets) for (namespace, owner), group in grouped.items()]
    return sorted(found, key=lambda workload: workload.rank)


def _workload(namespace: str, owner: Owner, pods: Sequence[Object], budgets: Sequence[Budget]) -> Workload:
    kind, name = owner
    guards = [one for one in budgets if any(one.covers(pod) for pod in pods)]
    allowed = min((one.allowed for one in guards), default=None)
    names = tuple(sorted(pod["metadata"]["name"] for pod in pods))
    commands = _commands(namespace, kind, name, names, guarded=bool(guards))
    return Workload(
        namespace, kind, name or names[0], names, commands, tuple(one.name for one in guards), allowed, _note(kind, guards, allowed)
    )


def _commands(namespace: str, kind: str, name: str, pods: Sequence[str], *, guarded: bool) -> tuple[str, ...]:
    """A rollout where there is one; else pod by pod, by eviction where a budget has to be asked."""
    if kind in ROLLS_OUT:
        return (f"kubectl -n {namespace} rollout restart {kind.lower()}/{name}",)
    if not guarded:
        return tuple(f"kubectl -n {namespace} delete pod {pod}" for pod in pods)
    return tuple(f"{_eviction(pod)} | kubectl create --raw /api/v1/namespaces/{namespace}/pods/{pod}/eviction -f -" for pod in pods)


def _eviction(pod: str) -> str:
    return f"""echo '{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}"}}}}'"""


def _note(kind: str, guards: Sequence[Budget], allowed: int | None) -> str:
    notes = []
    if not kind:
        notes.append("nothing makes it again: create it anew yourself")
    elif kind == "Node":
        notes.append("a static pod: move its manifest out of the node's folder and back")
    elif kind == "Job":
        notes.append("it ends by itself; deleted, its Job starts it anew")
    if guards:
        names = ", ".join(one.name for one in guards)
        if allowed:
            notes.append(f"PodDisruptionBudget {names} allows {allowed} now: wait for each to be ready before the next of this budget")
        else:
            notes.append(f"PodDisruptionBudget {names} allows none now: wait until it does (kubectl get poddisruptionbudgets -A)")
    return "; ".join(notes)
