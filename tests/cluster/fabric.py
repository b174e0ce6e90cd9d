"""A network for nodes: each a network namespace with a link to one bridge, which stands in a namespace of its own.

     node n1              switch (bridge br0)             node n2
pod ─┐  eth0 ───────────── p1 ═══════ p2 ───────────── eth0  ┌─ pod
pod ─┴─ ptp or cni0                                    cni0 ─┴─ pod
"""

import asyncio
import ctypes
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.kubelet import Cluster, Machine
from tests.cluster.runtime import NETWORK, Runtime, Sandbox, answer
from tools import cni_assets

T = TypeVar("T")
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_TRY_SECONDS = 0.3


async def run(netns: Path | str, *command: str | Path, stdin: str = "") -> str:
    """A program in a network namespace; what it printed, or an error with what it complained about."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("nsenter", f"--net={netns}", *command, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(60):
        output, complaint = await process.communicate(stdin.encode())
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {complaint.decode().strip()} {output.decode().strip()}")
    return output.decode()


async def ip(netns: Path | str, *lines: str) -> None:
    """Lines for `ip -batch`: all of them or an error."""
    await run(netns, "ip", "-batch", "-", stdin="\n".join(lines) + "\n")


async def addresses(netns: Path | str) -> set[str]:
    """All addresses in a network namespace but the link-local ones."""
    links = json.loads(await run(netns, "ip", "-json", "address", "show"))
    return {info["local"] for link in links for info in link.get("addr_info", []) if info["scope"] == "global"}


async def destinations(netns: Path | str) -> set[str]:
    """All destinations that a network namespace has routes to."""
    texts = [await run(netns, "ip", "-json", family, "route", "show") for family in ("-4", "-6")]
    return {route["dst"] for text in texts for route in json.loads(text or "[]")}


@dataclass
class LibcniRuntime(Runtime):
    """A runtime that runs the whole chain through libcni, in the node's network namespace."""

    netns: Path = Path()
    programs: Path = Path()
    conflist: Path = Path()

    async def add(self, sandbox: Sandbox, **_: Any) -> dict[str, Any]:
        """ADD of all plugins; libcni keeps the result."""
        return await self.attach("add", sandbox)

    async def delete(self, sandbox: Sandbox) -> None:
        """DEL of all plugins."""
        await self.attach("del", sandbox)

    async def attach(self, verb: str, sandbox: Sandbox) -> dict[str, Any]:
        """Any verb."""
        flags = [
            f"-conflist={self.conflist}", f"-cache={self.cache.parent}", f"-plugins={self.programs}:{self.plugin.parent}",
            f"-container={sandbox.container}", f"-netns={sandbox.netns}",
            *(f"-arg={key}={value}" for key, value in sandbox.arguments), verb,
        ]  # fmt: skip
        pipe = asyncio.subprocess.PIPE
        program = self.programs / "attach"
        process = await asyncio.create_subprocess_exec("nsenter", f"--net={self.netns}", program, *flags, stdout=pipe, stderr=pipe)
        async with asyncio.timeout(self.limit_seconds):
            output, complaint = await process.communicate()
        return answer(process.returncode or 0, output, complaint)


@dataclass
class Fabric:
    """The switch, and the nodes that are plugged into it."""

    cluster: Cluster
    switch: Path = Path()
    nodes: dict[str, Path] = field(default_factory=dict)

    async def start(self) -> None:
        """A bridge that forwards, so that it can be a router too."""
        self.switch = await self.cluster.namespaces.make()
        await ip(self.switch, "link set lo up", "link add br0 type bridge", "link set br0 up")
        await self._forward(self.switch)

    async def plug(self, machine: Machine, network: dict[str, Any], *, segment: bool = False) -> None:
        """Give a machine a network of its own. With `segment` its pods join the switch, by a bridge that has the link in it."""
        node = self.nodes[machine.name] = await self.cluster.namespaces.make()
        port, interface = f"p{len(self.nodes)}", "cni0" if segment else "eth0"
        await ip(self.switch, f"link add {port} type veth peer name eth0 netns {node}", f"link set {port} master br0 up")
        # An address of its own: else a bridge takes that of a port, another one with each pod, and CHECK complains.
        add = f"link add cni0 address 02:00:00:00:00:{len(self.nodes):02x} type bridge"
        bridge = [add, "link set eth0 master cni0", "link set cni0 up"] if segment else []
        await ip(node, "link set lo up", "link set eth0 up", *bridge)
        await ip(node, f"address add {machine.address}/24 dev {interface}", f"address add {node_ipv6(machine)}/64 dev {interface} nodad")
        await self._forward(node)
        cache = machine.directory / "libcni" / "results"
        conflist = machine.directory / "10-podcidr.conflist"
        ipam = {"type": machine.runtime.plugin.name, "stateDir": str(machine.state_dir), "waitSeconds": 9}
        ipam["routes"] = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        conflist.write_text(json.dumps({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [{**network, "ipam": ipam}]}))
        programs = await asyncio.to_thread(cni_assets.build)
        machine.runtime = LibcniRuntime(
            machine.runtime.plugin, machine.state_dir, cache, netns=node, programs=programs, conflist=conflist
        )  # fmt: skip

    async def route(self) -> None:
        """What a BGP speaker or a cloud's route controller does: send each block to the node that has it."""
        for name, machine in self.cluster.machines.items():
            nodecidr = await self.cluster.api.get(f"/apis/podcidr.io/v1alpha1/nodecidrs/{name}")
            blocks = [ip_network(block["cidr"]) for block in nodecidr["spec"].get("blocks", [])]
            routes = [f"route replace {block} via {machine.address if block.version == 4 else node_ipv6(machine)}" for block in blocks]
            for other in self.nodes:
                if other != name and routes:
                    await ip(self.nodes[other], *routes)

    async def _forward(self, netns: Path) -> None:
        await run(netns, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")


def node_ipv6(machine: Machine) -> str:
    """The node's own address: its IPv4 one's last number in a /64."""
    return f"fd00:ffff::{machine.address.rpartition('.')[2]}"


async def reaches(netns: Path | str, address: str, *, within_seconds: float = 10) -> bool:
    """Whether an echo request from the namespace is answered by that very address."""
    return await asyncio.to_thread(_inside, Path(netns), lambda: _ping(address, within_seconds))


async def unreached(pairs: Iterable[tuple[Path | str, str]]) -> list[str]:
    """Of (from, to) all that get no answer."""
    pairs = list(pairs)
    answered = await asyncio.gather(*(reaches(netns, address) for netns, address in pairs))
    return [f"{Path(netns).name} to {address}" for (netns, address), reached in zip(pairs, answered, strict=True) if not reached]


def _inside(netns: Path, do: Callable[[], T]) -> T:
    """In a thread that enters the namespace and ends there: no other code must ever run in it."""
    result: list[T] = []
    failed: list[Exception] = []

    def enter() -> None:
        try:
            with netns.open() as file:
                if _LIBC.setns(file.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"setns {netns}")
            result.append(do())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


def _ping(address: str, within_seconds: float) -> bool:
    version = ip_address(address).version
    family, protocol, request, reply = (
        (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)
    )
    number = int.from_bytes(os.urandom(2))
    deadline = time.monotonic() + within_seconds
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(_TRY_SECONDS)
        while time.monotonic() < deadline:
            try:
                raw.sendto(_echo(request, number), (address, 0))
            except OSError:  # no route yet, or the address is not answered for
                time.sleep(_TRY_SECONDS)
                continue
            if _answered(raw, address, struct.pack("!BxxxHH", reply, number, 1), 20 if version == 4 else 0):
                return True
    return False


def _answered(raw: socket.socket, address: str, expected: bytes, offset: int) -> bool:
    until = time.monotonic() + _TRY_SECONDS
    while time.monotonic() < until:
        try:
            packet, (source, *_) = raw.recvfrom(2048)
        except TimeoutError:
            return False
        head = packet[offset : offset + 8]
        if source == address and head[:1] + head[4:] == expected[:1] + expected[4:]:
            return True
    return False


def _echo(kind: int, number: int) -> bytes:
    """An echo request. The kernel fills in the checksum of ICMPv6, ours is that of RFC 1071."""
    words = [kind << 8, 0, number, 1]
    total = sum(words)
    words[1] = ~(total + (total >> 16)) & 0xFFFF
    return struct.pack("!4H", *words)
