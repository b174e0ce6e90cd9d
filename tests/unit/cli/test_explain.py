"""`explain` on planted clusters: the chain of reasons is the rules' own, and each sentence names what to do next."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from podcidr.cli.main import main
from podcidr.core.pins import PoolRule, resolve
from tests.unit.cli.objects import FakeApi, Object, block, lease, namespace, node, nodecidr, pod, pool, small_cluster

World = dict[str, list[Object]]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """The small cluster, an operator that leads, and a namespace without a pin."""
    found = small_cluster() | {"leases": [lease()], "namespaces": [namespace("default")]}
    monkeypatch.setattr("podcidr.cli.explain.connect", lambda: FakeApi(found))
    return found


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["explain", *words, "-o", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["apiVersion"], found["kind"]) == ("cli.podcidr.io/v1", "Explanation")
    return found


def text(found: dict[str, Any]) -> str:
    return "\n".join([found["verdict"], *found["because"], *found["next"], *found["do"]])


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(name: str = "w", node_name: str = "n1", **metadata: Any) -> Object:
    return pod(name, node_name, phase="Pending", **metadata)


def fill(world: World, node_name: str, pending: int, *, used: int = 15) -> None:
    """The pool is one block of 16, which the node has filled; pods wait there."""
    world["ippools"] = [pool("default", "10.64.0.0/28")]
    full = nodecidr(node_name, {"10.64.0.0/28": used}, pending=pending)
    full["status"]["demand"] = [{"pools": ["default"], "family": "ipv4", "pending": pending, "burst": 0}]
    world["nodecidrs"], world["ipblocks"] = [full], [block("10.64.0.0/28", node_name)]


# pods


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (pod("w", "n1", "192.0.2.9", host_network=True), "uses its node's own address"),
        (pod("w", "n1", phase="Succeeded"), "has ended (Succeeded)"),
        (pod("w", "", phase="Pending"), "waits for the scheduler, not for an address"),
        (pod("w", "n1", phase="Pending", deletionTimestamp="2026-01-01T00:00:00Z"), "is being deleted and has no address"),
    ],
)
def test_pods_that_want_none_of_our_addresses(world: World, capsys: pytest.CaptureFixture[str], obj: Object, words: str) -> None:
    world["pods"].append(obj)
    assert explained(capsys, "pod", "default/w")["verdict"] == words


def test_a_pod_with_an_address(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, "pod", "default/a")
    assert found["verdict"] == "has 10.64.0.2 on node n1"
    assert "10.64.0.2 is of block 10.64.0.0/28, which node n1 holds of pool default (active)" in found["because"]
    assert "namespace default pins no pool: it gets the automatic ones of its node (default)" in found["because"]
    assert any("had when it started (now 120)" in line for line in found["next"])


def test_a_pod_whose_pin_has_changed_since(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["namespaces"] = [namespace("default", "gone")]
    found = explained(capsys, "pod", "default/a")
    assert found["next"][0] == "it keeps its address until its sandbox ends, whatever becomes of pools and pins"
    assert found["next"][1].startswith('a new sandbox of it would fail: namespace default pins pool "gone", which does not exist')


def test_an_address_that_is_not_ours(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["pods"].append(pod("w", "n1", "10.64.0.20"))
    found = explained(capsys, "pod", "default/w")
    assert any("10.64.0.20 lies in no block of node n1" in line for line in found["because"])
    assert found["do"] == ["podcidr explain ip 10.64.0.20; podcidr check"]


@pytest.mark.parametrize("pin", ["nope", "default, nope", "[broken"])
def test_a_bad_pin_is_told_in_the_agents_words(world: World, capsys: pytest.CaptureFixture[str], pin: str) -> None:
    world["pods"].append(waiting())
    world["namespaces"] = [namespace("default", pin)]
    error = resolve("default", {"podcidr.io/pools": pin}, {}, {"default": PoolRule()}, ()).error
    assert error
    assert explained(capsys, "pod", "default/w")["verdict"] == f"gets no address: {error}"


def test_a_pool_that_does_not_select_the_namespace(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["pods"].append(waiting())
    world["ippools"] = [pool("default", "10.64.0.0/24", namespaceSelector={"matchLabels": {"team": "x"}})]
    assert "no automatic pool selects namespace default (refused by: default)" in explained(capsys, "pod", "default/w")["verdict"]


def test_a_pod_that_pins_what_its_namespace_does_not_allow(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["pods"].append(waiting(annotations={"podcidr.io/pools": "gold"}))
    world["ippools"].append(pool("gold", "10.65.0.0/24", allocation="Pinned"))
    found = explained(capsys, "pod", "default/w")
    assert found["verdict"].startswith('gets no address: pod default/w pins pool "gold", which its namespace does not allow')


def test_a_block_of_an_earlier_pool_is_no_room(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The pool was deleted and made again while its block was in use: the space is barred, and the pod waits."""
    fill(world, "n1", 1, used=3)
    world["ippools"][0]["metadata"]["uid"] = "another"
    world["pods"] = [waiting()]
    found = explained(capsys, "pod", "default/w")
    assert found["verdict"].startswith("waits: default has no block left")
    assert "the node holds no block of it" in text(found)
    found = explained(capsys, "pool", "default")
    assert found["verdict"] == "has no free block left"
    assert "1 barred by blocks of others, 0 free of 1 blocks" in text(found)


def test_room_on_the_node(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["pods"].append(waiting(node_name="n2"))
    found = explained(capsys, "pod", "default/w")
    assert found["verdict"] == "can have an address now"
    assert "1. pool default: the node holds 1 block of it, 15 of 16 addresses free, 0 cooling" in found["because"]


def test_a_pod_whose_block_is_coming(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["nodecidrs"][0] = nodecidr("n1", {"10.64.0.0/28": 14}, pending=1)
    world["nodecidrs"][0]["status"]["demand"] = [{"pools": ["default"], "family": "ipv4", "pending": 1, "burst": 0}]
    world["pods"].append(waiting())
    found = explained(capsys, "pod", "default/w")
    assert found["verdict"] == "gets an address as soon as its node has its next block"
    assert any("the operator's next step: claim 10.64.0." in line for line in found["because"])
    assert found["next"] == ["operator operator-1 leads and acts within about a second"]


def test_an_exhausted_pool_says_when_and_whence(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fill(world, "n1", 1)
    world["ippools"] = [pool("default", "10.64.0.0/27", quarantineSeconds=60)]
    world["ipblocks"].append(block("10.64.0.16/28", "n2", state="Quarantined", released_at=ago(20)))
    world["pods"].append(waiting())
    found = explained(capsys, "pod", "default/w")
    assert found["verdict"] == "waits: default has no block left for node n1"
    assert any(line.startswith("1. pool default") and line.endswith("no block of pool default is free") for line in found["because"])
    free_at = (datetime.now(UTC) + timedelta(seconds=40)).strftime("%Y-%m-%d %H:%M")
    assert any(line.startswith(f"block 10.64.0.16/28 of pool default is free again at {free_at[:15]}") for line in found["next"])
    assert found["do"][0].startswith("append a CIDR to pool default")


@pytest.mark.parametrize(
    ("free", "stuck", "told"),
    [
        (
            3,
            1,
            [
                "block 10.64.0.48/28 drains on node n2 now (scarcity",
                "block 10.64.0.32/28 drains",
                "node n2 keeps block 10.64.0.16/28 of pool default, empty: 1 pod waits there too",
            ],
        ),
        (3, 17, ["block 10.64.0.48/28 drains", "node n2 keeps 2 blocks of pool default, empty: 17 pods wait there too"]),
        (1, 1, ["nothing of pool default comes back", "node n2 keeps block 10.64.0.16/28"]),
        (3, 0, ["block 10.64.0.48/28 drains", "block 10.64.0.32/28 drains", "block 10.64.0.16/28 drains"]),
        (4, 0, ["block 10.64.0.64/28 drains", "block 10.64.0.48/28 drains", "block 10.64.0.32/28 drains", "… and 1 more are given back"]),
    ],
)
def test_what_other_nodes_give_and_what_they_keep(
    world: World, capsys: pytest.CaptureFixture[str], free: int, stuck: int, told: list[str]
) -> None:
    """Pods that wait beside a pod whose ADD never runs: its node gives back all but what it needs."""
    fill(world, "n1", 1)
    cidrs = [f"10.64.0.{16 * (1 + index)}/28" for index in range(free)]
    world["ippools"] = [pool("default", *(["10.64.0.0/28", *cidrs]))]
    idle = nodecidr("n2", dict.fromkeys(cidrs, 0), pending=stuck)
    idle["status"]["demand"] = [{"pools": ["default"], "family": "ipv4", "pending": stuck, "burst": 0}]
    world["nodecidrs"].append(idle)
    world["ipblocks"] += [block(cidr, "n2") for cidr in cidrs]
    world["pods"].append(waiting())
    found = explained(capsys, "pod", "default/w")["next"][:-1]
    assert len(found) == len(told)
    assert all(line.startswith(words) for line, words in zip(found, told, strict=True)), found


def test_pools_are_tried_in_order_and_each_refusal_is_named(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fill(world, "n1", 1)
    world["ippools"] += [
        pool("far", "10.66.0.0/24", allocation="Pinned", nodeSelector={"matchLabels": {"rack": "2"}}),
        pool("new", "10.67.0.0/24", accepted=[], allocation="Pinned"),
    ]
    world["namespaces"] = [namespace("default", "far,default")]
    world["pods"].append(waiting())
    because = explained(capsys, "pod", "default/w")["because"]
    assert "1. pool far: its nodeSelector does not select node n1" in because
    assert any(line.startswith("2. pool default: the node holds 1 block of it, 0 of") for line in because)


def test_a_node_at_its_cap(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    fill(world, "n1", 1, used=16)
    world["ippools"] = [pool("default", "10.64.0.0/24", scaling={"maxBlocksPerNode": 1})]
    world["pods"].append(waiting())
    because = explained(capsys, "pod", "default/w")["because"]
    assert any("the node holds as many blocks as it may (maxBlocksPerNode" in line for line in because)


def test_a_node_without_nodecidr(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["nodes"].append(node("n3"))
    world["pods"].append(waiting(node_name="n3"))
    found = explained(capsys, "pod", "default/w")
    assert found["verdict"] == "waits for its node's first block"
    assert found["next"][0] == "the operator makes it: the node has none"


@pytest.mark.parametrize(
    ("leases", "words"),
    [
        ([], "no operator has ever led here"),
        ([lease(age_seconds=100)], "no operator leads (its Lease was not renewed since"),
        ([lease("")], "no operator leads"),
    ],
)
def test_nobody_leads(world: World, capsys: pytest.CaptureFixture[str], leases: list[Object], words: str) -> None:
    world["leases"] = leases
    found = explained(capsys, "node", "n1")
    assert any(line.startswith(words) for line in found["next"])
    assert any(line.startswith("start the operator: kubectl -n podcidr-system") for line in found["do"])


# nodes


def test_a_node_and_its_count(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(capsys, "node", "n2")
    assert found["verdict"] == "holds 1 active block, 1 draining; 1 addresses in use, 0 awaited"
    assert "pools that serve it by themselves, in order: default" in found["because"]
    assert any("its automatic pools (ipv4): 1 in use + 0 cooling + 0 awaited: target 9 addresses" in line for line in found["because"])
    drains = "block 10.64.0.48/28 of pool default: draining: the node needs it no more (it is taken back if that changes); it is empty"
    assert any(line.startswith(drains) for line in found["because"])
    assert any(line.startswith("now: Leave 10.64.0.48/28 (reported empty)") for line in found["next"])


def test_a_disabled_pool_drains_and_waits_for_pods(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ippools"] = [pool("default", "10.64.0.0/24", disabled=True)]
    world["nodecidrs"][0] = nodecidr("n1", {"10.64.0.0/28": 13}, draining=["10.64.0.0/28"])
    found = explained(capsys, "node", "n1")
    line = next(line for line in found["because"] if line.startswith("block 10.64.0.0/28"))
    assert "draining, because pool default is disabled; 13 addresses are in use" in line


def test_a_silent_agent(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["nodecidrs"][0] = nodecidr("n1", {"10.64.0.0/28": 13}, reports=False)
    found = explained(capsys, "node", "n1")
    assert any("has not reported for this NodeCIDR: everything it holds counts as used" in line for line in found["because"])
    assert any("--field-selector spec.nodeName=n1" in line for line in found["do"])


def test_a_node_that_is_gone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["nodes"].pop(0)
    found = explained(capsys, "node", "n1")
    assert "there is no Node n1: the machine counts as gone" in found["because"]
    assert "now: Drain 10.64.0.0/28 (the node is gone)" in found["next"]
    assert any(line.startswith("if the machine is off for good") for line in found["do"])


# pools


def test_a_pool(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["namespaces"] += [namespace("shop", "default"), namespace("bad", "[")]
    found = explained(capsys, "pool", "default")
    assert found["verdict"] == "is in use and has free blocks"
    assert "ipv4: 3 claimed, 1 resting, 12 free of 16 blocks; 14 addresses in use, 0 cooling, 3 reserved of 256" in found["because"]
    assert "namespaces that pin it: shop" in found["because"]


def test_a_disabled_pool_says_what_holds_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ippools"] = [pool("default", "10.64.0.0/24", disabled=True)]
    found = explained(capsys, "pool", "default")
    assert found["verdict"] == "is disabled and drains (4 blocks left)"
    assert "node n1 holds 1 of its blocks, with 13 addresses in use" in found["because"]
    assert "namespace default has 2 pods with addresses of it" in found["because"]
    assert found["do"][0] == "to move its pods: podcidr migrate pool default --to OTHER"


def test_a_cidr_that_overlaps(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["ippools"].append(pool("late", "10.64.0.0/25", accepted=[]))
    found = explained(capsys, "pool", "late")
    assert found["verdict"] == "is not used: none of its CIDRs is accepted"
    assert any("overlaps 10.64.0.0/24 of IPPool default; remove it here or there" in line for line in found["because"])


# addresses


@pytest.mark.parametrize(
    ("address", "verdict", "because"),
    [
        ("10.64.0.2", "is in use", "pod default/a on node n1 has it"),
        (
            "10.64.0.20",
            "belongs to node n2; no pod shows it",
            "node n2 lists 10.64.0.16/28 as active, and reports 1 addresses of it in use",
        ),
        ("10.64.0.1", "is reserved: no pod gets it", "pool default never hands it out: it is in spec.reserved, or a network, gateway"),
        ("10.64.0.33", "rests in quarantine", "its block 10.64.0.32/28 rests in quarantine after node n1, until 2026-01-01 00:05:00Z"),
        ("10.64.0.200", "is free: no node holds its block", "it lies in 10.64.0.0/24 of pool default"),
        ("2001:db8::1", "is in no pool: podcidr has nothing to do with it", ""),
    ],
)
def test_an_address(world: World, capsys: pytest.CaptureFixture[str], address: str, verdict: str, because: str) -> None:
    found = explained(capsys, "ip", address)
    assert found["verdict"].startswith(verdict)
    assert any(line.startswith(because) for line in found["because"]) or not because


def test_a_reserved_address_does_not_rest(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "once released" not in text(explained(capsys, "ip", "10.64.0.0"))
    assert "once released" in text(explained(capsys, "ip", "10.64.0.20"))


def test_an_address_written_as_ipv6(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, "ip", "::ffff:10.64.0.2") == explained(capsys, "ip", "10.64.0.2")


def test_an_address_of_services(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["servicecidrs"] = [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["172.31.0.0/16", "fd00:31::/112"]}}]
    found = explained(capsys, "ip", "172.31.255.1")
    assert found["because"] == ["it lies in Service CIDR 172.31.0.0/16: a Service may have it, no pod gets it"]


def test_an_address_held_twice(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world["pods"].append(pod("c", "n2", "10.64.0.2"))
    assert explained(capsys, "ip", "10.64.0.2")["do"] == ["more than one holds it: podcidr check, then delete the younger pod"]


# words


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["pod", "a"], "write a pod as NAMESPACE/NAME"),
        (["pod", "default/nobody"], "no such pod: default/nobody; kubectl get pods -n default lists them"),
        (["node", "n9"], "no such node: n9; podcidr show nodes lists them all"),
        (["pool", "p9"], "no such pool: p9; podcidr show pools lists them all"),
        (["ip", "10.64.0.0/28"], "for a block: podcidr show blocks 10.64.0.0/28"),
        (["cloud", "x"], "'cloud' is not one of"),
    ],
)
def test_what_is_not_there(world: World, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str) -> None:
    assert main(["explain", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_for_people(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "node", "n2"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "node n2 holds 1 active block, 1 draining; 1 addresses in use, 0 awaited"
    assert "because:\n  - " in out
    assert "next:\n  - now: Leave 10.64.0.48/28 (reported empty)" in out
