"""Where the API server is and how to show who we are: a kubeconfig, or the pod's own service account."""

import base64
import binascii
import json
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class CredentialsError(Exception):
    """No way to the API server can be made out; the message names the file, the field and the remedy."""


@dataclass(frozen=True)
class Credentials:
    """One API server and one identity."""

    server: str  # without a trailing slash
    ca: str | None = None  # PEM
    client_certificate: str | None = None  # PEM
    client_key: str | None = None  # PEM
    token: str | None = None
    token_file: str | None = None
    verify: bool = True

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context that trusts the cluster's CA alone, None for plain HTTP."""
        if not self.server.startswith("https:"):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.ca:
            context.load_verify_locations(cadata=self.ca)
        else:
            context.load_default_certs()
        if self.client_certificate and self.client_key:
            _load_client_certificate(context, self.client_certificate, self.client_key)
        return context


def load(kubeconfig: str | None) -> Credentials:
    """Read the kubeconfig, or where none is given the pod's service account."""
    if kubeconfig:
        return from_kubeconfig(Path(kubeconfig))
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster()
    raise CredentialsError("not in a cluster (KUBERNETES_SERVICE_HOST is not set): give --kubeconfig FILE")


def in_cluster(directory: Path = SERVICE_ACCOUNT_DIR) -> Credentials:
    """Return the service account that kubelet mounts; the token stays a file, for it is replaced all the time."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, ca = directory / "token", directory / "ca.crt"
    for path in (token, ca):
        if not path.is_file():
            raise CredentialsError(f"{path}: missing; is automountServiceAccountToken off?")
    if ":" in host:
        host = f"[{host}]"
    return Credentials(f"https://{host}:{port}", ca=ca.read_text(encoding="utf-8"), token_file=str(token))


def from_kubeconfig(path: Path) -> Credentials:
    """Return cluster and user of the current context."""
    document = _parse(path)
    name = document.get("current-context")
    if not name:
        raise CredentialsError(f"{path}: current-context is not set; kubectl config use-context NAME sets it")
    context = _entry(path, document, "contexts", "context", str(name))
    cluster = _entry(path, document, "clusters", "cluster", str(context.get("cluster")))
    user = _entry(path, document, "users", "user", str(context.get("user"))) if context.get("user") else {}
    for unsupported in ("exec", "auth-provider", "username"):
        if unsupported in user:
            raise CredentialsError(
                f"{path}: user {context['user']!r} uses {unsupported}, which is not supported; "
                "give one with a client certificate, a token or a tokenFile"
            )
    server = str(cluster.get("server") or "")
    if not server.startswith(("https://", "http://")):
        raise CredentialsError(f"{path}: cluster {context['cluster']!r}: server is {server!r}, not an http(s) URL")
    certificate = _pem(path, user, "client-certificate")
    key = _pem(path, user, "client-key")
    if (certificate is None) != (key is None):
        raise CredentialsError(f"{path}: user {context['user']!r} needs client-certificate and client-key, both")
    token_file = user.get("tokenFile")
    return Credentials(
        server.rstrip("/"),
        ca=_pem(path, cluster, "certificate-authority"),
        client_certificate=certificate,
        client_key=key,
        token=user.get("token"),
        token_file=str(path.parent / token_file) if token_file else None,
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )


def _parse(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CredentialsError(f"kubeconfig {path}: {error.strerror}") from error
    try:
        document = json.loads(text)
    except ValueError:
        document = _parse_yaml(path, text)
    if not isinstance(document, dict):
        raise CredentialsError(f"kubeconfig {path}: not a mapping")
    return document


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        import yaml  # not in the agent's image: there it is the service account, or JSON
    except ImportError as error:
        raise CredentialsError(f"kubeconfig {path}: not JSON, and YAML needs the pyyaml package") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CredentialsError(f"kubeconfig {path}: neither JSON nor YAML: {error}") from error


def _entry(path: Path, document: Mapping[str, Any], section: str, field: str, name: str) -> Mapping[str, Any]:
    for item in document.get(section) or []:
        if item.get("name") == name:
            return item.get(field) or {}
    raise CredentialsError(f"{path}: {section} has no entry named {name!r}")


def _pem(path: Path, holder: Mapping[str, Any], field: str) -> str | None:
    """Return `FIELD-data` (base64), else the file that `FIELD` names, relative to the kubeconfig."""
    data = holder.get(f"{field}-data")
    try:
        if data:
            return base64.b64decode(data, validate=True).decode("ascii")
        if holder.get(field):
            return path.parent.joinpath(str(holder[field])).read_text(encoding="ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise CredentialsError(f"{path}: {field}: not PEM: {error}") from error
    except OSError as error:
        raise CredentialsError(f"{path}: {field} {holder[field]}: {error.strerror}") from error
    return None


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Hand over by a file, which is all that OpenSSL's binding takes; it is ours alone and lives for this call."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(f"{certificate}\n{key}\n".encode("ascii"))
        file.flush()
        context.load_cert_chain(file.name)
