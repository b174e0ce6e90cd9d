"""What `explain` looks at: one reading, the operator's next round on it, and who leads."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from podcidr.api import names
from podcidr.cli.connect import Api, Object, Refused
from podcidr.cli.forecast import PlannedRow, assume
from podcidr.cli.reading import EPOCH, Reading, read
from podcidr.core.actions import Action, BlockAction, Claim, Undrain
from podcidr.core.life import DEFAULT_QUARANTINE_SECONDS
from podcidr.core.model import Block, NodeCIDR, Pool, Snapshot
from podcidr.core.plan import Round, decided, weigh
from podcidr.core.prefix import Prefix

LEASES = f"/apis/coordination.k8s.io/v1/leases?fieldSelector=metadata.name%3D{names.LEASE}"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who holds the operators' Lease, and since when nobody has heard of it."""

    holder: str
    renewed: datetime | None
    lease_seconds: float
    namespace: str = names.NAMESPACE

    def leads(self, now: datetime) -> bool:
        """Whether the Lease is still in force, as far as clocks agree."""
        return bool(self.holder and self.renewed and (now - self.renewed).total_seconds() < self.lease_seconds)


@dataclass(frozen=True)
class Explanation:
    """An answer in words: what is, why, what comes next by itself, and what a person can do."""

    subject: str
    verdict: str
    because: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    do: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """All of it. `round` is the next one of a leader that has just begun; `later` what one does that has waited long enough."""

    reading: Reading
    snapshot: Snapshot
    round: Round
    accepting: tuple[PlannedRow, ...]
    now_actions: tuple[Action, ...]
    later_actions: tuple[Action, ...]
    leader: Leader | None = None
    leader_unknown: str = ""
    namespaces: dict[str, Object] = field(default_factory=dict)

    def operator_line(self) -> str:
        """Whether anybody is there to do what is planned."""
        if self.leader_unknown:
            return f"whether an operator leads is not known: {self.leader_unknown}"
        if self.leader is None:
            return "no operator has ever led here (there is no Lease): nothing happens before one runs"
        if self.leader.leads(self.reading.at):
            return f"operator {self.leader.holder} leads and acts within about a second"
        since = f"since {moment(self.leader.renewed)}" if self.leader.renewed else "any more"
        return f"no operator leads (its Lease was not renewed {since}): nothing happens before one runs"

    def operator_remedy(self) -> Iterable[str]:
        """What to do where nobody leads."""
        if not self.leader_unknown and not (self.leader and self.leader.leads(self.reading.at)):
            place = self.leader.namespace if self.leader else names.NAMESPACE
            yield f"start the operator: kubectl -n {place} get pods -l app.kubernetes.io/component=operator"

    def of_node(self, actions: Iterable[Action], node: str) -> list[Action]:
        """What is planned for a node."""
        return [action for action in actions if action.node == node]

    def of_block(self, actions: Iterable[Action], prefix: Prefix) -> list[Action]:
        """What is planned for a block."""
        return [action for action in actions if isinstance(action, BlockAction) and action.prefix == prefix]

    def gains(self, node: str, pool: Pool) -> list[Claim | Undrain]:
        """Blocks of the pool that the node gets next."""
        listed = self.snapshot.nodecidrs.get(node)
        of_pool = {entry.prefix for entry in listed.entries if entry.pool == pool.name} if listed else set()
        return [
            action
            for action in self.of_node(self.now_actions, node)
            if (isinstance(action, Claim) and action.pool == pool.name) or (isinstance(action, Undrain) and action.prefix in of_pool)
        ]

    def rests_until(self, block: Block) -> datetime | None:
        """When a quarantined block is free again; None: not known."""
        if not block.released_at:
            return None
        return datetime.fromisoformat(block.released_at) + timedelta(seconds=quarantine_seconds(self.snapshot, block.pool))

    def report_line(self, nodecidr: NodeCIDR) -> str:
        """How fresh what we know of the node is."""
        at = self.reading.reported_at.get(nodecidr.name)
        if nodecidr.known is None or at is None:
            return f"the agent on {nodecidr.name} has not reported for this NodeCIDR: everything it holds counts as used"
        seen = nodecidr.known.epoch
        if seen < nodecidr.epoch:
            return f"its agent last reported at {moment(at)}, at epoch {seen} of {nodecidr.epoch}: it has not taken up the newest list yet"
        return f"its agent last reported at {moment(at)}, at the present epoch ({nodecidr.epoch})"


def quarantine_seconds(snapshot: Snapshot, pool: str) -> float:
    """How long a released block of the pool rests."""
    found = snapshot.pools.get(pool)
    return found.quarantine_seconds if found else DEFAULT_QUARANTINE_SECONDS


def look(api: Api, *, has_pods: bool | None = None) -> Scene:
    """Read everything and think the next round through."""
    leader, unknown = read_leader(api)
    reading = read(api, with_pods=True)
    return scene_of(
        reading,
        has_pods=bool(reading.pods) if has_pods is None else has_pods,
        leader=leader,
        leader_unknown=unknown,
        namespaces={item["metadata"]["name"]: item for item in _namespaces(api)},
    )


def scene_of(
    reading: Reading, *, has_pods: bool = True, leader: Leader | None = None, leader_unknown: str = "",
    namespaces: dict[str, Object] | None = None,
) -> Scene:  # fmt: skip
    """The same from a reading: pure."""
    now = reading.at.timestamp()
    snapshot, rows = assume(reading, has_pods=has_pods, settled=False)
    settled, _ = assume(reading, has_pods=has_pods, settled=True)
    weighed = weigh(snapshot, now)
    at_once = decided(weighed).actions
    later = tuple(action for action in decided(weigh(settled, now)).actions if action not in at_once)
    return Scene(reading, snapshot, weighed, tuple(rows), at_once, later, leader, leader_unknown, namespaces or {})


def read_leader(api: Api) -> tuple[Leader | None, str]:
    """The holder of the Lease, in whatever namespace it is; the reason where this account may not look."""
    try:
        found = api.get(LEASES)
    except Refused as error:
        return None, error.message
    leases = [lease_of(item) for item in (found or {}).get("items") or ()]
    return max(leases, key=lambda lease: lease.renewed or EPOCH, default=None), ""


def lease_of(obj: Object) -> Leader:
    """A Lease as the API has it."""
    spec = obj.get("spec", {})
    renewed = datetime.fromisoformat(spec["renewTime"]) if spec.get("renewTime") else None
    return Leader(spec.get("holderIdentity") or "", renewed, spec.get("leaseDurationSeconds") or 15.0, obj["metadata"]["namespace"])


def _namespaces(api: Api) -> list[Object]:
    try:
        return api.namespaces()
    except Refused:
        return []


def moment(at: datetime | None) -> str:
    """A time as people compare it with logs."""
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at else "an unknown time"


def duration(seconds: float) -> str:
    """`90 s`, `5 min`, `2 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
