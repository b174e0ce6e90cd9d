"""The decaying histogram of arrivals."""

import json

from podcidr.core.burst import HALF_AT, Burst


def arrivals(burst: Burst, count: int, every_seconds: float, start: float = 0.0) -> float:
    for number in range(count):
        burst.arrive(start + number * every_seconds)
    return start + count * every_seconds


def test_too_few_arrivals_say_nothing() -> None:
    burst = Burst()
    arrivals(burst, 15, 0.0)
    assert burst.value == 0
    burst.arrive(0.0)
    assert burst.value == 16


def test_one_at_a_time_is_one() -> None:
    burst = Burst()
    arrivals(burst, 100, 2.5)
    assert burst.value == 1


def test_the_window_is_two_and_a_half_seconds() -> None:
    burst = Burst()
    arrivals(burst, 100, 0.5)
    assert burst.value == 5


def test_a_rare_burst_within_the_last_percent_is_not_seen() -> None:
    burst = Burst()
    end = arrivals(burst, 1000, 10.0)
    arrivals(burst, 9, 0.0, end)
    assert burst.value == 1
    arrivals(burst, 9, 0.0, end + 100)
    assert burst.value > 1


def test_the_past_counts_half_and_fades() -> None:
    burst = Burst()
    end = arrivals(burst, 100, 0.0)  # once 100 at a time …
    arrivals(burst, 12 * HALF_AT, 10.0, end + 100)  # … then for long one by one
    assert burst.value == 1


def test_survives_as_json() -> None:
    burst = Burst()
    arrivals(burst, 50, 0.3)
    again = Burst.from_dict(json.loads(json.dumps(burst.to_dict())))
    assert again.value == burst.value == 9
    assert Burst.from_dict({"version": 1, "counts": {"x": 1}}).value == 0
    assert Burst.from_dict({}).value == 0


def test_at_the_limit_counts_are_halved_and_single_ones_forgotten() -> None:
    burst = Burst.from_dict({"version": 1, "counts": {"1": HALF_AT - 9, "2": 1, "3": 2, "4": 4}})
    burst.arrive(0.0)
    assert burst.to_dict()["counts"] == {"1": HALF_AT - 8, "2": 1, "3": 2, "4": 4}, "one below the limit"
    burst.arrive(10.0)
    assert burst.to_dict()["counts"] == {"1": (HALF_AT - 7) // 2, "3": 1, "4": 2}


def test_what_cannot_be_a_count_is_left_out() -> None:
    counts = {"0": 5, "-1": 5, "1": 1, "2": 0, "3": -1, "4": 2}
    assert Burst.from_dict({"version": 1, "counts": counts}).to_dict()["counts"] == {"1": 1, "4": 2}
    assert Burst.from_dict({"version": 2, "counts": {"1": 1}}).to_dict()["counts"] == {}
    assert Burst.from_dict({"version": 1, "counts": [1]}).to_dict()["counts"] == {}
