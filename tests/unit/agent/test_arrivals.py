"""The burst histogram over an agent's lives: saved, caught up with from attachments, never made up."""

import json
from pathlib import Path
from typing import Any

import pytest

from podcidr.agent import records
from podcidr.agent.arrivals import MAX_LISTS, SAVE_SECONDS, Arrivals
from podcidr.agent.records import Attachment
from podcidr.agent.statedir import StateDir
from tests.unit.agent.objects import record

DEFAULT = ("default",)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.create()
    return state


def arrivals(state: StateDir, state_id: str = "s") -> Arrivals:
    made = Arrivals(state, state_id)
    made.load()
    return made


def attachments(count: int, *, at: float, every: float = 0.0, **extra: Any) -> list[Attachment]:
    def document(number: int) -> dict[str, Any]:
        return record(f"10.64.3.{number}", container=f"c{number}", assigned_at=at + number * every, **extra)

    return [records.attachment(f"net:c{number}:eth0", document(number)) for number in range(count)]


def catch_up(made: Arrivals, missed: list[Attachment], now: float = 1000.0) -> None:
    made.catch_up(missed, lambda _: DEFAULT, now)


def test_a_restart_keeps_the_histogram(state: StateDir) -> None:
    before = arrivals(state)
    for _ in range(20):
        before.arrive(("gold",), 10.0)
    before.save(11.0)
    assert arrivals(state).values == before.values == {("gold",): 20}


def test_what_arrived_without_an_agent_is_counted_from_attachments(state: StateDir) -> None:
    before = arrivals(state)
    for _ in range(20):
        before.arrive(DEFAULT, 10.0)
    before.save(100.0)
    after = arrivals(state)
    catch_up(after, attachments(20, at=99.0))
    assert after.values == {DEFAULT: 20}, "these were counted before the save"
    catch_up(after, attachments(40, at=101.0))
    assert after.values == {DEFAULT: 40}


def test_the_order_of_files_is_not_that_of_arrivals(state: StateDir) -> None:
    made = arrivals(state)
    catch_up(made, attachments(30, at=500.0, every=-3.0))
    assert made.values == {DEFAULT: 1}


def test_a_rebuild_is_no_burst(state: StateDir) -> None:
    made = arrivals(state)
    recovered = attachments(40, at=5.0, ips=[{"address": "10.64.3.1", "pool": "", "block": "10.64.3.1/32"}])
    catch_up(made, recovered)
    catch_up(made, attachments(40, at=2000.0))  # of another boot
    assert made.values == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"version": 1, "stateID": "s", "until": 5, "bursts": [{"pools": ["de',
        "[]",
        '{"version": 1, "stateID": "other", "until": 5, "bursts": [{"pools": ["default"], "version": 1, "counts": {"9": 90}}]}',
        '{"version": 2, "stateID": "s", "until": 5, "bursts": [{"pools": ["default"], "version": 1, "counts": {"9": 90}}]}',
        '{"version": 1, "stateID": "s", "until": "x", "bursts": [{"pools": ["default"], "version": 1, "counts": {"9": 90}}]}',
        '{"version": 1, "stateID": "s", "until": 5, "bursts": [{"pools": [1], "version": 1, "counts": {"9": 90}}]}',
        '{"version": 1, "stateID": "s", "until": 5, "bursts": 7}',
    ],
)
def test_a_torn_or_foreign_file_is_as_good_as_none(state: StateDir, content: str) -> None:
    (state.root / "bursts.json").write_text(content)
    made = arrivals(state)
    assert made.values == {}
    catch_up(made, attachments(20, at=4.0))
    assert made.values == {DEFAULT: 20}, "then attachments are all there is to go by"


def test_it_is_written_rarely_and_by_rename(state: StateDir) -> None:
    made = arrivals(state)
    path = state.root / "bursts.json"
    made.save_if_due(1000.0)
    assert not path.exists(), "nothing has arrived"
    made.arrive(DEFAULT, 1000.0)
    made.save_if_due(1000.0)
    first = path.stat().st_ino
    with path.open() as reader:
        made.arrive(DEFAULT, 1001.0)
        made.save_if_due(1000.0 + SAVE_SECONDS - 1)
        assert path.stat().st_ino == first
        made.save_if_due(1000.0 + SAVE_SECONDS)
        assert path.stat().st_ino != first
        assert json.load(reader)["until"] == 1000.0, "a reader has the old file to its end"
    assert path.stat().st_mode & 0o777 == 0o600


def test_on_a_full_disk_it_is_tried_again(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    made = arrivals(state)
    made.arrive(DEFAULT, 1000.0)
    with monkeypatch.context() as broken:
        broken.setattr(StateDir, "replace", full)
        made.save_if_due(1000.0)
    made.save_if_due(1000.0 + SAVE_SECONDS)
    assert (state.root / "bursts.json").exists()


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_only_so_many_lists_are_kept(state: StateDir) -> None:
    made = arrivals(state)
    for number in range(MAX_LISTS + 1):
        made.arrive((f"pool-{number}",), 1.0)
    assert len(made.values) == MAX_LISTS
    assert ("pool-0",) not in made.values
