"""How many pods arrive at once, by the pools that may serve them: kept over the agent's restart."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from podcidr.agent.records import Attachment
from podcidr.agent.report import Pools
from podcidr.agent.statedir import StateDir
from podcidr.core.burst import Burst
from podcidr.files import MALFORMED, Damaged

VERSION = 1
_NAME = "bursts.json"
SAVE_SECONDS = 300.0  # a forecast may be a little old; attachments on disk tell of the time since
MAX_LISTS = 32  # lists of pools whose arrivals are remembered

log = structlog.get_logger("podcidr.agent.arrivals")


class Arrivals:
    """One histogram for each list of pools. Times are of CLOCK_BOOTTIME, as in attachments."""

    def __init__(self, state: StateDir, state_id: str) -> None:
        self._state = state
        self._state_id = state_id
        self._bursts: dict[Pools, Burst] = {}
        self._until = 0.0  # what came before is in the histograms already
        self._saved_at = 0.0
        self._unsaved = False

    @property
    def values(self) -> dict[Pools, int]:
        """The burst of each list."""
        return {pools: burst.value for pools, burst in self._bursts.items()}

    def arrive(self, pools: Pools, at_seconds: float) -> None:
        """Count a pod."""
        burst = self._bursts.pop(pools, None) or Burst()
        self._bursts[pools] = burst  # last again: the first is the one not heard of for longest
        burst.arrive(at_seconds)
        self._unsaved = True
        if len(self._bursts) > MAX_LISTS:
            del self._bursts[next(iter(self._bursts))]

    def load(self) -> None:
        """Go on from what an earlier agent saved. A torn or foreign file is as good as none."""
        try:
            document = self._state.read(_NAME) or {}
            if document.get("version") != VERSION or document.get("stateID") != self._state_id:
                return
            self._bursts = dict(_stored(entry) for entry in document["bursts"][-MAX_LISTS:])
            self._until = float(document["until"])
        except (Damaged, OSError, *MALFORMED) as error:
            self._bursts, self._until = {}, 0.0
            log.warning("the burst histogram can't be read and begins anew", error=repr(error))

    def catch_up(self, attachments: Iterable[Attachment], pools_of: Callable[[Attachment], Pools | None], now_seconds: float) -> None:
        """Count what arrived while no agent ran. A pod counted before that was served only after the save counts twice."""
        # Recovered ones bear the time of the recovery: all at once, which would be a burst that never was.
        missed = [one for one in attachments if self._until < one.assigned_at <= now_seconds and not one.recovered]
        for attachment in sorted(missed, key=lambda one: one.assigned_at):
            if pools := pools_of(attachment):
                self.arrive(pools, attachment.assigned_at)

    def save_if_due(self, now_seconds: float) -> None:
        """Now and then, if anything arrived."""
        if self._unsaved and now_seconds - self._saved_at >= SAVE_SECONDS:
            self.save(now_seconds)

    def save(self, now_seconds: float) -> None:
        """Replace the file. What can't be written is tried again at the next occasion: it is only a forecast."""
        bursts = [{"pools": list(pools), **burst.to_dict()} for pools, burst in self._bursts.items()]
        document = {"version": VERSION, "stateID": self._state_id, "until": now_seconds, "bursts": bursts}
        self._saved_at = now_seconds
        try:
            self._state.replace(self._state.root / _NAME, document)
            self._unsaved = False
        except OSError as error:
            log.warning("the burst histogram could not be saved", error=str(error))


def _stored(entry: Mapping[str, Any]) -> tuple[Pools, Burst]:
    pools = tuple(entry["pools"])
    if not pools or not all(isinstance(name, str) for name in pools):
        raise ValueError(f"no names of pools: {entry['pools']!r}")
    return pools, Burst.from_dict(entry)
