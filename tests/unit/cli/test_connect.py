"""What the CLI says when an API server misbehaves: a small HTTP server plays it."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from podcidr.cli.connect import Api, Refused, Unreachable

Answer = tuple[int, Any]


class Handler(BaseHTTPRequestHandler):
    answers: ClassVar[list[Answer]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.answers.pop(0)
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server names it
        pass


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    Handler.answers, Handler.asked = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "x", "user": {}}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }  # fmt: skip
    (tmp_path / "config").write_text(json.dumps(config))
    api = Api(str(tmp_path / "config"))
    yield api
    api.close()
    server.shutdown()
    thread.join()
    server.server_close()


def status(code: int, reason: str = "Reason") -> Answer:
    return code, {"kind": "Status", "code": code, "reason": reason}


def page(*names: str, token: str = "") -> Answer:
    return 200, {"kind": "NodeList", "metadata": {"continue": token}, "items": [{"metadata": {"name": name}} for name in names]}


def test_pages_are_joined_and_read_consistently(api: Api) -> None:
    Handler.answers += [page("a", "b", token="t1"), page("c")]
    assert [item["metadata"]["name"] for item in api.nodes()] == ["a", "b", "c"]
    assert Handler.asked == ["/api/v1/nodes?limit=500", "/api/v1/nodes?continue=t1&limit=500"]


def test_a_list_that_expires_half_way_begins_again(api: Api) -> None:
    Handler.answers += [page("a", token="t1"), status(410, "Expired"), page("a", token="t2"), page("b")]
    assert [item["metadata"]["name"] for item in api.nodes()] == ["a", "b"]


def test_a_list_that_expires_every_time_is_given_up(api: Api) -> None:
    Handler.answers += [status(410, "Expired")] * 3
    with pytest.raises(Unreachable, match="the list of nodes expired 3 times"):
        api.nodes()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(401, "Unauthorized"), r"does not accept these credentials \(401\)"),
        (status(403, "Forbidden"), r"does not let this account list ippools \(403\)"),
        (status(404, "NotFound"), r"podcidr's CRDs are missing in this cluster\. Install them with kubectl apply"),
        ((404, "404 page not found"), "podcidr's CRDs are missing"),
        (status(500, "InternalError"), "answered 500 Internal Server Error to the list of ippools"),
        ((200, "<html>"), "not as a Kubernetes API server does"),
        ((200, "[]"), "not as a Kubernetes API server does"),
    ],
)
def test_each_refusal_has_words_and_a_remedy(api: Api, answer: Answer, words: str) -> None:
    Handler.answers.append(answer)
    with pytest.raises(Unreachable, match=words) as error:
        api.custom("ippools")
    assert error.value.exit_code == 3
    assert isinstance(error.value, Refused) == (answer[0] == 403)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, r"does not accept these credentials \(401\): log in anew"),
        (403, r"does not let this account read /api/v1/namespaces/a/pods/b \(403\): ask for the verbs get and list on it"),
        (500, "answered 500 to GET /api/v1/namespaces/a/pods/b"),
    ],
)
def test_one_object_refused_has_words_too(api: Api, code: int, words: str) -> None:
    Handler.answers.append(status(code))
    with pytest.raises(Unreachable, match=words) as error:
        api.get("/api/v1/namespaces/a/pods/b?x=y")
    assert isinstance(error.value, Refused) == (code != 500)
