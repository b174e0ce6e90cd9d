"""How much is looked at: all of it in `make test`, a share in `make test-fast`, which is for every few minutes."""

import os


def share(count: int) -> int:
    """So many of `count` examples as EFFORT_PERCENT says (default: all), one at least."""
    return max(1, count * int(os.environ.get("EFFORT_PERCENT", "100")) // 100)
