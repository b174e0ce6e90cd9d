"""IPPool.status: conditions keep their transition times, counts saturate, the forecast is a straight line."""

from dataclasses import replace
from typing import Any

from podcidr.core.acceptance import Refusal
from podcidr.core.barred import Bar
from podcidr.core.model import Pool, Space
from podcidr.core.prefix import Family, parse_prefix
from podcidr.core.usage import PoolUsage
from podcidr.reconcile.forecast import Forecast
from podcidr.reconcile.status import PoolView, changed_conditions, pool_status

CIDR = parse_prefix("10.64.0.0/24")
POOL = Pool("default", "uid", 3, {Family.IPV4: Space((CIDR,), 28)})


def view(usage: PoolUsage | None = None, **more: Any) -> PoolView:
    usage = usage or PoolUsage(capacity=250, blocks_total=16, blocks_claimed=4)
    return PoolView(POOL, {Family.IPV4: usage}, (CIDR,), **more)


def condition(status: dict[str, Any], kind: str) -> dict[str, str]:
    found: dict[str, str] = next(c for c in status["conditions"] if c["type"] == kind)
    return found


def test_a_condition_keeps_its_transition_time_until_its_status_turns() -> None:
    first = pool_status(view(), {}, "T1")
    same = pool_status(view(), first, "T2")
    full = pool_status(view(usage=PoolUsage(capacity=250, blocks_total=16, blocks_claimed=16)), same, "T3")
    assert condition(same, "Exhausted")["lastTransitionTime"] == "T1"
    assert condition(full, "Exhausted")["lastTransitionTime"] == "T3"
    assert condition(full, "Accepted")["lastTransitionTime"] == "T1"
    assert [c["type"] for c in changed_conditions(same["conditions"], full["conditions"])] == ["NearExhaustion", "Exhausted"]


def test_refused_cidrs_name_both_pools_and_the_remedy() -> None:
    refusal = Refusal(CIDR, parse_prefix("10.64.0.0/16"), "old")
    accepted = condition(pool_status(view(refused=(refusal,)), {}, "T"), "Accepted")
    assert accepted["reason"] == "CIDROverlap"
    assert accepted["message"] == "CIDR 10.64.0.0/24 overlaps 10.64.0.0/16 of IPPool old; remove it here or there"


def test_a_pool_without_an_accepted_cidr_says_nothing_of_free_blocks() -> None:
    status = pool_status(replace(view(), accepted=()), {}, "T")
    assert {condition(status, kind)["reason"] for kind in ("Exhausted", "NearExhaustion")} == {"NothingAccepted"}


def test_a_pool_reserved_as_a_whole_is_told_to_reserve_less() -> None:
    status = pool_status(view(usage=PoolUsage(blocks_total=1, blocks_reserved=1)), {}, "T")
    assert condition(status, "NearExhaustion")["message"].endswith("reserve less of it")
    assert "every ipv4 address of them is reserved" in condition(status, "Accepted")["message"]


def test_import_pending_names_at_most_five_nodes() -> None:
    nodes = tuple(f"n{number}" for number in range(9))
    accepted = condition(pool_status(view(waiting=(CIDR,), waiting_for=nodes), {}, "T"), "Accepted")
    assert accepted["reason"] == "ImportPending"
    assert accepted["message"].endswith("n0, n1, n2, n3, n4 and 4 more")


def test_service_cidrs_and_nodes_in_the_pool_are_both_named() -> None:
    accepted = condition(pool_status(view(services=(parse_prefix("10.64.0.0/28"),), foreign=("n1",)), {}, "T"), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "ServiceCIDROverlap")
    assert accepted["message"] == (
        "Service CIDR 10.64.0.0/28 overlaps the pool: blocks in it are not claimed, for Services have its addresses; use other space; "
        "own addresses of n1 lie in the pool: blocks that hold one are not claimed; reserve them"
    )


def test_a_pool_whose_space_is_barred_says_by_whom_and_is_exhausted() -> None:
    bars = {Bar("default", "earlier", gone=True): 3, Bar("other", "u2", gone=False): 1}
    status = pool_status(view(usage=PoolUsage(blocks_total=2, blocks_barred=2, barred_by=bars)), {}, "T")
    accepted, exhausted = condition(status, "Accepted"), condition(status, "Exhausted")
    assert (accepted["status"], accepted["reason"]) == ("True", "BlocksBarred")
    assert accepted["message"] == (
        "2 blocks are not claimed before those that lie there have gone: 3 blocks of pool default (uid earlier, gone),"
        " 1 blocks of pool other (uid u2, which no longer has the CIDR): restart the pods that have their addresses"
        " (podcidr show blocks), or append a CIDR"
    )
    assert (exhausted["status"], status["ipv4"]["blocks"]["free"]) == ("True", 0)
    assert exhausted["message"].endswith("restart the pods of earlier pools whose blocks lie in it: the condition Accepted names them")
    both = condition(pool_status(view(usage=PoolUsage(blocks_total=2, barred_by=bars), foreign=("n1",)), {}, "T"), "Accepted")
    assert both["reason"] == "AddressesInUse"
    assert "which no longer has the CIDR" in both["message"]


def test_a_removed_cidr_can_be_followed() -> None:
    usage = PoolUsage(blocks_total=16, blocks_claimed=5, blocks_outside=2, in_use=20, addresses_outside=12)
    accepted = condition(pool_status(view(usage=usage), {}, "T"), "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "CIDRDraining")
    assert accepted["message"] == (
        "2 blocks outside the CIDRs of the spec are still held or rest, with 12 addresses in use or cooling:"
        " they drain; restart the pods that have them to be done sooner (podcidr show blocks)"
    )


def test_a_pool_that_drains_says_what_holds_it() -> None:
    pool = replace(POOL, disabled=True)
    usage = {Family.IPV4: PoolUsage(capacity=250, blocks_total=16, blocks_claimed=4, blocks_quarantined=1)}
    holders = {"n1": (1, 0), "n2": (3, 20)}
    drained = condition(pool_status(PoolView(pool, usage, holders=holders), {}, "T"), "Drained")
    assert (drained["status"], drained["reason"]) == ("False", "BlocksClaimed")
    assert drained["message"] == (
        "held by n2 (3 blocks, 20 addresses in use or cooling), n1 (1 blocks, 0 addresses in use or cooling); "
        "1 blocks rest until their quarantine is over; restart the pods that have its addresses to be done sooner"
    )
    deleting = condition(pool_status(PoolView(replace(pool, deleting=True), usage), {}, "T"), "Drained")
    assert (deleting["reason"], deleting["message"]) == ("DeletionWaits", "1 blocks rest until their quarantine is over")


def test_what_no_longer_applies_is_removed() -> None:
    old = pool_status(view(seconds_to_exhaustion=60), {}, "T")
    new = pool_status(view(), old, "T")
    assert old["forecast"] == {"secondsToExhaustion": 60}
    assert new["forecast"] is None


def test_forecast_of_a_pool_that_loses_one_block_a_minute() -> None:
    forecast = Forecast()
    for minute in range(10):
        forecast.add(minute * 60.0, 30 - minute)
    assert forecast.seconds_to_exhaustion() == 21 * 60


def test_a_rise_of_the_last_two_hours_is_seen_before_six_hours_show_it() -> None:
    """A quiet night, then the morning: one block in two minutes, and 60 are left."""
    forecast = Forecast()
    for minute in range(360):
        forecast.add(minute * 60.0, 120 - max(0, minute - 240) // 2)
    predicted = forecast.seconds_to_exhaustion()
    assert predicted is not None
    assert 0.9 * 7200 <= predicted <= 1.1 * 7200


def test_near_exhaustion_says_when_it_will_be_over() -> None:
    usage = PoolUsage(capacity=250, blocks_total=16, blocks_claimed=15)
    messages = {
        seconds: condition(pool_status(view(usage=usage, seconds_to_exhaustion=seconds), {}, "T"), "NearExhaustion")["message"]
        for seconds in (900, 3 * 3600, 30 * 86_400, None)
    }
    assert "goes within the hour; append a CIDR" in messages[900]
    assert "goes in about 3 h; append a CIDR" in messages[3 * 3600]
    assert "pace" not in messages[30 * 86_400] + messages[None]


def test_no_forecast_from_little_or_for_a_pool_that_does_not_fill() -> None:
    forecast = Forecast()
    for minute in range(4):
        forecast.add(minute * 60.0, 30 - minute)
    assert forecast.seconds_to_exhaustion() is None
    steady = Forecast()
    for minute in range(10):
        steady.add(minute * 60.0, 30)
    assert steady.seconds_to_exhaustion() is None
