"""The kinds that podcidr reads or writes, and their paths."""

from dataclasses import dataclass
from urllib.parse import quote

from podcidr.api.names import GROUP, VERSION


@dataclass(frozen=True)
class Resource:
    """One kind as the API serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = False

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, name: str | None = None, namespace: str | None = None, subresource: str | None = None) -> str:
        """Return the path of the collection, of one object or of its subresource."""
        parts = ["/apis/" if self.group else "/api/", self.api_version]
        if namespace is not None:
            if not self.namespaced:
                raise ValueError(f"{self.plural} are cluster-scoped, but namespace {namespace!r} was given")
            parts += ["/namespaces/", quote(namespace, safe="")]
        elif self.namespaced and name is not None:
            raise ValueError(f"{self.plural} are namespaced, but no namespace was given for {name!r}")
        parts += ["/", self.plural]
        if name is not None:
            parts += ["/", quote(name, safe="")]
        if subresource is not None:
            parts += ["/", subresource]
        return "".join(parts)


IPPOOLS = Resource(GROUP, VERSION, "ippools", "IPPool")
NODECIDRS = Resource(GROUP, VERSION, "nodecidrs", "NodeCIDR")
IPBLOCKS = Resource(GROUP, VERSION, "ipblocks", "IPBlock")
NODES = Resource("", "v1", "nodes", "Node")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace")
PODS = Resource("", "v1", "pods", "Pod", namespaced=True)
SERVICES = Resource("", "v1", "services", "Service", namespaced=True)
SERVICE_CIDRS = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR")
CONFIGMAPS = Resource("", "v1", "configmaps", "ConfigMap", namespaced=True)
EVENTS = Resource("", "v1", "events", "Event", namespaced=True)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
