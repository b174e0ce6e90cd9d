"""The count: which block an address counts for, who waits, once."""

from dataclasses import replace
from typing import Any

import pytest

from podcidr.agent import records
from podcidr.agent.observation import Observation
from podcidr.agent.observed import NodeCIDRSeen, PodSeen, PoolSeen
from podcidr.agent.report import Need, Node, Published, Report, count
from podcidr.agent.statedir import Standing
from podcidr.core.pins import AUTOMATIC, Resolution
from podcidr.core.prefix import Family, parse_prefix
from tests.unit.agent.objects import block, nodecidr, pod, pool, record

V4 = Family.IPV4
DEFAULT = (("default",), V4)


def observe(*attachments: dict[str, Any], cooling: dict[str, int] | None = None, marks: tuple[dict[str, Any], ...] = ()) -> Observation:
    held = [records.attachment(f"net:{document['container']}:eth0", document) for document in attachments]
    return Observation(
        attachments={attachment.key: attachment for attachment in held},
        held={ip.address: ip.block for attachment in held for ip in attachment.ips},
        cooling={records.address(text): until for text, until in (cooling or {}).items()},
        marks=tuple(records.mark(f"net:m{index}:eth0", document) for index, document in enumerate(marks)),
        stale_marks=(),
    )


def mark(pod_name: str, *pools: str, uid: str | None = None) -> dict[str, Any]:
    ref = {"namespace": "default", "name": pod_name, "uid": f"{pod_name}-uid" if uid is None else uid}
    return {"version": 1, "pod": ref, "pools": list(pools), "families": ["ipv4"], "since": 1.0}


def report(
    *pods: PodSeen,
    seen: NodeCIDRSeen | None = None,
    observation: Observation | None = None,
    pools: tuple[PoolSeen, ...] = (pool(),),
    namespaces: dict[str, Resolution] | None = None,
    bursts: dict[tuple[str, ...], int] | None = None,
    epoch: int = 7,
    trouble: str | None = None,
) -> Report:
    return count(
        Node(
            nodecidr=seen or nodecidr(block("10.64.3.0/28")),
            published=Published(Standing("u1", epoch), ("default",), {parse_prefix("10.64.3.0/28"): 15}),
            pools={one.pool.name: one for one in pools},
            namespaces=namespaces or {"default": AUTOMATIC},
            pods=pods,
            observation=observation or observe(),
            bursts=bursts or {},
            trouble=trouble,
        )
    )


def usage(counted: Report) -> dict[str, tuple[int, int]]:
    return {str(prefix): counts for prefix, counts in counted.usage.items()}


def test_the_question_is_that_of_the_file() -> None:
    published = Published(Standing("u1", 7, "asked"), ("default",), {})
    node = Node(nodecidr(), published, {}, {}, (), observe(), {})
    assert count(node).body()["observedQuestion"] == "asked"


def test_epoch_is_the_published_one_not_the_newest_seen() -> None:
    counted = report(epoch=6)
    assert (counted.uid, counted.epoch) == ("u1", 6)


def test_addresses_count_for_the_block_of_their_record() -> None:
    observation = observe(record("10.64.3.1"), record("10.64.3.2", container="c2"), cooling={"10.64.3.9": 99})
    assert usage(report(observation=observation)) == {"10.64.3.0/28": (2, 1)}


@pytest.mark.parametrize(
    ("address", "recorded", "expected"),
    [
        ("10.64.3.5", "10.64.3.5/32", "10.64.3.0/28"),  # recovered: the spec's block holds it
        ("10.65.0.20", "10.65.0.16/28", "10.65.0.16/28"),  # its block has left the spec
        ("10.65.0.20", "10.65.0.0/26", "10.65.0.16/28"),  # no block of today's: as the pool is cut
        ("192.0.2.7", "192.0.2.7/32", "192.0.2.7/32"),  # of no pool
    ],
)
def test_addresses_outside_the_spec_are_reported_too(address: str, recorded: str, expected: str) -> None:
    assert usage(report(observation=observe(record(address, block=recorded)))) == {expected: (1, 0)}


def test_body_lists_blocks_of_the_spec_even_when_empty() -> None:
    body = report(observation=observe(record("192.0.2.7", block=""))).body()
    assert body["blocks"] == [{"cidr": "10.64.3.0/28", "inUse": 0, "cooling": 0}, {"cidr": "192.0.2.7/32", "inUse": 1, "cooling": 0}]
    assert body["blockCount"] == 1
    assert body["inUse"] == 1


def test_busy_are_draining_blocks_in_use_or_cooling() -> None:
    seen = nodecidr(*(block(f"10.64.3.{offset}/28", state="Draining") for offset in (0, 16, 32)), block("10.64.3.48/28"))
    observation = observe(record("10.64.3.1"), record("10.64.3.49", container="c2", block="10.64.3.48/28"), cooling={"10.64.3.17": 99})
    assert report(seen=seen, observation=observation).busy == {parse_prefix("10.64.3.0/28"), parse_prefix("10.64.3.16/28")}


def test_a_bound_pod_without_attachment_waits() -> None:
    counted = report(pod("web"), pod("held"), observation=observe(record("10.64.3.1", pod="held")))
    assert counted.pending == 1
    assert counted.demand == {DEFAULT: (1, 0)}


@pytest.mark.parametrize(
    "other",
    [
        pod("host", spec={"hostNetwork": True}),
        pod("done", phase="Succeeded"),
        pod("failed", phase="Failed"),
        pod("leaving", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
)
def test_who_does_not_wait(other: PodSeen) -> None:
    assert report(other).pending == 0


def test_host_network_pods_are_told_to_the_operator() -> None:
    host = {"hostNetwork": True}
    assert report(pod("a", spec=host), pod("b", spec=host, phase="Failed"), pod("c")).host_network_pods == 1


def test_a_pod_and_its_mark_count_once() -> None:
    assert report(pod("web"), observation=observe(marks=(mark("web", "default"),))).pending == 1
    assert report(pod("web"), observation=observe(marks=(mark("web", "default", uid=""),))).pending == 1, "a runtime without uids"


def test_two_tries_for_one_pod_count_once() -> None:
    assert report(observation=observe(marks=(mark("web", "default"), mark("web", "default")))).pending == 1


def test_a_mark_of_a_pod_not_seen_yet_counts() -> None:
    assert report(observation=observe(marks=(mark("new", "default"),))).demand == {DEFAULT: (1, 0)}


def test_a_mark_of_a_pod_that_ended_does_not() -> None:
    assert report(pod("web", phase="Failed"), observation=observe(marks=(mark("web", "default"),))).pending == 0


def test_a_new_sandbox_of_a_pod_whose_old_one_still_holds_an_address_waits() -> None:
    observation = observe(record("10.64.3.1", pod="web"), marks=(mark("web", "default"),))
    assert report(pod("web"), observation=observation).pending == 1


def test_pinned_pods_are_a_demand_of_their_own() -> None:
    gold = pool("gold", ipv4={"cidrs": ["10.80.0.0/24"]}, ipv6={"cidrs": ["fd00::/48"]})
    namespaces = {"default": AUTOMATIC, "x": Resolution(pools=("gold", "default"))}
    counted = report(pod("a"), pod("b", namespace="x"), pools=(pool(), gold), namespaces=namespaces, bursts={("gold", "default"): 4})
    assert counted.demand == {
        DEFAULT: (1, 0),
        (("gold", "default"), V4): (1, 4),
        (("gold", "default"), Family.IPV6): (1, 4),
    }
    assert {"name": "gold,default", "pools": ["gold", "default"], "family": "ipv6", "pending": 1, "burst": 4} in counted.body()["demand"]


def test_a_pods_own_pin_narrows() -> None:
    second = pool("second", ipv4={"cidrs": ["10.80.0.0/24"]})
    pinned = pod("a", metadata={"annotations": {"podcidr.io/pools": "second"}})
    counted = report(pinned, seen=nodecidr(pools=("default", "second")), pools=(pool(), second))
    assert counted.demand[("second",), V4] == (1, 0)


def test_a_pod_whose_namespace_is_in_error_is_no_demand() -> None:
    assert report(pod("a"), namespaces={"default": Resolution(error="no")}).pending == 0


def test_conditions_say_what_is_the_matter() -> None:
    waiting = report(observation=observe(marks=(mark("web", "default"),))).conditions
    assert waiting["WaitingForAddresses"][:2] == (True, "PodsPending")
    assert waiting["Ready"][:2] == (True, "BlocksPublished")
    assert report().conditions["WaitingForAddresses"][:2] == (False, "NonePending")


def test_pods_without_room_wait_between_their_adds_too() -> None:
    """The message has the count of the status: one of the ADDs of the moment would be another at each look."""
    pods = [pod(f"p{number}") for number in range(3)]
    full = observe(*(record(f"10.64.3.{number}", container=f"c{number}", pod=f"old{number}") for number in range(13)))
    for observation in (full, replace(full, marks=observe(marks=(mark("p1", "default"),)).marks)):
        assert report(*pods, observation=observation).conditions["WaitingForAddresses"] == (
            True,
            "PodsPending",
            "3 pods wait for an address",
        )
    assert report(*pods[:2], observation=full).conditions["WaitingForAddresses"][0] is False, "two addresses are free"


def test_a_state_dir_that_could_not_be_written_is_not_ready() -> None:
    """Blocks may be published, and yet no ADD succeed: `ready` or a namespace's file is missing."""
    counted = report(trouble="No space left on device (/run/podcidr/ready)")
    assert counted.conditions["Ready"] == (False, "StateDirNotWritten", "No space left on device (/run/podcidr/ready)")


def test_free_is_what_an_add_could_get() -> None:
    seen = observe(record("10.64.3.1"), record("10.9.0.1", container="c2", block="10.9.0.0/28"), cooling={"10.64.3.2": 99})
    assert report(observation=seen).free == {V4: 13, Family.IPV6: 0}


def test_need_is_the_planners_target_against_what_is_published() -> None:
    """In use, cooling and pending, with headroom: a pod more than the spare ones makes the operator grow."""
    seen = observe(record("10.64.3.1"), cooling={"10.64.3.2": 99}, marks=(mark("b", "default"),))
    assert report(pod("a"), pod("b"), observation=seen).needs == {DEFAULT: Need(level=4, waiting=1, room=15, spare=15 - 12, ends=(99,))}
    assert report(pod("a"), observation=seen, bursts={("default",): 200}).needs[DEFAULT].spare == 15 - (4 + 96)
    tight = pool(scaling={"minFreeAddresses": 0, "highUtilizationPercent": 10})
    assert report(pod("a"), observation=seen, pools=(tight,)).needs[DEFAULT].spare == 15 - 40


def test_need_of_a_pinned_list_is_of_its_own_blocks() -> None:
    pools = pool(), pool("gold", ipv4={"cidrs": ["10.80.0.0/24"]})
    pinned = {"default": Resolution(("gold",))}
    needs = report(pod("a"), pools=pools, namespaces=pinned, observation=observe(record("10.64.3.1", pod="b"))).needs
    assert needs[("gold",), V4] == Need(level=1, waiting=0, room=0, spare=-9, short=1)
    assert needs[DEFAULT].level == 1


def test_empty_blocks_of_an_exhausted_pool_are_idle() -> None:
    """Not those in use, not those that go, and none where others still find blocks."""
    seen = nodecidr(block("10.64.3.0/28"), block("10.64.4.0/28", "gold"))
    assert report(seen=seen, pools=(pool(exhausted="True"),)).needs[DEFAULT].idle == 15
    assert report(seen=seen, pools=(pool(exhausted="False"),)).needs[DEFAULT].idle == 0
    assert report(seen=seen).needs[DEFAULT].idle == 0
    used = observe(cooling={"10.64.3.2": 99})
    assert report(seen=seen, pools=(pool(exhausted="True"),), observation=used).needs[DEFAULT].idle == 0
