"""Each YAML file beside this one is a test: a flow of the design, told from outside."""

from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.stories.story import Story, matches

STORIES = sorted(Path(__file__).parent.glob("*.yaml"))


@pytest.mark.cluster
@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
async def test_story(path: Path, clean_control_plane: ControlPlane) -> None:
    await Story(path, clean_control_plane).run()


def test_matching_can_fail() -> None:
    assert matches({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3})
    assert not matches({"a": [{"b": 1}]}, {"a": [{"b": 1}, {"b": 1}]})
    assert not matches({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 1}]})
    assert not matches({"a": "~^x"}, {"a": "yx"})
