"""A container runtime's part: runs the real plugin as ptp would, and keeps results as libcni does."""

import asyncio
import base64
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORK = "podcidr"
INTERFACE = "eth0"
TRY_AGAIN = 11


class CniError(RuntimeError):
    """The plugin's error, by code."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{message} {details}".strip() + f" (code {code})")
        self.code = code
        self.message = message
        self.details = details


@dataclass(frozen=True)
class Sandbox:
    """A pod's sandbox: a container ID of its own, and a network namespace."""

    container: str
    netns: str
    namespace: str
    pod: str
    uid: str

    @property
    def arguments(self) -> list[tuple[str, str]]:
        """CNI_ARGS, as containerd and CRI-O give them."""
        return [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", self.namespace),
            ("K8S_POD_NAME", self.pod),
            ("K8S_POD_INFRA_CONTAINER_ID", self.container),
            ("K8S_POD_UID", self.uid),
        ]


@dataclass
class Runtime:
    """The plugin with one node's configuration."""

    plugin: Path
    state_dir: Path
    cache: Path
    wait_seconds: float = 9
    limit_seconds: float = 60

    def configuration(self, **more: Any) -> dict[str, Any]:
        """What the plugin gets on its standard input."""
        ipam = {"type": self.plugin.name, "stateDir": str(self.state_dir), "waitSeconds": self.wait_seconds}
        return {"cniVersion": "1.1.0", "name": NETWORK, "type": "ptp", "ipam": ipam, **more}

    async def add(self, sandbox: Sandbox, **more: Any) -> dict[str, Any]:
        """ADD; gives the result and keeps it, or raises CniError."""
        result = await self.run("ADD", sandbox, self.configuration(**more))
        self._keep(sandbox, result)
        return result

    async def delete(self, sandbox: Sandbox) -> None:
        """DEL; then the kept result goes."""
        await self.run("DEL", sandbox, self.configuration())
        self._cached(sandbox).unlink(missing_ok=True)

    async def run(self, command: str, sandbox: Sandbox | None, configuration: dict[str, Any]) -> dict[str, Any]:
        """One run of the plugin, for any command."""
        pipe = asyncio.subprocess.PIPE
        environment = self._environment(command, sandbox)
        process = await asyncio.create_subprocess_exec(self.plugin, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(self.limit_seconds):
                output, complaint = await process.communicate(json.dumps(configuration).encode())
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        return answer(process.returncode or 0, output, complaint)

    async def run_killed(self, command: str, sandbox: Sandbox, *, after_seconds: float) -> None:
        """A run that is killed -9 on its way, wherever it then is; it may have ended before."""
        # asyncio's own would race with its reaper here, and say so on standard error.
        await asyncio.to_thread(self._run_killed, self._environment(command, sandbox), after_seconds)

    def _run_killed(self, environment: dict[str, str], after_seconds: float) -> None:
        configuration = json.dumps(self.configuration()).encode()
        try:
            subprocess.run([self.plugin], env=environment, input=configuration, capture_output=True, timeout=after_seconds, check=False)
        except subprocess.TimeoutExpired:
            pass  # it is dead: run() has killed it

    def _environment(self, command: str, sandbox: Sandbox | None) -> dict[str, str]:
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": str(self.plugin.parent)}
        if sandbox is not None:
            environment |= {
                "CNI_CONTAINERID": sandbox.container, "CNI_NETNS": sandbox.netns, "CNI_IFNAME": INTERFACE,
                "CNI_ARGS": ";".join(f"{key}={value}" for key, value in sandbox.arguments),
            }  # fmt: skip
        return environment

    def _cached(self, sandbox: Sandbox) -> Path:
        return self.cache / f"{NETWORK}-{sandbox.container}-{INTERFACE}"

    def _keep(self, sandbox: Sandbox, result: dict[str, Any]) -> None:
        """The file that libcni writes after an ADD of the whole chain."""
        ips = [{**ip, "interface": 0} for ip in result.get("ips", [])]
        interfaces = [{"name": INTERFACE, "sandbox": sandbox.netns}]
        content = {
            "kind": "cniCacheV1", "containerId": sandbox.container, "ifName": INTERFACE, "networkName": NETWORK,
            "netns": sandbox.netns, "cniArgs": sandbox.arguments,
            "config": base64.b64encode(json.dumps(self.configuration()).encode()).decode(),
            "result": {**result, "interfaces": interfaces, "ips": ips},
        }  # fmt: skip
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._cached(sandbox).write_text(json.dumps(content))


def addresses_of(result: dict[str, Any]) -> list[str]:
    """The addresses of a result, without prefix lengths."""
    return [str(ip["address"]).partition("/")[0] for ip in result.get("ips", [])]


def answer(code: int, output: bytes, complaint: bytes) -> dict[str, Any]:
    """What a plugin printed, or CniError."""
    try:
        answer: dict[str, Any] = json.loads(output) if output.strip() else {}
    except ValueError:
        answer = {"code": 999, "msg": f"no JSON on standard output: {output[:200]!r}"}
    if code == 0 and "code" not in answer:
        return answer
    text = answer.get("msg") or complaint.decode(errors="replace").strip() or f"exit code {code} without a word"
    raise CniError(int(answer.get("code", 999)), str(text), str(answer.get("details", "")))
