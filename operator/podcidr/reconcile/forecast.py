"""When a pool's last free block will be claimed, if the last hours go on: a straight line through the samples.

Two lines, the sooner counts: six hours see slow growth through the noise, two hours a morning's rise, which six would
notice when it is over. On recorded traces it is still a trend and no promise: bench/forecast.py has the errors.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

SAMPLE_SECONDS = 60.0
SAMPLES, RECENT_SAMPLES = 360, 120
MINIMUM_SAMPLES = 5


@dataclass
class Forecast:
    """Free blocks over time, of one pool and family."""

    samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=SAMPLES))

    def add(self, now: float, free_blocks: int) -> None:
        """Take a sample, at most one a minute."""
        if not self.samples or now - self.samples[-1][0] >= SAMPLE_SECONDS:
            self.samples.append((now, free_blocks))

    def seconds_to_exhaustion(self) -> int | None:
        """From the last sample on; None: the pool does not fill, or too little is known."""
        if len(self.samples) < MINIMUM_SAMPLES:
            return None
        recent = list(islice(self.samples, max(0, len(self.samples) - RECENT_SAMPLES), None))
        return min((seconds for line in (list(self.samples), recent) if (seconds := _seconds_to_zero(line)) is not None), default=None)


def _seconds_to_zero(samples: Sequence[tuple[float, int]]) -> int | None:
    """Least squares, from the last sample's value on."""
    mean_time = sum(at for at, _ in samples) / len(samples)
    mean_free = sum(free for _, free in samples) / len(samples)
    spread = sum((at - mean_time) ** 2 for at, _ in samples)
    slope = sum((at - mean_time) * (free - mean_free) for at, free in samples) / spread
    return max(0, round(samples[-1][1] / -slope)) if slope < 0 else None
