"""Every way to name an API server, and the message for each way to name it wrongly."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from podcidr.kube.credentials import CredentialsError, in_cluster, load

PEM = "-----BEGIN CERTIFICATE-----\n"


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://[::1]:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }


def write(path: Path, document: object) -> str:
    path.write_text(json.dumps(document))
    return str(path)


def test_certificate_from_data_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("key")
    data = base64.b64encode(PEM.encode()).decode()
    user = {"client-certificate-data": data, "client-key": "key.pem"}
    found = load(write(tmp_path / "config", kubeconfig({"certificate-authority-data": data}, user)))
    assert found.server == "https://[::1]:6443"
    assert (found.ca, found.client_certificate, found.client_key) == (PEM, PEM, "key")


def test_yaml_and_token(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "current-context: here\ncontexts: [{name: here, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n"
    )
    found = load(str(config))
    assert (found.token, found.ssl_context()) == ("t", None)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a mapping"),
        ({}, "current-context is not set"),
        ({"current-context": "x"}, "contexts has no entry named 'x'"),
        (kubeconfig({"server": "127.0.0.1"}, {}), "server is '127.0.0.1', not an http"),
        (kubeconfig({}, {"exec": {"command": "aws"}}), "user 'u' uses exec, which is not supported"),
        (kubeconfig({}, {"client-key-data": "a2V5"}), "needs client-certificate and client-key, both"),
        (kubeconfig({"certificate-authority-data": "*"}, {}), "certificate-authority: not PEM"),
        (kubeconfig({"certificate-authority": "no/ca"}, {}), "no/ca: No such file"),
    ],
)
def test_bad_kubeconfig_is_named(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(CredentialsError, match=message):
        load(write(tmp_path / "config", document))


def test_missing_and_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CredentialsError, match="No such file"):
        load(str(tmp_path / "none"))
    (tmp_path / "bad").write_text("{a: [")
    with pytest.raises(CredentialsError, match="neither JSON nor YAML"):
        load(str(tmp_path / "bad"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(CredentialsError, match="give --kubeconfig"):
        load(None)


def test_in_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    (tmp_path / "ca.crt").write_text(PEM)
    with pytest.raises(CredentialsError, match="automountServiceAccountToken"):
        in_cluster(tmp_path)
    (tmp_path / "token").write_text("t")
    found = in_cluster(tmp_path)
    assert (found.server, found.token_file, found.ca) == ("https://[fd00::1]:6443", str(tmp_path / "token"), PEM)
