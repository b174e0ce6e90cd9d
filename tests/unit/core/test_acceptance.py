"""Whose CIDR it is: first come, whatever the pools' ages; and what may enter after all."""

import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from podcidr.core.acceptance import Acceptance, Owners, accept, may_enter
from podcidr.core.actions import Claim
from podcidr.core.model import Pool
from podcidr.core.prefix import block_name
from tests.property import build


def accepted(*pools: Pool, import_pending: bool = False) -> Acceptance:
    return accept({pool.name: pool for pool in pools}, import_pending=import_pending)


def texts(found: Acceptance) -> dict[str, list[str]]:
    return {name: [str(cidr) for cidr in cidrs] for name, cidrs in found.accepted.items()}


def test_new_cidrs_are_accepted_in_the_order_of_the_pools_creation() -> None:
    young = build.pool("a", "10.0.0.0/24", created="2026-02-01T00:00:00Z", accepted=[])
    old = build.pool("b", ["10.0.0.128/25", "10.0.1.0/24"], created="2026-01-01T00:00:00Z", accepted=[])
    found = accepted(young, old)
    assert texts(found) == {"a": [], "b": ["10.0.0.128/25", "10.0.1.0/24"]}
    assert [str(refusal) for refusal in found.refused["a"]] == [
        "CIDR 10.0.0.0/24 overlaps 10.0.0.128/25 of IPPool b; remove it here or there"
    ]


def test_what_is_accepted_stays_even_against_an_older_pool() -> None:
    holder = build.pool("young", "10.0.0.0/24", created="2026-02-01T00:00:00Z")
    appended = build.pool("old", ["10.1.0.0/24", "10.0.0.0/25"], created="2026-01-01T00:00:00Z", accepted=["10.1.0.0/24"])
    found = accepted(holder, appended)
    assert texts(found) == {"young": ["10.0.0.0/24"], "old": ["10.1.0.0/24"]}
    assert [refusal.cidr for refusal in found.refused["old"]] == [build.prefix("10.0.0.0/25")]


def test_what_holds_it_and_what_lies_inside_is_found_wherever_it_stands_among_others() -> None:
    holders = [build.pool(f"p{number}", f"10.{number}.1.0/24") for number in range(3)]
    appended = build.pool("wide", ["10.2.0.0/16", "10.9.0.0/16"], accepted=[])
    found = accepted(*holders, appended)
    assert texts(found)["wide"] == ["10.9.0.0/16"]
    assert [refusal.pool for refusal in found.refused["wide"]] == ["p2"]
    for widest in ("0.0.0.0/0", "0.0.0.0/1"):
        assert texts(accepted(build.pool("all", widest), build.pool("b", "10.0.0.0/24", accepted=[])))["b"] == []


def test_of_two_that_were_both_accepted_the_older_pool_keeps_it() -> None:
    found = accepted(build.pool("b", "10.0.0.0/24", created="1"), build.pool("a", "10.0.0.0/25", created="2"))
    assert texts(found) == {"b": ["10.0.0.0/24"], "a": []}
    assert len(found.refused["a"]) == 1


def test_a_removed_cidr_is_free_for_others() -> None:
    found = accepted(build.pool("a", "10.1.0.0/24", accepted=["10.1.0.0/24", "10.0.0.0/24"]), build.pool("b", "10.0.0.0/24", accepted=[]))
    assert texts(found) == {"a": ["10.1.0.0/24"], "b": ["10.0.0.0/24"]}


def test_families_do_not_overlap() -> None:
    found = accepted(build.pool("a", "0.0.0.0/0", accepted=[]), build.pool("b", ipv6="::/1", accepted=[]))
    assert texts(found) == {"a": ["0.0.0.0/0"], "b": ["::/1"]}


@pytest.mark.parametrize("why", [{"reserved": ["192.0.2.1"]}, {"deleting": True}])
def test_an_invalid_pool_gets_nothing_new_and_keeps_what_it_has(why: dict[str, object]) -> None:
    pool = build.pool("a", ["10.0.0.0/24", "10.0.1.0/24"], accepted=["10.0.0.0/24"], **why)  # type: ignore[arg-type]
    assert texts(accepted(pool)) == {"a": ["10.0.0.0/24"]}


def test_new_cidrs_wait_until_nodes_have_told() -> None:
    found = accepted(build.pool("a", ["10.0.0.0/24", "10.0.1.0/24"], accepted=["10.0.0.0/24"]), import_pending=True)
    assert texts(found) == {"a": ["10.0.0.0/24"]}
    assert found.waiting == {"a": (build.prefix("10.0.1.0/24"),)}


class TestGeometry:
    """Read after the IPBlock's creation, before it enters."""

    pool = build.pool("default", "10.0.0.0/24", generation=3)
    block = build.prefix("10.0.0.16/28")

    claim = Claim("n1", "", block, "default", "default-uid", 3)

    def why(self, *pools: Pool, ledger: Iterable[str] | None = None) -> str | None:
        listed = None if ledger is None else Owners({build.prefix(cidr): block_name(build.prefix(cidr)) for cidr in ledger})
        return may_enter({p.name: p for p in pools}, self.claim, listed)

    def test_nothing_has_changed(self) -> None:
        assert self.why(self.pool, build.pool("other", "10.0.1.0/24")) is None

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"uid": "another"}, "pool default is gone"),
            ({"deleting": True}, "pool default has changed since (generation 3, now 3)"),
            ({"generation": 4}, "pool default has changed since (generation 3, now 4)"),
            ({"accepted": frozenset()}, "pool default has no accepted CIDR that holds 10.0.0.16/28"),
        ],
    )
    def test_the_pool_has(self, change: dict[str, object], why: str) -> None:
        assert self.why(replace(self.pool, **change)) == why  # type: ignore[arg-type]

    def test_the_pool_is_gone(self) -> None:
        assert self.why() == "pool default is gone"

    def test_another_pool_was_accepted_over_it_too(self) -> None:
        assert self.why(self.pool, build.pool("other", "10.0.0.0/20")) == "pool other has an accepted CIDR over 10.0.0.16/28 too"
        assert self.why(self.pool, build.pool("other", "10.0.0.0/20", accepted=[])) is None

    @pytest.mark.parametrize("rival", ["10.0.0.0/26", "10.0.0.0/8", "10.0.0.17/32"])
    def test_a_block_of_another_length_has_come_into_the_ledger(self, rival: str) -> None:
        why = f"block {rival} over 10.0.0.16/28 has come into the ledger meanwhile"
        assert self.why(self.pool, ledger=["10.0.0.0/28", "10.0.0.16/28", rival]) == why

    def test_itself_and_its_neighbours_are_no_rivals(self) -> None:
        assert self.why(self.pool, ledger=["10.0.0.0/28", "10.0.0.16/28", "10.0.0.32/27", "fd00::/8"]) is None


def test_many_pools_take_no_quadratic_time() -> None:
    pools = {f"p{i}": build.pool(f"p{i}", f"10.{i >> 8}.{i & 255}.0/24", accepted=[] if i % 2 else None) for i in range(3000)}
    begin = time.process_time()
    assert sum(map(len, accept(pools, import_pending=False).accepted.values())) == 3000
    assert time.process_time() - begin < 1  # comparing each with each takes three


def test_a_pool_is_no_rival_of_itself() -> None:
    """Accepted by an earlier release, whatever one thinks of it now."""
    nested = ["10.0.0.0/24", "10.0.0.0/25"]
    assert texts(accepted(build.pool("a", nested))) == {"a": nested}
    assert accepted(build.pool("a", nested, accepted=nested[:1])).refused == {"a": ()}


def test_what_is_invalid_or_deleted_does_not_wait_for_nodes() -> None:
    for why in ({"deleting": True}, {"reserved": ["192.0.2.1"]}):
        assert not accepted(build.pool("a", "10.0.0.0/24", accepted=[], **why), import_pending=True).waiting["a"]


def test_acceptance_changes_the_geometry_and_no_generation() -> None:
    """It is a status, and yet moves space from one pool to another: the ledger has to be listed for it."""
    pool = build.pool("p", "10.0.0.0/24")
    waiting = replace(pool, accepted=frozenset())
    assert pool.generation == waiting.generation
    assert (
        len({pool.geometry, waiting.geometry, replace(pool, generation=pool.generation + 1).geometry, replace(pool, uid="x").geometry}) == 4
    )
    assert replace(pool, priority=9).geometry == pool.geometry
