"""Who may write what, asked of a real API server: RBAC and admission as `deploy/podcidr.yaml` sets them up."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from podcidr.api import names
from podcidr.kube import resources as kinds
from podcidr.kube.client import KubeClient
from podcidr.kube.clock import SystemClock
from podcidr.kube.credentials import load
from podcidr.kube.errors import Forbidden
from podcidr.kube.transport import AiohttpTransport
from tests.cluster.control_plane import ControlPlane
from tests.cluster.reset import reset

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
POLICY_SECONDS = 30  # until the API server enforces a new policy; about one
Object = dict[str, Any]
Write = Callable[[KubeClient], Awaitable[object]]


@asynccontextmanager
async def acting(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    client = KubeClient(AiohttpTransport(load(str(kubeconfig))), SystemClock())
    try:
        yield client
    finally:
        await client.close()


@dataclass(frozen=True)
class Accounts:
    """Kubeconfigs by who acts with them."""

    admin: Path
    operator: Path
    agent: Path
    """With a token bound to its pod on node n1, as kubelet mounts it."""
    unbound_agent: Path
    """With a token that somebody had made for the same account."""


def pool() -> Object:
    spec = {"ipv4": {"cidrs": ["10.64.0.0/16"]}}
    return {"apiVersion": names.API_VERSION, "kind": "IPPool", "metadata": {"name": "default"}, "spec": spec}


def node_cidr(name: str) -> Object:
    metadata = {"name": name}
    return {"apiVersion": names.API_VERSION, "kind": "NodeCIDR", "metadata": metadata, "spec": {"epoch": 1}}


def block(cidr: str = "10.64.3.0/28") -> Object:
    return {"cidr": cidr, "pool": "default", "poolUID": "u", "poolGeneration": 1, "state": "Active"}


def ip_block() -> Object:
    spec = {"cidr": "10.64.3.0/28", "pool": "default", "poolUID": "u", "node": "n1", "nodeCIDRUID": "u"}
    return {"apiVersion": names.API_VERSION, "kind": "IPBlock", "metadata": {"name": "10-64-3-0-28"}, "spec": spec}


def agent_pod() -> Object:
    spec = {
        "serviceAccountName": names.SERVICE_ACCOUNT_AGENT,
        "nodeName": "n1",
        "containers": [{"name": "agent", "image": "agent"}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent-n1"}, "spec": spec}


def event(namespace: str) -> Object:
    regarding = {"kind": "NodeCIDR", "name": "n1", "apiVersion": names.API_VERSION}
    metadata = {"name": "n1.test", "namespace": namespace}
    return {"metadata": metadata, "involvedObject": regarding, "reason": "Test", "message": "test", "type": "Normal"}


def lease(name: str) -> Object:
    metadata = {"name": name, "namespace": names.NAMESPACE}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}


@pytest.fixture(scope="module")
def accounts(control_plane: ControlPlane) -> Iterator[Accounts]:
    reset(control_plane)
    control_plane.install_crds(ROOT / "crds")
    control_plane.apply(ROOT / "deploy" / "podcidr.yaml")
    asyncio.run(populate(control_plane.admin_kubeconfig))
    token = control_plane.kubeconfig_for_service_account
    found = Accounts(
        admin=control_plane.admin_kubeconfig,
        operator=token(names.NAMESPACE, names.SERVICE_ACCOUNT_OPERATOR),
        agent=token(names.NAMESPACE, names.SERVICE_ACCOUNT_AGENT, pod="agent-n1"),
        unbound_agent=token(names.NAMESPACE, names.SERVICE_ACCOUNT_AGENT),
    )
    asyncio.run(policies_enforced(found))
    yield found
    asyncio.run(clean_up(found))


async def populate(kubeconfig: Path) -> None:
    async with acting(kubeconfig) as admin:
        await admin.create(kinds.IPPOOLS, pool())
        for name in ("n1", "n2"):
            await admin.create(kinds.NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
            await admin.create(kinds.NODECIDRS, node_cidr(name))
        await admin.create(kinds.PODS, agent_pod(), namespace=names.NAMESPACE)


async def clean_up(accounts: Accounts) -> None:
    """Leave a server that the next module may use; accounts, roles and policies are the same for all."""
    async with acting(accounts.operator) as operator, acting(accounts.admin) as admin:
        for name in ("n1", "n2"):
            await operator.delete(kinds.NODECIDRS, name)
            await admin.delete(kinds.NODES, name)
        await admin.merge_patch(kinds.IPPOOLS, "default", {"metadata": {"finalizers": []}})
        await admin.delete(kinds.IPPOOLS, "default")
        await admin.delete(kinds.PODS, "agent-n1", namespace=names.NAMESPACE)
        await admin.delete(kinds.LEASES, names.LEASE, namespace=names.NAMESPACE)


async def policies_enforced(accounts: Accounts) -> None:
    """Wait until each policy refuses what it is for; dry runs, so that nothing happens where it does not yet."""
    path = kinds.NODECIDRS.path("n2")
    report, priority = {"status": {"pending": 0}}, {"spec": {"priority": 7}}
    await refused(accounts.admin, "DELETE", path, None)
    await refused(accounts.agent, "PATCH", path + "/status", report)
    await refused(accounts.operator, "PATCH", kinds.IPPOOLS.path("default"), priority)


async def refused(kubeconfig: Path, method: str, path: str, body: Object | None) -> None:
    transport = AiohttpTransport(load(str(kubeconfig)))
    payload = None if body is None else json.dumps(body).encode()
    patch = "application/merge-patch+json" if payload else None
    try:
        async with asyncio.timeout(POLICY_SECONDS):
            while True:
                path_dry = path + "?dryRun=All"
                reply = await transport.request(method, path_dry, body=payload, content_type=patch, timeout_seconds=5)
                if reply.status == 403:
                    return
                assert reply.status == 200, reply.body
                await asyncio.sleep(0.05)
    finally:
        await transport.close()


async def attempt(kubeconfig: Path, write: Write) -> str:
    """Return what the API server says to a write that it must refuse."""
    async with acting(kubeconfig) as client:
        with pytest.raises(Forbidden) as refusal:
            await write(client)
    return refusal.value.message


# --- the operator -------------------------------------------------------------------------------------------------

OPERATOR_MAY_NOT: dict[str, Write] = {
    "report for a node": lambda c: c.merge_patch(kinds.NODECIDRS, "n1", {"status": {"inUse": 1}}, subresource="status"),
    "create a pool": lambda c: c.create(kinds.IPPOOLS, {**pool(), "metadata": {"name": "other"}}),
    "delete a pool": lambda c: c.delete(kinds.IPPOOLS, "default"),
    "create a pod": lambda c: c.create(kinds.PODS, {**agent_pod(), "metadata": {"name": "p"}}, namespace="default"),
    "delete a pod": lambda c: c.delete(kinds.PODS, "agent-n1", namespace=names.NAMESPACE),
    "read one pod": lambda c: c.get(kinds.PODS, "agent-n1", namespace=names.NAMESPACE),
    "patch a node": lambda c: c.merge_patch(kinds.NODES, "n1", {"spec": {"podCIDR": "10.0.0.0/24"}}),
    "patch a node's status": lambda c: c.merge_patch(kinds.NODES, "n1", {"status": {}}, subresource="status"),
    "delete a node": lambda c: c.delete(kinds.NODES, "n1"),
    "pin a namespace": lambda c: c.merge_patch(kinds.NAMESPACES, "default", {"metadata": {"annotations": {}}}),
    "change a CRD": lambda c: c.merge_patch(kinds.CRDS, "ippools.podcidr.io", {"metadata": {"labels": {}}}),
    "hold a Lease elsewhere": lambda c: c.create(kinds.LEASES, lease("podcidr-operator"), namespace="default"),
    "take another's Lease": lambda c: c.replace(kinds.LEASES, "other", lease("other"), namespace=names.NAMESPACE),
}


@pytest.mark.parametrize("write", OPERATOR_MAY_NOT.values(), ids=OPERATOR_MAY_NOT)
async def test_rbac_refuses_the_operator(accounts: Accounts, write: Write) -> None:
    assert "cannot" in await attempt(accounts.operator, write)


async def test_operator_may_set_a_pools_finalizer_but_not_its_spec(accounts: Accounts) -> None:
    async with acting(accounts.operator) as operator:
        held = await operator.merge_patch(kinds.IPPOOLS, "default", {"metadata": {"finalizers": [names.FINALIZER]}})
    assert held["metadata"]["finalizers"] == [names.FINALIZER]

    message = await attempt(accounts.operator, lambda c: c.merge_patch(kinds.IPPOOLS, "default", {"spec": {"disabled": True}}))
    assert "the operator may not change the spec of IPPool default" in message
    async with acting(accounts.admin) as person:
        await person.merge_patch(kinds.IPPOOLS, "default", {"spec": {"priority": 1}})


async def test_operator_writes_pool_status_ledger_lease_and_events(accounts: Accounts) -> None:
    async with acting(accounts.operator) as operator:
        await operator.merge_patch(kinds.IPPOOLS, "default", {"status": {"observedGeneration": 1}}, subresource="status")
        await operator.create(kinds.IPBLOCKS, ip_block())
        quarantined = {"status": {"state": "Quarantined"}}
        await operator.merge_patch(kinds.IPBLOCKS, "10-64-3-0-28", quarantined, subresource="status")
        await operator.delete(kinds.IPBLOCKS, "10-64-3-0-28")
        held = await operator.create(kinds.LEASES, lease(names.LEASE), namespace=names.NAMESPACE)
        await operator.replace(kinds.LEASES, names.LEASE, held, namespace=names.NAMESPACE)
        await operator.create(kinds.EVENTS, event("default"), namespace="default")
        await operator.list(kinds.PODS, limit=1)


# --- the agent ----------------------------------------------------------------------------------------------------


def report(node: str) -> Write:
    return lambda client: client.merge_patch(kinds.NODECIDRS, node, {"status": {"inUse": 3}}, subresource="status")


async def test_agent_reports_for_its_own_node(accounts: Accounts) -> None:
    async with acting(accounts.agent) as agent:
        reported = await agent.merge_patch(kinds.NODECIDRS, "n1", {"status": {"inUse": 3}}, subresource="status")
    assert reported["status"]["inUse"] == 3


async def test_admission_refuses_a_report_for_another_node(accounts: Accounts) -> None:
    message = await attempt(accounts.agent, report("n2"))
    assert "the agent on node n1 may not write the status of NodeCIDR n2, only that of its own node" in message
    async with acting(accounts.admin) as admin:
        assert "status" not in await admin.get(kinds.NODECIDRS, "n2")


async def test_admission_refuses_a_replaced_status_too(accounts: Accounts) -> None:
    async with acting(accounts.agent) as agent:
        other = await agent.get(kinds.NODECIDRS, "n2")
    forged = {**other, "status": {"inUse": 0}}
    message = await attempt(accounts.agent, lambda c: c.replace(kinds.NODECIDRS, "n2", forged, subresource="status"))
    assert "only that of its own node" in message


async def test_admission_refuses_a_token_that_is_bound_to_no_pod(accounts: Accounts) -> None:
    message = await attempt(accounts.unbound_agent, report("n1"))
    assert "this token is bound to no node" in message
    assert "use the token that kubelet mounts" in message


AGENT_MAY_NOT: dict[str, Write] = {
    "give itself a block": lambda c: c.merge_patch(kinds.NODECIDRS, "n1", {"spec": {"epoch": 9, "blocks": [block()]}}),
    "create a NodeCIDR": lambda c: c.create(kinds.NODECIDRS, node_cidr("n3")),
    "delete its NodeCIDR": lambda c: c.delete(kinds.NODECIDRS, "n1"),
    "change a pool": lambda c: c.merge_patch(kinds.IPPOOLS, "default", {"spec": {"disabled": True}}),
    "write a pool's status": lambda c: c.merge_patch(kinds.IPPOOLS, "default", {"status": {}}, subresource="status"),
    "claim a block": lambda c: c.create(kinds.IPBLOCKS, ip_block()),
    "patch its node": lambda c: c.merge_patch(kinds.NODES, "n1", {"metadata": {"labels": {"a": "b"}}}),
    "list nodes": lambda c: c.list(kinds.NODES),
    "delete a pod": lambda c: c.delete(kinds.PODS, "agent-n1", namespace=names.NAMESPACE),
    "lead": lambda c: c.create(kinds.LEASES, lease("podcidr-operator"), namespace=names.NAMESPACE),
    "post an Event elsewhere": lambda c: c.create(kinds.EVENTS, event("kube-system"), namespace="kube-system"),
}


@pytest.mark.parametrize("write", AGENT_MAY_NOT.values(), ids=AGENT_MAY_NOT)
async def test_rbac_refuses_the_agent(accounts: Accounts, write: Write) -> None:
    assert "cannot" in await attempt(accounts.agent, write)


async def test_agent_reads_what_it_works_from(accounts: Accounts) -> None:
    async with acting(accounts.agent) as agent:
        for kind in (kinds.IPPOOLS, kinds.NODECIDRS, kinds.NAMESPACES, kinds.PODS):
            assert (await agent.list(kind)).items
        await agent.get(kinds.NODES, "n1")


# --- nobody -------------------------------------------------------------------------------------------------------


async def test_admission_lets_nobody_but_the_operator_delete_a_node_cidr(accounts: Accounts) -> None:
    async with acting(accounts.operator) as operator:
        await operator.create(kinds.NODECIDRS, node_cidr("leaving"))
    message = await attempt(accounts.admin, lambda c: c.delete(kinds.NODECIDRS, "leaving"))
    assert "only the operator deletes a NodeCIDR: delete Node leaving and it goes by itself" in message

    async with acting(accounts.operator) as operator:
        await operator.delete(kinds.NODECIDRS, "leaving")
        assert "leaving" not in {item["metadata"]["name"] for item in (await operator.list(kinds.NODECIDRS)).items}


@pytest.mark.parametrize("who", ["admin", "operator"])
async def test_admission_lets_nobody_delete_a_node_cidr_with_blocks(accounts: Accounts, who: str) -> None:
    async with acting(accounts.operator) as operator:
        await operator.create(kinds.NODECIDRS, node_cidr("full"))
        await operator.merge_patch(kinds.NODECIDRS, "full", {"spec": {"epoch": 2, "blocks": [block()]}})
    message = await attempt(getattr(accounts, who), lambda c: c.delete(kinds.NODECIDRS, "full"))
    assert "NodeCIDR full still has 1 block(s) whose addresses may be in use" in message

    async with acting(accounts.operator) as operator:
        await operator.merge_patch(kinds.NODECIDRS, "full", {"spec": {"epoch": 3, "blocks": []}})
        await operator.delete(kinds.NODECIDRS, "full")


async def test_admission_refuses_to_delete_all_of_them_at_once(accounts: Accounts) -> None:
    transport = AiohttpTransport(load(str(accounts.admin)))
    try:
        path = kinds.NODECIDRS.path()
        reply = await transport.request("DELETE", path, body=None, content_type=None, timeout_seconds=10)
    finally:
        await transport.close()
    assert reply.status == 403
    async with acting(accounts.admin) as admin:
        assert {"n1", "n2"} <= {item["metadata"]["name"] for item in (await admin.list(kinds.NODECIDRS)).items}
