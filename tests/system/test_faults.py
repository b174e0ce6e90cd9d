"""A short storm of every fault on real processes; `make faults` is the long one."""

import random
from pathlib import Path

import pytest

from tests.cluster.kubelet import Cluster
from tests.faults.record import Record, overlaps
from tests.faults.storm import storm


def test_the_judge_sees_an_address_given_twice(tmp_path: Path) -> None:
    with Record(tmp_path / "record") as record:
        record.assigned("a", "n1", ["10.64.0.1"])
        record.released("a")
        record.assigned("b", "n2", ["10.64.0.1"])
        record.released("a")  # a second DEL frees nothing of another
        record.assigned("c", "n3", ["10.64.0.1"])
    (found,) = overlaps(tmp_path / "record")
    assert found.startswith("10.64.0.1: c on n3")
    assert found.endswith("by b on n2")


@pytest.mark.timeout(900)  # some 80 s on two idle cores
async def test_every_fault_once(cluster: Cluster, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # shown when the test fails
    report = await storm(cluster, tmp_path / "record", faults=8, assignments=500, seed=seed)
    assert report.overlaps == []
    assert report.violations == []
    assert report.plugin_kills > 0
