"""etcd and kube-apiserver on free ports of 127.0.0.1, with temporary data, TLS and RBAC.

    with ControlPlane() as plane:
        plane.apply(Path("crds"))
        plane.kubectl("get", "nodes")

Nothing is left behind, however this process ends (see watchdog).
"""

import base64
import http.client
import json
import os
import random
import secrets
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.cluster.child import Child, ChildError
from tests.cluster.watchdog import WATCHDOG, remove_directory
from tools import assets

_START_SECONDS = 90.0  # a start takes 3 s; a busy machine of one core may need many times that
_POLL_SECONDS = 0.02
NODECIDRS = "/apis/podcidr.io/v1alpha1/nodecidrs"
# Admission lets nobody but the operator delete a NodeCIDR; the group lets this one do all else too.
AS_OPERATOR = {
    "Impersonate-User": "system:serviceaccount:podcidr-system:podcidr-operator",
    "Impersonate-Group": "system:masters",
}
_MERGE_PATCH = "application/merge-patch+json"


class ApiError(RuntimeError):
    """The API server refused a request."""

    def __init__(self, status: int, body: dict[str, Any], request: str) -> None:
        super().__init__(f"{request}: {status} {body.get('reason', '')}: {body.get('message', body)}")
        self.status = status
        self.reason = str(body.get("reason", ""))
        self.message = str(body.get("message", ""))


class ControlPlane:
    """A control plane of our own: no kubelet, no scheduler, no controller manager."""

    def __init__(self, binaries: Path | None = None) -> None:
        self._binaries = binaries
        self._children: dict[str, Child] = {}
        self._admin_token = secrets.token_hex(16)
        self._context: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start both and wait until requests are served."""
        self._binaries = self._binaries or assets.locate()
        self.directory = Path(tempfile.mkdtemp(prefix="podcidr-control-plane-"))
        WATCHDOG.guard_directory(self.directory)
        try:
            self._start_on_free_ports()
        except BaseException:
            self.stop()
            raise

    def _start_on_free_ports(self) -> None:
        (self.directory / "tokens.csv").write_text(f'{self._admin_token},admin,admin,"system:masters"\n')
        for attempt in range(3):
            self._etcd_port, self._peer_port, self.port = free_ports(3)
            try:
                self.start_etcd()
                self.start_api_server()
                break
            except ChildError as error:
                self._kill_children()
                if attempt == 2 or "address already in use" not in str(error):
                    raise
        self._await("default namespace", lambda: self.request("GET", "/api/v1/namespaces/default"))
        self.admin_kubeconfig = self.write_kubeconfig("admin", self._admin_token)

    def stop(self) -> None:
        """Stop both and remove their data. Killed, as nothing of the data is kept."""
        self._kill_children()
        remove_directory(self.directory)

    def _kill_children(self) -> None:
        for name in ("kube-apiserver", "etcd"):
            if child := self._children.pop(name, None):
                child.resume()
                child.kill()

    # --- the two programs ---

    def start_etcd(self) -> None:
        """Start etcd, on the data of before if there are any."""
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._spawn(
            "etcd", f"--data-dir={self.directory / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        )  # fmt: skip

    def start_api_server(self) -> None:
        """Start kube-apiserver (again) and wait until it is ready; its port and certificates stay."""
        certificates = self.directory / "certificates"
        # The key that it generates for TLS signs the ServiceAccount tokens too: no other tool is needed.
        # ServiceAccount admission wants accounts that no controller makes here; TaintNodesByCondition
        # taints each new Node, and nobody here would take the taint away.
        self._spawn(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self._etcd_port}", f"--secure-port={self.port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={certificates}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={certificates / 'apiserver.key'}",
            f"--service-account-key-file={certificates / 'apiserver.key'}",
            f"--token-auth-file={self.directory / 'tokens.csv'}", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=172.31.255.0/24", "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition", "--profiling=false",
        )  # fmt: skip
        self._await("kube-apiserver", lambda: self._get_ready(certificates / "apiserver.crt"))

    def stop_api_server(self) -> None:
        """Take the API server away; etcd keeps the data."""
        self._children.pop("kube-apiserver").kill()

    def restart(self) -> None:
        """Stop the API server and start it again."""
        self.stop_api_server()
        self.start_api_server()

    def back_up_etcd(self) -> Path:
        """Copy etcd's data while it stands still; clients wait, and notice nothing."""
        backup = self.directory / "etcd.backup"
        self.child("etcd").pause()
        try:
            shutil.copytree(self.directory / "etcd", backup)
        finally:
            self.child("etcd").resume()
        return backup

    def restore_etcd(self, backup: Path) -> None:
        """Put a backup in the place of the data, and start the API server on it: versions begin anew there."""
        self.stop_api_server()
        self._children.pop("etcd").kill()
        shutil.rmtree(self.directory / "etcd")
        backup.rename(self.directory / "etcd")
        self.start_etcd()
        self.start_api_server()

    def child(self, name: str) -> Child:
        """`etcd` or `kube-apiserver`, to pause or kill."""
        return self._children[name]

    @property
    def pids(self) -> dict[str, int]:
        """Process IDs by program name."""
        return {name: child.pid for name, child in self._children.items()}

    def _spawn(self, name: str, *arguments: str) -> None:
        assert self._binaries is not None
        log = self.directory / f"{name}.log"
        self._children[name] = Child(name, [self._binaries / name, *arguments], log)

    def _get_ready(self, certificate: Path) -> None:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=str(certificate))
            self.ca = certificate.read_bytes()
        self.request("GET", "/readyz")

    def _await(self, what: str, attempt: Any) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            for child in self._children.values():
                if child.exit_code is not None:
                    raise child.failure("did not start")
            try:
                attempt()
                return
            except (OSError, ApiError, http.client.HTTPException) as error:
                if time.monotonic() > deadline:
                    raise self._children["kube-apiserver"].failure(f"was not ready: {what}: {error}") from error
            time.sleep(_POLL_SECONDS)

    # --- access ---

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Trusts this API server only."""
        assert self._context is not None, "the control plane has not been started"
        return self._context

    @property
    def admin_token(self) -> str:
        """Bearer token of a member of system:masters."""
        return self._admin_token

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str | None = None, token: str | None = None,
        headers: Mapping[str, str] | None = None, timeout_seconds: float = 30,
    ) -> dict[str, Any]:  # fmt: skip
        """One request, by the admin if no token is given; raises ApiError. PATCH is a merge patch unless said."""
        content_type = content_type or (_MERGE_PATCH if method == "PATCH" else "application/json")
        sent = {"Authorization": f"Bearer {token or self._admin_token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + timeout_seconds
        while True:
            status, answer = self._request_once(method, path, data, {**sent, **(headers or {})}, timeout_seconds)
            if status < 400:
                return answer
            # Not done, and worth another try: "storage is (re)initializing" just after a CRD was created.
            if status != 429 or time.monotonic() > deadline:
                raise ApiError(status, answer, f"{method} {path}")
            time.sleep(_POLL_SECONDS)

    def _request_once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str], timeout_seconds: float
    ) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.ssl_context, timeout=timeout_seconds)
        try:
            connection.request(method, path, body=data, headers=headers)
            reply = connection.getresponse()
            raw = reply.read()
        finally:
            connection.close()
        is_json = reply.headers.get_content_type() == "application/json"
        return reply.status, json.loads(raw) if is_json else {"message": raw.decode(errors="replace")}

    def write_kubeconfig(self, name: str, token: str) -> Path:
        """A kubeconfig for the bearer of this token (in JSON, which is YAML)."""
        cluster = {"server": self.url, "certificate-authority-data": base64.b64encode(self.ca).decode()}
        path = self.directory / f"{name}.kubeconfig"
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "podcidr",
            "clusters": [{"name": "podcidr", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "podcidr", "context": {"cluster": "podcidr", "user": name}}],
        }  # fmt: skip
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path

    def service_account_token(self, namespace: str, name: str, pod: str | None = None) -> str:
        """A token of the ServiceAccount; bound to one of its Pods if given, as kubelet's are."""
        spec: dict[str, Any] = {"expirationSeconds": 24 * 3600}
        if pod is not None:
            uid = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        reply = self.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", body)
        return str(reply["status"]["token"])

    def kubeconfig_for_service_account(self, namespace: str, name: str, pod: str | None = None) -> Path:
        """A kubeconfig with such a token."""
        token = self.service_account_token(namespace, name, pod)
        return self.write_kubeconfig(f"{namespace}-{name}-{pod or secrets.token_hex(4)}", token)

    def kubectl(self, *arguments: str | Path, input: str | None = None, kubeconfig: Path | None = None) -> str:  # noqa: A002 - as in subprocess
        """Run kubectl, as the admin unless said; gives its output, raises with what it complained about."""
        assert self._binaries is not None
        command = [self._binaries / "kubectl", f"--kubeconfig={kubeconfig or self.admin_kubeconfig}", *arguments]
        environment = {**os.environ, "KUBECACHEDIR": str(self.directory / "kubectl-cache")}
        done = subprocess.run(
            [str(word) for word in command], input=input, env=environment, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL if input is None else None,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, manifests: Path | str) -> str:
        """`kubectl apply` of a file, a directory or YAML text."""
        if isinstance(manifests, Path):
            return self.kubectl("apply", "-f", manifests)
        return self.kubectl("apply", "-f", "-", input=manifests)

    def install(self, root: Path) -> None:
        """CRDs, then accounts, RBAC and policies of the project at `root`; returns when the policies are in force."""
        self.install_crds(root / "crds")
        self.apply(installable(root / "deploy" / "podcidr.yaml"))
        # A policy is in force some time after its creation. The probe may not be deleted by the admin once it is.
        probe = f"{NODECIDRS}/policy-probe"
        body = {"apiVersion": "podcidr.io/v1alpha1", "kind": "NodeCIDR", "metadata": {"name": "policy-probe"}}
        self.request("POST", NODECIDRS, {**body, "spec": {"epoch": 1}})
        self._await("admission policies", lambda: self._expect_forbidden("DELETE", f"{probe}?dryRun=All"))
        self.request("DELETE", probe, headers=AS_OPERATOR)

    def _expect_forbidden(self, method: str, path: str) -> None:
        try:
            self.request(method, path)
        except ApiError as error:
            if error.status == 403:
                return
            raise
        raise BlockingIOError(f"{method} {path} was allowed")

    def install_crds(self, directory: Path) -> None:
        """Apply CRDs and wait until they are served."""
        self.apply(directory)
        self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", directory)
        # Established comes before the storage is ready: until then a list is answered with 429.
        for name in self.kubectl("get", "-f", directory, "-o", "name").split():
            plural, group = name.removeprefix("customresourcedefinition.apiextensions.k8s.io/").split(".", 1)
            self._await(plural, lambda path=f"/apis/{group}/v1alpha1/{plural}": self.request("GET", path))


def installable(deploy: Path) -> str:
    """What of deploy/podcidr.yaml needs no controller manager: accounts, RBAC and policies, but no workloads."""
    documents = [doc for doc in yaml.safe_load_all(deploy.read_text()) if doc]
    kept = [doc for doc in documents if doc["kind"] not in ("DaemonSet", "Deployment", "ConfigMap")]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": kept})


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, outside the range from which outgoing connections take theirs."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports
