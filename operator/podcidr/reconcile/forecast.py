"""When a pool's last free block will be claimed, if the last hours go on. A straight line through a few samples."""

from collections import deque
from dataclasses import dataclass, field

SAMPLE_SECONDS = 60.0
SAMPLES = 360
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
        mean_time = sum(at for at, _ in self.samples) / len(self.samples)
        mean_free = sum(free for _, free in self.samples) / len(self.samples)
        spread = sum((at - mean_time) ** 2 for at, _ in self.samples)
        slope = sum((at - mean_time) * (free - mean_free) for at, free in self.samples) / spread
        if slope >= 0:
            return None
        return max(0, round(self.samples[-1][1] / -slope))
