"""How full a pool is, as its status says it."""

from pydantic import Field

from podcidr.api.models.shape import Count, Shape


class BlockCounts(Shape):
    """The pool's blocks of one family."""

    total: Count = Field(default=0, description="Blocks that the accepted CIDRs have.")
    claimed: Count = Field(default=0, description="Blocks held by nodes.")
    quarantined: Count = Field(default=0, description="Blocks that rest after their release.")
    free: Count = Field(default=0, description="Blocks that nodes can get.")


class AddressCounts(Shape):
    """The pool's addresses of one family."""

    in_use: Count = Field(default=0, description="Addresses held by pods.")
    cooling: Count = Field(default=0, description="Addresses that rest after their release.")
    free: Count = Field(default=0, description="Addresses that are neither in use, cooling nor reserved.")


class FamilyUsage(Shape):
    """How full one family of the pool is. Counts stop at 2^53 - 1."""

    capacity: Count = Field(default=0, description="Addresses that pods can get.")
    reserved: Count = Field(default=0, description="Addresses that pods never get.")
    blocks: BlockCounts = Field(default=BlockCounts(), description="Blocks.")
    addresses: AddressCounts = Field(default=AddressCounts(), description="Addresses.")
    utilization_percent: int = Field(default=0, description="Addresses in use as a share of capacity.", ge=0, le=100)


class Forecast(Shape):
    """What the trend of the last hours leads to."""

    seconds_to_exhaustion: Count | None = Field(
        default=None, description="Time until the pool is exhausted if use goes on growing. Absent: it does not grow."
    )
