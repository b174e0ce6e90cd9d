"""The highest target of the last seconds."""

import hypothesis.strategies as st
from hypothesis import given, settings

from podcidr.core.model import AUTOMATIC, Key
from podcidr.core.prefix import Family
from podcidr.core.window import TargetWindow

KEY = Key("n1", AUTOMATIC, Family.IPV4)


def highest(window: TargetWindow, now: float, seconds: float = 300) -> int | None:
    return window.highest(lambda _: seconds, now).get(KEY)


def test_the_highest_of_the_window() -> None:
    window = TargetWindow()
    for now, target in ((0, 10), (100, 50), (200, 20), (300, 30)):
        window.record({KEY: target}, (), now)
    assert highest(window, 400) == 50
    assert highest(window, 500) == 50  # it was true until 200
    assert highest(window, 501) == 30


def test_what_held_last_holds_until_something_else_is_recorded() -> None:
    window = TargetWindow()
    window.record({KEY: 50}, (), 0)
    assert highest(window, 10_000) == 50
    window.record({KEY: 8}, (), 10_000)
    assert highest(window, 10_300) == 50
    assert highest(window, 10_301) == 8


def test_a_class_that_is_no_more_is_forgotten() -> None:
    window = TargetWindow()
    window.record({KEY: 50}, [KEY], 0)
    assert window.needed_at == {KEY: 0}
    window.record({}, [KEY], 1)
    assert (highest(window, 1), window.needed_at) == (None, {})


def test_a_class_that_nobody_ever_needed_is_forgotten_too() -> None:
    window = TargetWindow()
    window.record({KEY: 50}, (), 0)
    window.record({}, (), 1)
    assert highest(window, 1) is None


def test_constant_demand_takes_no_room() -> None:
    window = TargetWindow()
    for now in range(100):
        window.record({KEY: 50}, (), now)
    assert len(window._series[KEY]) == 1


def test_when_it_was_last_needed() -> None:
    window = TargetWindow()
    window.record({KEY: 50}, [KEY], 3)
    window.record({KEY: 0}, [], 9)
    assert window.needed_at == {KEY: 3}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), min_size=1), st.integers(0, 120))
def test_it_is_what_a_look_at_all_of_the_past_finds(steps: list[tuple[int, int]], seconds: int) -> None:
    window, now = TargetWindow(), 0
    past: list[tuple[int, int]] = []
    for wait, target in steps:
        now += wait
        past = [(value, now if index == len(past) - 1 else until) for index, (value, until) in enumerate(past)]
        past.append((target, now))
        window.record({KEY: target}, (), now)
        assert highest(window, now, seconds) == max(value for value, until in past if until >= now - seconds)
