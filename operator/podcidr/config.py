"""Flags of `podcidr operator` and `podcidr agent`, and the frozen values that come of them."""

import argparse
import os
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from podcidr.logs import FORMATS, LEVELS

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True)
class Address:
    """HOST:PORT to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class OperatorConfig:
    """What `podcidr operator` was told."""

    kubeconfig: str | None = None
    namespace: str = "podcidr-system"
    listen: Address = Address("0.0.0.0", 8080)  # noqa: S104 - kubelet's probes come from outside
    ready_file: str | None = None
    identity: str = ""
    lease_name: str = "podcidr-operator"
    lease_seconds: float = 15.0
    lost_node_seconds: float = 600.0
    resync_seconds: float = 300.0
    after_restore: bool = False
    leader_election: bool = True
    log_format: str = "auto"
    log_level: str = "info"


@dataclass(frozen=True)
class AgentConfig:
    """What `podcidr agent` was told."""

    node_name: str
    kubeconfig: str | None = None
    state_dir: str = "/run/podcidr"
    listen: Address = Address("0.0.0.0", 8081)  # noqa: S104 - as above
    ready_file: str | None = None
    cni_cache_dir: str = "/var/lib/cni/results"
    reclaim_grace_seconds: float = 60.0
    install_cni: bool = False
    uninstall_cni: bool = False
    plugin: str = "/usr/local/bin/podcidr-ipam"
    conflist: str | None = None
    cni_bin_dir: str = "/opt/cni/bin"
    cni_conf_dir: str = "/etc/cni/net.d"
    resync_seconds: float = 300.0
    log_format: str = "auto"
    log_level: str = "info"


def parse_operator(argv: Sequence[str]) -> OperatorConfig:
    """Parse; a bad value ends the process with status 2 and names its flag."""
    parser = _parser(
        "operator",
        "Gives blocks of pool addresses to nodes and takes them back. Run two replicas: one leads, one waits.",
        listen="0.0.0.0:8080",
    )
    parser.add_argument(
        "--namespace",
        type=_dns_label,
        default="podcidr-system",
        metavar="NAME",
        help="namespace of the Lease and of the history (default: %(default)s)",
    )
    parser.add_argument(
        "--identity",
        default="",
        metavar="NAME",
        help="holder name in the Lease; must differ at every start (default: host name and a random suffix)",
    )
    parser.add_argument(
        "--lease-name",
        type=_dns_subdomain,
        default="podcidr-operator",
        metavar="NAME",
        help="Lease that replicas compete for (default: %(default)s)",
    )
    parser.add_argument(
        "--lease-seconds",
        type=_seconds(least=1),
        default=15.0,
        metavar="N",
        help="a leader that is not heard of for so long is replaced; it stops writing after 2/3 (default: 15)",
    )
    parser.add_argument(
        "--lost-node-seconds",
        type=_seconds(least=1),
        default=600.0,
        metavar="N",
        help="blocks of a node that is gone count as empty after so long without a report; keep it above the "
        "longest termination grace period of a pod (default: 600)",
    )
    parser.add_argument(
        "--after-restore",
        action="store_true",
        help="etcd was restored from a backup: claim nothing before the nodes have reported what they use",
    )
    parser.add_argument(
        "--no-leader-election",
        dest="leader_election",
        action="store_false",
        help="write without holding a Lease: for development, with one process",
    )
    options = parser.parse_args(argv)
    options.identity = options.identity or f"{socket.gethostname()}_{secrets.token_hex(4)}"
    return OperatorConfig(**{field.name: getattr(options, field.name) for field in fields(OperatorConfig)})


def parse_agent(argv: Sequence[str]) -> AgentConfig:
    """Parse; a bad value ends the process with status 2 and names its flag."""
    parser = _parser(
        "agent",
        "Runs on each node: brings the node's blocks to the CNI plugin and reports what is in use.",
        listen="0.0.0.0:8081",
    )
    parser.add_argument(
        "--node-name",
        type=_dns_subdomain,
        default=os.environ.get("NODE_NAME") or None,
        metavar="NAME",
        help="name of this node's Node object (default: environment variable NODE_NAME)",
    )
    parser.add_argument(
        "--state-dir",
        type=_absolute_path,
        default="/run/podcidr",
        metavar="DIR",
        help="what the plugin reads, in memory: it has to be empty after a reboot (default: %(default)s)",
    )
    parser.add_argument(
        "--cni-cache-dir",
        type=_absolute_path,
        default="/var/lib/cni/results",
        metavar="DIR",
        help="results that the runtime keeps; a lost state dir is rebuilt from them (default: %(default)s)",
    )
    parser.add_argument(
        "--reclaim-grace-seconds",
        type=_seconds(least=0),
        default=60.0,
        metavar="N",
        help="an attachment without pod and network namespace is seen twice, so far apart, before it is taken back (default: 60)",
    )
    _add_installation(parser)
    options = parser.parse_args(argv)
    if options.node_name is None and not (options.install_cni or options.uninstall_cni):
        parser.error("argument --node-name: required, for NODE_NAME is not set")
    options.node_name = options.node_name or ""
    return AgentConfig(**{field.name: getattr(options, field.name) for field in fields(AgentConfig)})


def _add_installation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("installation", "instead of running: what an init container does, on the node's directories")
    what = group.add_mutually_exclusive_group()
    what.add_argument("--install-cni", action="store_true", help="put plugin and conflist in place by rename, and end")
    what.add_argument(
        "--uninstall-cni",
        action="store_true",
        help="take the conflist away, and the plugin unless a configuration or an attachment in --state-dir still needs it; and end",
    )
    paths = {
        "--plugin": ("FILE", "/usr/local/bin/podcidr-ipam", "the plugin to install (default: %(default)s)"),
        "--conflist": ("FILE", None, "network configuration to install under its own name; never over another network's (default: none)"),
        "--cni-bin-dir": ("DIR", "/opt/cni/bin", "where the runtime looks for plugins (default: %(default)s)"),
        "--cni-conf-dir": ("DIR", "/etc/cni/net.d", "where the runtime looks for configurations (default: %(default)s)"),
    }
    for flag, (metavar, default, explained) in paths.items():
        group.add_argument(flag, type=_absolute_path, default=default, metavar=metavar, help=explained)


def _parser(program: str, description: str, *, listen: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that both programs have."""
    parser = argparse.ArgumentParser(f"podcidr {program}", description=description, allow_abbrev=False)
    parser.add_argument("--kubeconfig", metavar="FILE", help="how to reach the API server (default: the pod's service account)")
    parser.add_argument(
        "--listen",
        type=_address,
        default=listen,
        metavar="HOST:PORT",
        help="where /healthz, /readyz and /metrics are served; port 0: any free one (default: %(default)s)",
    )
    parser.add_argument("--ready-file", metavar="FILE", help="written when ready, with the real HOST:PORT; taken away at the end")
    parser.add_argument(
        "--resync-seconds",
        type=_seconds(least=1),
        default=300.0,
        metavar="N",
        help="go over everything at least so often, changes or not (default: 300)",
    )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default="auto",
        help="auto is text on a terminal, else JSON lines (default: %(default)s)",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="least level (default: %(default)s)")
    return parser


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, e.g. 127.0.0.1:8080, :0 or [::1]:8080")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise argparse.ArgumentTypeError(f"{text!r}: an IPv6 address needs brackets, e.g. [::1]:8080")
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - as net/http reads `:8080`


def _seconds(*, least: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least {least:g}")
        return value

    return parse


def _dns_label(text: str) -> str:
    if not _DNS_LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no namespace name: lower case letters, digits and '-'")
    return text


def _dns_subdomain(text: str) -> str:
    if not _DNS_SUBDOMAIN.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no object name: lower case letters, digits, '-' and '.'")
    return text


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute path")
    return text
