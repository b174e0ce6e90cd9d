"""NodeCIDR: what a node may use (spec, by the operator) and what it uses (status, by its agent)."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from podcidr.api import names
from podcidr.api.models.shape import (
    LIST_ATOMIC,
    CIDRText,
    Condition,
    Count,
    FamilyName,
    Metadata,
    PoolName,
    Shape,
    Timestamp,
    UIDText,
    list_map,
    rule,
    rules,
)

QuestionText = Annotated[str, Field(max_length=64)]
POOLS_JOINED_LENGTH = names.MAX_NODE_POOLS * (names.MAX_POOL_NAME + 1)

# Status writes run these rules too, hence `self == oldSelf`.
SPEC_RULES = rules(
    rule(
        "self == oldSelf || self.epoch > oldSelf.epoch",
        "spec changed, but epoch did not grow: raise it with every change",
        computed="'spec changed, but epoch did not grow: write one above %d'.format([oldSelf.epoch])",
    ),
    rule(
        "oldSelf.hasValue() || self.blocks.size() == 0",
        "a NodeCIDR is created without blocks, which enter it later one by one (a restored backup could list another"
        " node's): remove spec.blocks",
        on_create=True,
    ),
    rule(
        f"self.epoch <= oldSelf.optMap(old, old.epoch).orValue(0) + {names.MAX_EPOCH_STEP}",
        f"epoch is more than {names.MAX_EPOCH_STEP} above the last one (0 at creation), and there is no way back: raise it by 1",
        on_create=True,
    ),
)


class NodeBlock(Shape):
    """A block that the node may use."""

    cidr: CIDRText = Field(
        description="The block.",
        json_schema_extra=rules(
            rule(
                "isCIDR(self) && string(cidr(self).masked()) == self",
                "is no CIDR in canonical form (no host bits, IPv6 shortened), as 10.64.3.0/28",
            )
        ),
    )
    pool: PoolName = Field(description="IPPool that the block belongs to.")
    pool_uid: UIDText = Field(description="UID of that IPPool.")
    pool_generation: int = Field(
        description="Generation of the IPPool the block was claimed at; the agent waits until it has seen it.", ge=0
    )
    state: Literal["Active", "Draining"] = Field(
        description="Active: pods get addresses of the block. Draining: no new ones; it leaves when empty and cooled."
    )


class NodeCIDRSpec(Shape):
    """What the node may use."""

    model_config = ConfigDict(json_schema_extra=SPEC_RULES)

    epoch: int = Field(
        description="Grows with every change of the spec; a report counts only at the epoch it was made at.",
        ge=1,
        le=names.MAX_COUNT,
    )
    question: QuestionText | None = Field(
        default=None,
        description="Random; another one whenever the operator has to ask what the node uses, as after a restore of etcd.",
    )
    pools: list[PoolName] = Field(
        default=[],
        description="Pools for pods that pin none, in order of preference.",
        max_length=names.MAX_NODE_POOLS,
        json_schema_extra=LIST_ATOMIC,
    )
    blocks: list[NodeBlock] = Field(
        default=[],
        description="Blocks that the node may use.",
        max_length=names.MAX_NODE_BLOCKS,
        json_schema_extra=list_map("cidr"),
    )


class BlockUsage(Shape):
    """Use of one block, listed in the spec or not."""

    cidr: CIDRText = Field(description="The block; an address of no known pool stands as its own /32 or /128.")
    in_use: Count = Field(default=0, description="Addresses held by attachments.")
    cooling: Count = Field(default=0, description="Addresses that rest before they are assigned again.")


class Demand(Shape):
    """Pods of the node that wait for an address out of the same pools."""

    name: Annotated[str, Field(max_length=POOLS_JOINED_LENGTH)] = Field(description="The pools, in order, joined with commas.")
    family: FamilyName = Field(description="Family that is asked for.")
    pools: list[PoolName] = Field(
        default=[],
        description="The pools, in order of preference.",
        max_length=names.MAX_NODE_POOLS,
        json_schema_extra=LIST_ATOMIC,
    )
    pending: Count = Field(default=0, description="Pods that wait for an address.")
    burst: Count = Field(default=0, description="99th percentile of how many pods arrive within the time that a new block takes to come.")


class NodeCIDRStatus(Shape):
    """What the node uses, as its agent counted it."""

    observed_uid: UIDText | None = Field(default=None, description="UID of the NodeCIDR that the agent counted for.")
    observed_epoch: Count = Field(default=0, description="Epoch that the agent had carried out when it counted.")
    observed_question: QuestionText | None = Field(
        default=None, description="spec.question at that epoch: after a restore of etcd epochs come again, and no earlier report may count."
    )
    reported_at: Timestamp | None = Field(default=None, description="When the agent counted, on the node's clock.")
    block_count: Count | None = Field(default=None, description="Blocks in the spec at observedEpoch.")
    blocks: list[BlockUsage] = Field(
        default=[],
        description="Every block with attachments or cooling addresses, and every block of the spec.",
        max_length=names.MAX_REPORTED_BLOCKS,
        json_schema_extra=list_map("cidr"),
    )
    in_use: Count = Field(default=0, description="Addresses held by pods.")
    capacity: Count = Field(default=0, description="Addresses that the Active blocks can give.")
    pending: Count = Field(default=0, description="Pods that wait for an address.")
    host_network_pods: Count = Field(default=0, description="Pods that need no address; they bound the headroom.")
    demand: list[Demand] = Field(
        default=[],
        description="Waiting pods and burst, by pools and family.",
        max_length=names.MAX_DEMANDS,
        json_schema_extra=list_map("name", "family"),
    )
    conditions: list[Condition] = Field(
        default=[],
        description="Ready: the agent has carried out the spec. WaitingForAddresses: pods wait, and since when.",
        max_length=names.MAX_CONDITIONS,
        json_schema_extra=list_map("type"),
    )


# The operator writes epochs above what the node has seen: a report from nowhere would end them.
REPORT_RULES = rules(
    rule(
        f"!has(self.status) || !has(self.status.observedEpoch) || self.status.observedEpoch <= self.spec.epoch + {names.MAX_EPOCH_STEP}",
        f"status.observedEpoch is more than {names.MAX_EPOCH_STEP} above spec.epoch, which no agent can have seen: write the epoch seen",
    )
)


class NodeCIDR(Shape):
    """A NodeCIDR, named as its node, lists the blocks the node may use and reports how full they are."""

    model_config = ConfigDict(json_schema_extra=REPORT_RULES)

    metadata: Metadata
    spec: NodeCIDRSpec = Field(description="What the node may use; written by the operator only.")
    status: NodeCIDRStatus | None = Field(default=None, description="What the node uses; written by its agent only.")
