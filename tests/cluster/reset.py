"""Takes a control plane back to how it was before a test: one serves the whole session."""

from collections.abc import Iterable
from typing import Any

from tests.cluster.control_plane import AS_OPERATOR, NODECIDRS, ApiError, ControlPlane

SERVICE_CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
_OURS = "/apis/podcidr.io/v1alpha1"
_KEPT_NAMESPACES = frozenset({"default", "kube-node-lease", "kube-public", "kube-system", "podcidr-system"})
_HISTORY = "app.kubernetes.io/component%3Dhistory"
_AT_ONCE = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "propagationPolicy": "Background"}


def reset(plane: ControlPlane) -> None:
    """Delete all pods, nodes, podcidr's objects, its Lease, Events and the namespaces of tests. Its programs are over."""
    namespaces = {item["metadata"]["name"] for item in _list(plane, "/api/v1/namespaces")}
    with_pods = {item["metadata"]["namespace"] for item in _list(plane, "/api/v1/pods")}
    for namespace in with_pods:
        _delete_all(plane, f"/api/v1/namespaces/{namespace}/pods")
    _delete_all(plane, "/api/v1/nodes")
    _empty_node_cidrs(plane)
    for plural in ("nodecidrs", "ipblocks", "ippools"):
        _delete_all(plane, f"{_OURS}/{plural}")
    _delete_all(plane, "/apis/coordination.k8s.io/v1/namespaces/podcidr-system/leases")
    _delete_all(plane, "/api/v1/namespaces/default/events")
    for item in _list(plane, f"/api/v1/namespaces/podcidr-system/configmaps?labelSelector={_HISTORY}"):
        plane.request("DELETE", f"/api/v1/namespaces/podcidr-system/configmaps/{item['metadata']['name']}")
    for name in _names(_list(plane, SERVICE_CIDRS)):
        if name != "kubernetes":
            plane.request("PATCH", f"{SERVICE_CIDRS}/{name}", {"metadata": {"finalizers": None}})
            plane.request("DELETE", f"{SERVICE_CIDRS}/{name}")
    for namespace in namespaces - _KEPT_NAMESPACES:
        delete_namespace(plane, namespace)
    for namespace in namespaces & {"default", "podcidr-system"}:
        _unpin(plane, namespace)


def delete_namespace(plane: ControlPlane, name: str) -> None:
    """Delete a namespace and do its controller's part: nobody else here takes the finalizer away."""
    path = f"/api/v1/namespaces/{name}"
    plane.request("DELETE", path)
    namespace = plane.request("GET", path)
    namespace["spec"]["finalizers"] = []
    plane.request("PUT", f"{path}/finalize", namespace)


def _list(plane: ControlPlane, path: str) -> list[dict[str, Any]]:
    try:
        items: list[dict[str, Any]] = plane.request("GET", path)["items"]
    except ApiError as error:
        if error.status == 404:  # CRDs are not installed
            return []
        raise
    return items


def _delete_all(plane: ControlPlane, path: str) -> None:
    _strip_finalizers(plane, path)
    try:
        plane.request("DELETE", path, _AT_ONCE, headers=AS_OPERATOR)
    except ApiError as error:
        if error.status != 404:
            raise


def _strip_finalizers(plane: ControlPlane, path: str) -> None:
    for name in _names(item for item in _list(plane, path) if item["metadata"].get("finalizers")):
        plane.request("PATCH", f"{path}/{name}", {"metadata": {"finalizers": None}})


def _empty_node_cidrs(plane: ControlPlane) -> None:
    """Admission lets nobody delete one that lists blocks."""
    for item in _list(plane, NODECIDRS):
        if item["spec"].get("blocks"):
            spec = {"blocks": [], "epoch": item["spec"]["epoch"] + 1}
            plane.request("PATCH", f"{NODECIDRS}/{item['metadata']['name']}", {"spec": spec})


def _unpin(plane: ControlPlane, namespace: str) -> None:
    annotations = {"podcidr.io/pools": None, "cni.projectcalico.org/ipv4pools": None}
    plane.request("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"annotations": annotations}})


def _names(items: Iterable[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]
