"""Who held which address when, as the harness saw it: the judge of 'no address twice', independent of the product."""

import time
from collections import defaultdict
from dataclasses import dataclass


@dataclass
class Holding:
    """An address held by a container. Times are of one monotonic clock; `until` is None while it is held."""

    address: str
    container: str
    node: str
    since: float
    until: float | None = None

    def overlaps(self, later: "Holding") -> bool:
        """Whether a holding that began later began before this one ended."""
        return self.until is None or later.since < self.until

    def __str__(self) -> str:
        end = "now" if self.until is None else f"{self.until:.3f}"
        return f"{self.container[:12]} on {self.node} from {self.since:.3f} to {end}"


class Ledger:
    """Records each assignment from the return of its ADD to the start of its DEL: then it was held for certain."""

    def __init__(self) -> None:
        self.holdings: list[Holding] = []
        self._held: dict[tuple[str, str], Holding] = {}

    def assign(self, address: str, container: str, node: str) -> None:
        """An ADD has returned this address."""
        holding = Holding(address, container, node, time.monotonic())
        self.holdings.append(holding)
        self._held[container, address] = holding

    def release(self, container: str) -> None:
        """A DEL of this container is about to start, or its network namespace is gone."""
        now = time.monotonic()
        for key in [key for key in self._held if key[0] == container]:
            self._held.pop(key).until = now

    def held(self) -> dict[str, Holding]:
        """What is held now, by address."""
        return {holding.address: holding for holding in self._held.values()}

    def check_overlaps(self) -> list[str]:
        """Each case of one address held by two at a time, in words; empty is what has to be."""
        return [f"{earlier.address} held by {earlier} and by {later}" for earlier, later in self._neighbours() if earlier.overlaps(later)]

    def shortest_rest_seconds(self) -> float | None:
        """The shortest time between two holdings of one address (the cooldown, at least); None if none was used twice."""
        rests = [later.since - earlier.until for earlier, later in self._neighbours() if earlier.until is not None]
        return min(rests, default=None)

    def _neighbours(self) -> list[tuple[Holding, Holding]]:
        """Pairs of one address: each holding with the one before it that lasts longest."""
        by_address: dict[str, list[Holding]] = defaultdict(list)
        for holding in self.holdings:
            by_address[holding.address].append(holding)
        pairs = []
        for holdings in by_address.values():
            holdings.sort(key=lambda holding: holding.since)
            longest = holdings[0]
            for later in holdings[1:]:
                pairs.append((longest, later))
                if longest.until is not None and (later.until is None or later.until > longest.until):
                    longest = later
        return pairs
