"""Flags, logs, metrics and endpoints: what both programs are started with."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import structlog
from prometheus_client import generate_latest

from podcidr import config, logs
from podcidr.config import Address
from podcidr.endpoints import Endpoints
from podcidr.metrics import AgentMetrics, OperatorMetrics


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_NAME", "n1")
    operator, agent = config.parse_operator([]), config.parse_agent([])
    assert (operator.listen, operator.lease_seconds, operator.leader_election) == (Address("0.0.0.0", 8080), 15, True)
    assert operator.identity != config.parse_operator([]).identity, "a restarted process is another candidate"
    assert (agent.node_name, agent.state_dir, str(agent.listen)) == ("n1", "/run/podcidr", "0.0.0.0:8081")


def test_addresses() -> None:
    assert config.parse_operator(["--listen", ":0"]).listen == Address("0.0.0.0", 0)
    assert str(config.parse_operator(["--listen", "[::1]:80"]).listen) == "[::1]:80"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--listen", "8080"),
        ("--listen", "::1:80"),
        ("--listen", "h:99999"),
        ("--lease-seconds", "0"),
        ("--lease-seconds", "nan"),
        ("--lost-node-seconds", "10m"),
        ("--namespace", "Not_A_Label"),
        ("--lease-name", "a..b"),
        ("--log-format", "xml"),
        ("--lease-sec", "15"),
    ],
)
def test_bad_operator_flag_is_named(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        config.parse_operator([flag, value])
    assert caught.value.code == 2
    assert flag in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "--node-name"),
        (["--node-name", "A B"], "--node-name"),
        (["--node-name", "n", "--state-dir", "run"], "--state-dir"),
        (["--node-name", "n", "--reclaim-grace-seconds", "-1"], "--reclaim-grace-seconds"),
    ],
)
def test_bad_agent_flag_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    with pytest.raises(SystemExit) as caught:
        config.parse_agent(arguments)
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("parse", [config.parse_operator, config.parse_agent])
def test_help_explains_every_flag(parse: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(parse)
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    entries = re.split(r"^  (?=-)", text, flags=re.MULTILINE)[1:]
    assert len(entries) >= 8
    assert [entry for entry in entries if len(entry.split()) < 5] == [], "a flag without words"


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.mark.usefixtures("restored_logging")
def test_every_record_is_one_json_line() -> None:
    stream = io.StringIO()
    logs.configure("auto", "info", stream)
    structlog.get_logger("podcidr.test").info("granted", node="n1", block="10.0.0.0/28")
    reference = {"kind": "IPPool", "name": "default"}
    extra = {"settings": object(), "k8s_ref": reference}
    logging.getLogger("kopf.objects").info("Handler succeeded.", extra=extra)
    logging.getLogger("kopf.objects").warning("Handler %s", "failed", extra=extra)
    structlog.get_logger("podcidr.test").debug("not at this level")
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("oops")
    granted, failed, oops = map(json.loads, stream.getvalue().splitlines())
    assert (granted["event"], granted["node"], granted["level"]) == ("granted", "n1", "info")
    assert set(failed) == {"event", "logger", "level", "timestamp", "kind", "name"}
    assert (failed["event"], failed["name"]) == ("Handler failed", "default")
    assert "ValueError: boom" in oops["exception"]


@pytest.mark.usefixtures("restored_logging")
def test_text_for_people() -> None:
    stream = io.StringIO()
    logs.configure("text", "debug", stream)
    structlog.get_logger("podcidr.test").debug("granted", node="n1")
    assert re.search(r"granted .*node=n1", stream.getvalue())


def test_metrics_have_help_and_never_name_a_node() -> None:
    for metrics in (OperatorMetrics(), AgentMetrics()):
        metrics.on_request("get", "nodes", "200", 0.01)
        metrics.on_request("watch", "nodes", "200", 400.0)
        metrics.add_reflector("Node", lambda: 1.5, lambda: 2, lambda: 3)
        text = generate_latest(metrics.registry).decode()
        families = re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)
        assert all(words.strip() for _, words in families)
        assert 'podcidr_reflector_lists_total{kind="Node"} 2.0' in text
        assert 'podcidr_api_requests_total{code="200",resource="nodes",verb="watch"} 1.0' in text
        assert 'podcidr_api_request_duration_seconds_count{resource="nodes",verb="watch"}' not in text


async def test_endpoints_speak_for_the_program(tmp_path: Path) -> None:
    trouble: dict[str, str | None] = {"healthy": None, "ready": "NodeCIDR not listed yet"}
    file = tmp_path / "ready"
    endpoints = Endpoints(
        "127.0.0.1",
        0,
        registry=AgentMetrics().registry,
        healthy=lambda: trouble["healthy"],
        ready=lambda: trouble["ready"],
        ready_file=str(file),
    )
    await endpoints.start()
    async with aiohttp.ClientSession(f"http://{endpoints.address}") as session:

        async def get(path: str) -> tuple[int, str]:
            async with session.get(path) as response:
                return response.status, await response.text()

        assert await get("/readyz") == (503, "NodeCIDR not listed yet\n")
        assert not file.exists()
        trouble["ready"] = None
        async with asyncio.timeout(5):
            while not file.exists():  # noqa: ASYNC110 - a file is what is promised
                await asyncio.sleep(0.01)
        assert file.read_text() == f"{endpoints.address}\n"
        assert await get("/readyz") == (200, "ok\n")
        trouble["healthy"] = "loop lag 7 s"
        assert (await get("/healthz"))[0] == 503
        assert "podcidr_agent_reports" in (await get("/metrics"))[1]
    await endpoints.stop()
    assert list(tmp_path.iterdir()) == []
