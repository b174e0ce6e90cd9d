"""`podcidr explain`: why things are as they are, in words."""

import click
from rich.console import Console

from podcidr.api.convert import service_prefixes
from podcidr.cli.connect import Api, Refused
from podcidr.cli.explain_address import explain_address
from podcidr.cli.explain_node import explain_node
from podcidr.cli.explain_pod import explain_pod
from podcidr.cli.explain_pool import explain_pool
from podcidr.cli.options import connect, connection_options
from podcidr.cli.output import console, output_option, print_document, print_wrapped
from podcidr.cli.reading import Address
from podcidr.cli.scene import Explanation, look
from podcidr.core.errors import BadValue
from podcidr.core.prefix import Family, Prefix, parse_address

MAPPED = 0xFFFF
"""What stands before an IPv4 address that is written as IPv6, ::ffff:10.64.0.2."""
KINDS = ("pod", "node", "pool", "ip")


@click.command("explain")
@click.argument("kind", metavar="pod|node|pool|ip", type=click.Choice(KINDS))
@click.argument("name", metavar="NAME")
@output_option
@connection_options
def explain(kind: str, name: str, output: str) -> int:
    """Say in words why a pod, node, pool or address is as it is, and what happens next.

    Gives the chain of reasons: which pools were tried in which order, which rule refused, what the operator will do now and what
    when its waits have run out, and what you can do. Runs the operator's own planner and the agents' own rules for pins on what
    the API server holds; changes nothing. What only nodes know (which addresses of a block cool down) it can't tell.

    \b
    NAME is NAMESPACE/NAME of a pod, the name of a node or an IPPool, or an address.
    Examples:
      podcidr explain pod shop/web-0
      podcidr explain node n1
      podcidr explain pool default
      podcidr explain ip 10.64.3.7 -o json
    """
    found = EXPLAINERS[kind](connect(), name)
    if output == "table":
        _print(console(), found)
    else:
        print_document("Explanation", found.__dict__, output)
    return 0


def _pod(api: Api, name: str) -> Explanation:
    namespace, slash, pod_name = name.partition("/")
    if not slash or not pod_name or "/" in pod_name:
        raise click.BadParameter(f"{name!r}: write a pod as NAMESPACE/NAME", param_hint="'NAME'")
    pod = api.get(f"/api/v1/namespaces/{namespace}/pods/{pod_name}")
    if pod is None:
        raise click.UsageError(f"no such pod: {name}; kubectl get pods -n {namespace} lists them")
    return explain_pod(look(api), pod)


def _node(api: Api, name: str) -> Explanation:
    scene = look(api)
    if name not in {*scene.snapshot.nodes, *scene.snapshot.nodecidrs, *scene.round.scene.claims}:
        raise click.UsageError(f"no such node: {name}; podcidr show nodes lists them all")
    return explain_node(scene, name)


def _pool(api: Api, name: str) -> Explanation:
    scene = look(api)
    if (pool := scene.snapshot.pools.get(name)) is None:
        raise click.UsageError(f"no such pool: {name}; podcidr show pools lists them all")
    return explain_pool(scene, pool)


def _address(api: Api, text: str) -> Explanation:
    try:
        address = Address(*parse_address(text))
    except BadValue as error:
        raise click.BadParameter(f"{error}; for a block: podcidr show blocks {text}", param_hint="'NAME'") from error
    if address.family is Family.IPV6 and address.number >> 32 == MAPPED:
        address = Address(Family.IPV4, address.number & 0xFFFFFFFF)
    return explain_address(look(api), address, _services(api))


def _services(api: Api) -> tuple[Prefix, ...]:
    """Service CIDRs; none from a server older than 1.33, or where this account may not look."""
    try:
        found = api.get("/apis/networking.k8s.io/v1/servicecidrs")
    except Refused:
        return ()
    return tuple(prefix for item in (found or {}).get("items") or () for prefix in service_prefixes(item))


EXPLAINERS = {"pod": _pod, "node": _node, "pool": _pool, "ip": _address}


def _print(out: Console, found: Explanation) -> None:
    print_wrapped(out, f"{found.subject} {found.verdict}", style="heading")
    for title, lines in (("because", found.because), ("next", found.next), ("you can", found.do)):
        if lines:
            print_wrapped(out, f"{title}:", style="dim")
        for line in lines:
            print_wrapped(out, f"- {line}", "  ")
