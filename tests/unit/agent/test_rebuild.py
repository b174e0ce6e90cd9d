"""What a rebuild can't see, and a record that it can't write whole."""

from pathlib import Path

import pytest

from podcidr.agent import rebuild, reclaim
from podcidr.agent.observation import Observer
from podcidr.agent.records import address
from podcidr.agent.statedir import StateDir
from tests.unit.agent.objects import record
from tests.unit.agent.test_files import attach, cached


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.create()
    return state


@pytest.mark.parametrize("name", ["loop", "n" * 300, "nul\0"])
def test_rebuild_takes_a_network_namespace_that_cannot_be_looked_at_for_one_that_lives(state: StateDir, tmp_path: Path, name: str) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cached(cache, "c1", "10.64.3.1/24", netns=tmp_path / name)
    assert rebuild.recover(state, rebuild.from_cache(cache), "s", 5.0) == 1
    assert not reclaim.is_gone(str(tmp_path / name))
    assert not rebuild.ended(cache)


def test_a_damaged_record_is_written_anew_where_the_result_tells_all_that_it_holds(state: StateDir, tmp_path: Path) -> None:
    """Else an address would be in no record: a DEL would not free it, and nothing would tell whose it is."""
    cache = tmp_path / "cache"
    cache.mkdir()
    key = attach(state, record("10.64.3.1", "10.64.3.2"))
    (state.attachments / key).write_text("{")
    cached(cache, "c1", "10.64.3.1/24", netns=cache)
    assert rebuild.rewrite(state, rebuild.from_cache(cache), "s", 5.0) == []
    assert {path.stat().st_nlink for path in state.addresses.iterdir()} == {3}
    cached(cache, "c1", "10.64.3.1/24", "10.64.3.2/24", netns=cache)
    assert rebuild.rewrite(state, rebuild.from_cache(cache), "s", 5.0) == [key]
    seen = Observer(state).look("s", 0.0)
    assert {held.address for held in seen.attachments[key].ips} == {address("10.64.3.1"), address("10.64.3.2")}
    assert not seen.loose
