"""Every Prometheus metric, of operator and agent. Labels never name a node, a pod or an address."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROUND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_GRANT_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0)


@dataclass(frozen=True)
class ReflectorState:
    """What a reflector tells of itself when asked."""

    age_seconds: Callable[[], float]
    lists: Callable[[], int]
    objects: Callable[[], int]


class _Reflectors(Collector):
    """Reads the reflectors at scrape time: a gauge that is set goes stale with the thing that sets it."""

    def __init__(self) -> None:
        self.states: dict[str, ReflectorState] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield age, lists and size by kind."""
        age = GaugeMetricFamily(
            "podcidr_reflector_progress_age_seconds",
            "Seconds since the last event, bookmark or list; up to 150 is ordinary where nothing happens.",
            labels=["kind"],
        )
        lists = CounterMetricFamily("podcidr_reflector_lists", "Lists carried out, the first one of the process included.", labels=["kind"])
        objects = GaugeMetricFamily("podcidr_reflector_objects", "Objects held in memory.", labels=["kind"])
        for kind, state in self.states.items():
            age.add_metric([kind], state.age_seconds())
            lists.add_metric([kind], state.lists())
            objects.add_metric([kind], state.objects())
        yield from (age, lists, objects)


class _Common:
    """What operator and agent both have."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._reflectors = _Reflectors()
        self.registry.register(self._reflectors)
        ProcessCollector(registry=self.registry)
        self.api_requests = Counter(
            "podcidr_api_requests",
            "Requests to the API server; code is the HTTP status, `unknown` (no answer) or `unreachable` (not sent).",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "podcidr_api_request_duration_seconds",
            "Time to the answer of a request, watches left out.",
            ["verb", "resource"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.loop_lag_seconds = Gauge("podcidr_loop_lag_seconds", "How much too late the event loop last woke up.", registry=self.registry)
        self.events_dropped = Counter("podcidr_events_dropped", "Kubernetes Events not sent: too many, or refused.", registry=self.registry)

    def on_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """Count one request; what KubeClient takes as its hook."""
        self.api_requests.labels(verb, resource, code).inc()
        if verb != "watch":
            self.api_seconds.labels(verb, resource).observe(seconds)

    def add_reflector(self, kind: str, age_seconds: Callable[[], float], lists: Callable[[], int], objects: Callable[[], int]) -> None:
        """Show one reflector."""
        self._reflectors.states[kind] = ReflectorState(age_seconds, lists, objects)


class OperatorMetrics(_Common):
    """The operator's."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self._planner()
        self._ledger()
        self._pools()

    def _planner(self) -> None:
        self.leader = Gauge("podcidr_leader", "1 while this process holds the Lease and may write.", registry=self.registry)
        self.leader_transitions = Gauge(
            "podcidr_leader_transitions", "leaseTransitions of the Lease when it was won.", registry=self.registry
        )
        self.planner_rounds = Counter(
            "podcidr_planner_rounds",
            "Rounds of the planner: `planned`, `waiting` (partial view, or the ledger is suspected) or `failed`.",
            ["outcome"],
            registry=self.registry,
        )
        self.planner_seconds = Histogram(
            "podcidr_planner_round_duration_seconds",
            "Time to plan, without carrying out.",
            buckets=_ROUND_BUCKETS,
            registry=self.registry,
        )
        self.actions = Counter(
            "podcidr_actions",
            "Actions by kind and outcome: `done`, `conflict`, `unknown` or `failed`.",
            ["kind", "outcome"],
            registry=self.registry,
        )
        self.frozen_blocks = Gauge("podcidr_frozen_blocks", "Blocks that take part in a violated invariant.", registry=self.registry)
        self.violations = Gauge("podcidr_invariant_violations", "Violations by invariant.", ["invariant"], registry=self.registry)

    def _ledger(self) -> None:
        self.grants = Counter("podcidr_grants", "Blocks that entered a NodeCIDR.", ["pool", "family"], registry=self.registry)
        self.grant_seconds = Histogram(
            "podcidr_grant_duration_seconds",
            "From the moment the operator saw the demand to the block in NodeCIDR.spec.",
            buckets=_GRANT_BUCKETS,
            registry=self.registry,
        )
        self.releases = Counter("podcidr_releases", "Blocks that left a NodeCIDR.", ["pool", "family"], registry=self.registry)
        self.conflicts = Counter(
            "podcidr_conflicts",
            "Attempts ended by another writer: `version` (409), `test` (422 of a patch) or `exists` (a claim's name).",
            ["kind"],
            registry=self.registry,
        )
        self.double_claims = Gauge("podcidr_double_claimed_blocks", "Blocks that two nodes claim or use.", registry=self.registry)

    def _pools(self) -> None:
        labels = ["pool", "family"]
        self.pool_addresses = Gauge(
            "podcidr_pool_addresses",
            "Addresses by state: `capacity` (reserved ones left out), `reserved`, `in_use`, `cooling`, `free`.",
            [*labels, "state"],
            registry=self.registry,
        )
        self.pool_blocks = Gauge(
            "podcidr_pool_blocks",
            "Blocks by state: `total`, `claimed`, `quarantined`, `barred` (blocks of others lie there), `free`.",
            [*labels, "state"],
            registry=self.registry,
        )
        self.pool_utilization = Gauge("podcidr_pool_utilization_ratio", "In use and cooling over capacity.", labels, registry=self.registry)
        self.pool_exhaustion_seconds = Gauge(
            "podcidr_pool_exhaustion_seconds",
            "Forecast: seconds until the last free block is claimed; absent when it is not in sight.",
            labels,
            registry=self.registry,
        )
        self.nodes = Gauge(
            "podcidr_nodes",
            "NodeCIDRs by state: `reporting`, `silent`, `waiting`, `gone`.",
            ["state"],
            registry=self.registry,
        )


class AgentMetrics(_Common):
    """The agent's."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self.reports = Counter(
            "podcidr_agent_reports",
            "Writes of NodeCIDR.status by outcome: `done`, `conflict`, `unknown` or `failed`.",
            ["outcome"],
            registry=self.registry,
        )
        self.allocation_writes = Counter(
            "podcidr_agent_allocation_writes", "Times the allocation file was replaced.", registry=self.registry
        )
        self.epoch = Gauge("podcidr_agent_allocation_epoch", "Epoch of the allocation file.", registry=self.registry)
        self.addresses = Gauge(
            "podcidr_agent_addresses",
            "Addresses of this node by state: `in_use`, `cooling`, `free` (in Active blocks).",
            ["family", "state"],
            registry=self.registry,
        )
        self.pending = Gauge("podcidr_agent_pending_pods", "Pods that wait for an address.", ["family"], registry=self.registry)
        self.reclaims = Counter("podcidr_agent_reclaims", "Leaked attachments taken back.", registry=self.registry)
        self.rebuilds = Counter("podcidr_agent_rebuilds", "Times the state dir was rebuilt from what runs.", registry=self.registry)
