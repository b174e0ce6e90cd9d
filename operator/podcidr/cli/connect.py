"""The way to the API server: the `kubernetes` package, consistent lists as plain JSON, errors a person can act on."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from podcidr.api import names
from podcidr.kube.credentials import Credentials

PAGE = 500
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
RESTARTS = 3
BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, GONE, UNPROCESSABLE = 400, 401, 403, 404, 409, 410, 422
OURS = (names.PLURAL_IPPOOLS, names.PLURAL_NODECIDRS, names.PLURAL_IPBLOCKS)
EXIT_UNREACHABLE = 3
ENOUGH_PODS = "spec.hostNetwork=false,status.phase!=Succeeded,status.phase!=Failed"
"""Pods that can hold an address of a pool: the server leaves the others out."""

Object = dict[str, Any]


class Unreachable(click.ClickException):
    """The API server did not give what a command needs; says what was tried and what to do."""

    exit_code = EXIT_UNREACHABLE

    def show(self, file: Any = None) -> None:
        """Print one line, without click's 'Error:'."""
        click.echo(f"podcidr: {self.message}", err=True, file=file)


class Refused(Unreachable):
    """The API server answered, but this account may not read that kind."""


class Changed(click.ClickException):
    """A write was refused because the object is not what it was decided on (409, 422): read again."""

    exit_code = 1


class Api:
    """Lists of the kinds that the CLI reads, each a consistent read, in pages; and the few writes of the commands that act."""

    def __init__(self, kubeconfig: str | None = None, context: str | None = None) -> None:
        from kubernetes import client  # half a second that --help need not wait for

        self._api_client, self.origin = _api_client(kubeconfig, context)
        self.server = str(self._api_client.configuration.host)
        self._custom, self._core = client.CustomObjectsApi(self._api_client), client.CoreV1Api(self._api_client)

    def credentials(self) -> Credentials:
        """The same way in, for the operator's own client."""
        known = self._api_client.configuration
        bearer = known.auth_settings().get("BearerToken", {}).get("value") or ""
        return Credentials(
            server=self.server.rstrip("/"),
            ca=_text(known.ssl_ca_cert),
            client_certificate=_text(known.cert_file),
            client_key=_text(known.key_file),
            token=bearer.removeprefix("Bearer ").strip() or None,
            verify=bool(known.verify_ssl),
        )

    def close(self) -> None:
        """Drop the connections."""
        self._api_client.close()

    def custom(self, plural: str) -> list[Object]:
        """All objects of one of podcidr's kinds."""
        return self._list(plural, self._custom.list_cluster_custom_object, names.GROUP, names.VERSION, plural)

    def nodes(self) -> list[Object]:
        """All Nodes."""
        return self._list("nodes", self._core.list_node)

    def pods(self) -> list[Object]:
        """Pods with an address of their own that have not ended; of each only what is looked at, for there are many."""
        return self._list("pods", self._core.list_pod_for_all_namespaces, keep=_slim_pod, field_selector=ENOUGH_PODS)

    def workload_pods(self) -> list[Object]:
        """The same pods, with what tells whose they are: labels, our annotation, controller."""
        return self._list("pods", self._core.list_pod_for_all_namespaces, keep=_workload_pod, field_selector=ENOUGH_PODS)

    def has_pods(self) -> bool:
        """Whether some pod has an address of its own, as the operator asks before it accepts a CIDR."""
        page = self._page("pods", self._core.list_pod_for_all_namespaces, field_selector=ENOUGH_PODS, limit=1)
        return bool(page["items"])

    def namespaces(self) -> list[Object]:
        """All Namespaces."""
        return self._list("namespaces", self._core.list_namespace)

    def all_of(self, path: str) -> list[Object]:
        """Every object of a collection that the methods above do not know; none where the cluster does not serve it."""
        found: list[Object] = []
        token = ""
        while page := self.get(f"{path}{'&' if '?' in path else '?'}limit={PAGE}{f'&continue={quote(token)}' if token else ''}"):
            found += page["items"] or []
            if not (token := page["metadata"].get("continue") or ""):
                break
        return found

    def get(self, path: str) -> Object | None:
        """One object; None if there is none."""
        return self._ask("GET", path)

    def merge(self, path: str, body: Object) -> Object | None:
        """A merge patch; None if the object is gone."""
        return self._ask("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, *, uid: str, resource_version: str | None = None) -> Object | None:
        """Delete this object and no later one of its name; None if it is gone."""
        conditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        return self._ask("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions})

    def _ask(self, method: str, path: str, body: Object | None = None, content_type: str = "application/json") -> Object | None:
        from urllib3.exceptions import HTTPError

        headers = {"Accept": "application/json"} | ({"Content-Type": content_type} if body is not None else {})
        query = f"?fieldManager={names.MANAGER_CLI}" if method == "PATCH" else ""
        parameters = self._api_client.param_serialize(method, path + query, header_params=headers, body=body, auth_settings=["BearerToken"])
        try:
            reply = self._api_client.call_api(*parameters, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            answer: Object = json.loads(reply.read())
        except (HTTPError, OSError) as error:
            raise self._silence(error) from error
        except ValueError as error:
            raise Unreachable(f"{self.server} ({self.origin}) answers, but not as a Kubernetes API server does") from error
        if reply.status == NOT_FOUND:
            return None
        if reply.status in (CONFLICT, UNPROCESSABLE):
            raise Changed(f"{method} {path}: {answer.get('message', reply.status)}; run the command again")
        if reply.status >= BAD_REQUEST:
            raise self._no(reply.status, method, path, answer.get("message", "no reason given"))
        return answer

    def _no(self, status: int, method: str, path: str, message: str) -> Unreachable:
        where = f"{self.server} ({self.origin})"
        if status == UNAUTHORIZED:
            return Refused(f"{where} does not accept these credentials (401): log in anew, or choose others with --context NAME")
        if status == FORBIDDEN and method == "GET":
            return Refused(f"{where} does not let this account read {path.partition('?')[0]} (403): ask for the verbs get and list on it")
        return (Refused if status == FORBIDDEN else Unreachable)(f"{where} answered {status} to {method} {path}: {message}")

    def _list(
        self, plural: str, call: Any, *arguments: str, keep: Callable[[Object], Object] | None = None, **options: Any
    ) -> list[Object]:
        from kubernetes.client.exceptions import ApiException

        for attempt in range(RESTARTS):
            try:
                pages = self._pages(plural, call, *arguments, **options)
                return [keep(item) if keep else item for page in pages for item in page["items"]]
            except ApiException:  # Gone: the snapshot that the pages are of was compacted away
                if attempt == RESTARTS - 1:
                    raise Unreachable(f"{self.server}: the list of {plural} expired {RESTARTS} times while it was read") from None
        raise AssertionError("unreachable")

    def _pages(self, plural: str, call: Any, *arguments: str, **options: Any) -> Iterator[Object]:
        token = None
        while token != "":
            page = self._page(plural, call, *arguments, limit=PAGE, _continue=token, **options)
            yield page
            token = page.get("metadata", {}).get("continue") or ""

    def _page(self, plural: str, call: Any, *arguments: str, **options: Any) -> Object:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            reply = call(*arguments, **options, _preload_content=False, _request_timeout=(CONNECT_SECONDS, READ_SECONDS))
            page: Object = json.loads(reply.data)
            page["items"] = page["items"] or []
        except ApiException as error:
            if error.status == GONE:
                raise
            raise self._refusal(plural, error) from error
        except (HTTPError, OSError) as error:
            raise self._silence(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unreachable(f"{self.server} ({self.origin}) answers, but not as a Kubernetes API server does") from error
        return page

    def _silence(self, error: Exception) -> Unreachable:
        why = str(error).split(": ", 1)[-1].rstrip(".")
        return Unreachable(
            f"API server {self.server} ({self.origin}) not reachable: {why}. "
            "Is it running, and is this the right cluster? --kubeconfig FILE and --context NAME choose another"
        )

    def _refusal(self, plural: str, error: Any) -> Unreachable:
        where = f"{self.server} ({self.origin})"
        if error.status == 404 and plural in OURS:
            return Unreachable(
                f"{where} does not know {plural}.{names.GROUP}: podcidr's CRDs are missing in this cluster. "
                "Install them with kubectl apply -f crds/, or choose another cluster with --context NAME"
            )
        if error.status == 401:
            return Unreachable(f"{where} does not accept these credentials (401): log in anew, or choose others with --context NAME")
        if error.status == 403:
            return Refused(f"{where} does not let this account list {plural} (403): ask for the verb list on {plural}")
        if not error.status:  # what the client makes of TLS trouble
            return Unreachable(
                f"{where}: {error.reason}; certificate-authority of this cluster in the kubeconfig has to be the API server's"
            )
        if error.status == 400 and self.server.startswith("http://"):
            return Unreachable(f"{where} answered 400 to plain HTTP: write https:// in the kubeconfig's server")
        return Unreachable(f"{where} answered {error.status} {error.reason} to the list of {plural}: try again; its log says more")


def _text(path: str | None) -> str | None:
    return Path(path).read_text(encoding="utf-8") if path else None


def _slim_pod(pod: Object) -> Object:
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    return {
        "metadata": {"namespace": meta["namespace"], "name": meta["name"]},
        "spec": {"nodeName": spec.get("nodeName"), "hostNetwork": spec.get("hostNetwork")},
        "status": {"phase": status.get("phase"), "podIPs": status.get("podIPs")},
    }


def _workload_pod(pod: Object) -> Object:
    slim, meta = _slim_pod(pod), pod["metadata"]
    pin = (meta.get("annotations") or {}).get(names.ANNOTATION_POOLS)
    slim["metadata"] |= {
        "labels": meta.get("labels") or {},
        "annotations": {} if pin is None else {names.ANNOTATION_POOLS: pin},
        "ownerReferences": [owner for owner in meta.get("ownerReferences") or () if owner.get("controller")],
    }
    return slim


def _api_client(kubeconfig: str | None, context: str | None) -> tuple[Any, str]:
    """The client and, in words, where its address comes from."""
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = False
    if kubeconfig is None and not _default_kubeconfig().is_file() and os.environ.get("KUBERNETES_SERVICE_HOST"):
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise Unreachable(f"in-cluster account not usable: {error}; give --kubeconfig FILE") from error
        return client.ApiClient(configuration), "in-cluster account"
    path = kubeconfig or str(_default_kubeconfig())
    files = [part for part in path.split(os.pathsep) if part]
    if not any(Path(part).expanduser().exists() for part in files):
        if kubeconfig is None:
            raise Unreachable(f"no way to an API server: {path} does not exist. Give --kubeconfig FILE, or set KUBECONFIG")
        raise click.BadParameter(f"{path}: no such file", param_hint="'--kubeconfig' (or KUBECONFIG)")
    try:
        config.load_kube_config(config_file=path, context=context, client_configuration=configuration)
    except Exception as error:  # noqa: BLE001, RUF100 - it raises ConfigException, YAML's, KeyError, TypeError, as files may be wrong
        raise click.UsageError(_wrong_kubeconfig(path, context, error)) from error
    return client.ApiClient(configuration), f"context {context} of {path}" if context else f"from {path}"


def _default_kubeconfig() -> Path:
    return Path("~/.kube/config").expanduser()


def _wrong_kubeconfig(path: str, context: str | None, error: Exception) -> str:
    if context and context in str(error):
        return f"--context: {context!r}: {path} has no context of this name; kubectl config get-contexts lists them"
    if not isinstance(error, KeyError) and type(error).__module__ == "builtins":
        return f"--kubeconfig: {path}: is no kubeconfig; kubectl config view --raw prints the one that kubectl uses"
    return f"--kubeconfig: {path}: not usable: {error or type(error).__name__}"
