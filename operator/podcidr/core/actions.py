"""What the operator may do, each with its reason in words. Order within one node is the order of life (design: life of a block)."""

from dataclasses import dataclass

from .prefix import Prefix


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do for a node, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class CreateNodeCIDR(Action):
    """Make the node's NodeCIDR, without blocks."""

    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetPools(Action):
    """Write the automatic pools that serve the node, in order."""

    pools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlockAction(Action):
    """An action on one block."""

    prefix: Prefix


@dataclass(frozen=True, slots=True)
class Claim(BlockAction):
    """Enter: create the IPBlock (the lock), then list the block Active."""

    pool: str
    pool_uid: str
    pool_generation: int


@dataclass(frozen=True, slots=True)
class Adopt(BlockAction):
    """List, as Draining, a block that is claimed or used but not listed; its IPBlock is created or touched before."""

    pool: str
    pool_uid: str
    pool_generation: int


@dataclass(frozen=True, slots=True)
class Drain(BlockAction):
    """No new addresses of the block."""


@dataclass(frozen=True, slots=True)
class Undrain(BlockAction):
    """Take a draining block into use again."""

    pool_generation: int


@dataclass(frozen=True, slots=True)
class Leave(BlockAction):
    """Take the block off the list (or fence off a late Enter), then quarantine its IPBlock."""


@dataclass(frozen=True, slots=True)
class Free(BlockAction):
    """Delete the IPBlock: its quarantine is over."""

    uid: str
    resource_version: int


@dataclass(frozen=True, slots=True)
class DeleteNodeCIDR(Action):
    """The node is gone and its last block has left."""


@dataclass(frozen=True, slots=True)
class RaiseEpoch(Action):
    """The node has seen a later epoch than the API has (it was restored): grow past it, or the agent never obeys again.

    With a question: what the agent reports from then on is of this history.
    """

    question: str = ""
