"""Service CIDRs: from the kind where the server has it, else from the one Service that is always there."""

from collections.abc import Callable

import pytest

from podcidr.core.prefix import parse_prefix
from podcidr.kube.client import KubeClient
from podcidr.kube.transport import Reply
from podcidr.reconcile.observed import Observed
from tests.unit.kube.fakes import Call, FakeTransport, VirtualClock, ok, status

EMPTY = {"metadata": {"resourceVersion": "5"}, "items": []}
CIDRS = {**EMPTY, "items": [{"spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}}, {"spec": {"cidrs": ["10.8.0.0/24"]}}]}
SERVICE = {"metadata": {"name": "kubernetes"}, "spec": {"clusterIPs": ["10.96.0.1", "None"]}}


async def services(answer: Callable[[Call], Reply]) -> list[str]:
    transport, clock = FakeTransport(answer), VirtualClock()
    observed = Observed(KubeClient(transport, clock), clock, lambda: None)
    await observed.relist()
    return [str(prefix) for prefix in observed.services]


@pytest.mark.parametrize(
    ("kind", "service", "expected"),
    [
        (ok(CIDRS), status(404, "NotFound"), ["10.8.0.0/24", "10.96.0.0/16", "fd00:96::/112"]),
        (status(404, "NotFound"), ok(SERVICE), ["10.96.0.1/32"]),
        (status(403, "Forbidden"), ok(SERVICE), []),
        (status(404, "NotFound"), status(403, "Forbidden"), []),
    ],
)
async def test_service_cidrs(kind: Reply, service: Reply, expected: list[str]) -> None:
    def answer(call: Call) -> Reply:
        if "servicecidrs" in call.path:
            return kind
        return service if call.path.endswith("/services/kubernetes") else ok(EMPTY)

    assert await services(answer) == expected
    assert all(parse_prefix(text) for text in expected)
