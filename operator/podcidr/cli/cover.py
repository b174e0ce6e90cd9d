"""Which prefixes lie around an address: by length, so that it costs the same however many prefixes there are."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from podcidr.cli.reading import Address
from podcidr.core.prefix import BITS, Family, Prefix

T = TypeVar("T")


class Cover(Generic[T]):
    """Prefixes with what they stand for; a prefix may stand for several things."""

    def __init__(self, pairs: Iterable[tuple[Prefix, T]]) -> None:
        self._found: dict[Prefix, list[T]] = defaultdict(list)
        for prefix, value in pairs:
            self._found[prefix].append(value)
        self._lengths: dict[Family, list[int]] = {
            family: sorted({prefix.length for prefix in self._found if prefix.family is family}) for family in Family
        }

    def around(self, address: Address) -> Iterator[tuple[Prefix, T]]:
        """What lies around the address, the widest first."""
        family, number = address
        for length in self._lengths[family]:
            shift = BITS[family] - length
            prefix = Prefix(family, number >> shift << shift, length)
            for value in self._found.get(prefix, ()):
                yield prefix, value

    def __contains__(self, address: Address) -> bool:
        return any(True for _ in self.around(address))
