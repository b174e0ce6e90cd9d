"""Laws of demand over time: what a node had within the stabilization window it still has, and none takes back what it gave."""

import hypothesis.strategies as st
from hypothesis import given, settings

from podcidr.core.actions import Claim, Drain, Undrain
from tests.property import build
from tests.property.effort import share
from tests.property.world import World

WINDOW_SECONDS = 60.0
steps = st.lists(st.tuples(st.sampled_from([1.0, 5.0, 14.0, 31.0, 61.0]), st.integers(0, 40), st.integers(0, 40)), min_size=4, max_size=14)


def plenty(cooldown: float, min_free: int, high: int, low: int, length: int) -> World:
    """Two nodes, and addresses for more than both will ever ask for."""
    scaling = {
        "stabilizationWindowSeconds": WINDOW_SECONDS,
        "lastBlockDelaySeconds": 0,
        "minBlocksPerNode": 0,
        "minFreeAddresses": min_free,
        "highUtilizationPercent": high,
        "lowUtilizationPercent": low,
    }
    world = World()
    world.pools["first"] = build.pool("first", "10.0.0.0/22", block4=length, gateway="None", scaling=scaling, quarantineSeconds=30)
    for name in ("n1", "n2"):
        world.add_node(name).cooldown_seconds = cooldown
    world.settle()
    return world


def need(world: World, name: str) -> int:
    """Addresses that the node's pods have or wait for, and those that cool down."""
    agent = world.agents[name]
    return len(agent.pods) + len([until for until in agent.cooling.values() if until > world.now])


worlds = st.builds(
    plenty,
    st.sampled_from([0.0, 20.0]),
    st.sampled_from([0, 2, 8]),
    st.sampled_from([100, 80]),
    st.sampled_from([75, 95]),
    st.integers(28, 30),
)


@settings(max_examples=share(80), deadline=None, derandomize=True)
@given(worlds, steps)
def test_no_pod_waits_for_what_its_node_had_within_the_window(world: World, trace: list[tuple[float, int, int]]) -> None:
    past: list[tuple[float, str, int]] = []
    for seconds, *counts in trace:
        world.now += seconds
        for name, count in zip(("n1", "n2"), counts, strict=True):
            world.agents[name].want((), count, world.now)
            world.agents[name].assign(world.pools, world.now)  # by the plugin, on what is published
            had = max((much for at, of, much in past if of == name and world.now - at <= WINDOW_SECONDS), default=0)
            assert need(world, name) > had or not world.agents[name].pending, f"{name} had {had} and needs {need(world, name)}"
        for _ in range(3):  # blocks come, pods get their addresses, and the report of that is seen
            world.agents_report()
            world.round()
        past += [(world.now, name, need(world, name)) for name in world.nodes]
        assert not any(agent.pending for agent in world.agents.values()), "there are addresses for all"


@settings(max_examples=share(40), deadline=None, derandomize=True)
@given(worlds, steps)
def test_demand_that_holds_still_never_grows_after_it_shrank(world: World, trace: list[tuple[float, int, int]]) -> None:
    shrunk: set[str] = set()
    for seconds, *counts in trace:
        for name, count in zip(("n1", "n2"), counts, strict=True):
            world.agents[name].want((), count, world.now)
        shrunk.clear()
        for turn in range(40):
            world.agents_report()
            actions = world.round().actions
            assert not [action for action in actions if isinstance(action, Claim | Undrain) and action.node in shrunk]
            shrunk |= {action.node for action in actions if isinstance(action, Drain)}
            world.now += seconds
            if turn > 3 and not actions and seconds * turn > 2 * WINDOW_SECONDS:
                break
        else:
            assert seconds * 40 <= 4 * WINDOW_SECONDS, f"never at rest: {actions}"
