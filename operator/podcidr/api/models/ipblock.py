"""IPBlock: the ledger. Creating one is the lock on its CIDR."""

from typing import Literal

from pydantic import ConfigDict, Field

from podcidr.api.models.shape import CIDR_LENGTH, Count, Metadata, NodeName, PoolName, Shape, Timestamp, UIDText, rule, rules

# The lock holds only if one CIDR has one name: 10-64-3-0-28, and IPv6 with all its zeros written out.
NAME_RULES = rules(
    rule(
        "!isCIDR(self.spec.cidr) || (cidr(self.spec.cidr).ip().family() == 4"
        " ? self.metadata.name == self.spec.cidr.replace('.', '-').replace('/', '-')"
        " : self.metadata.name.matches('^([0-9a-f]{4}-){8}[0-9]{1,3}$')"
        " && ip(self.metadata.name.substring(0, 39).replace('-', ':')) == cidr(self.spec.cidr).ip()"
        " && self.metadata.name.substring(40) == string(cidr(self.spec.cidr).prefixLength()))",
        "the name must be the CIDR's, as 10-64-3-0-28 for 10.64.3.0/28 (IPv6 with all zeros written out)",
        computed="'metadata.name %s is not the one of CIDR %s: write it as 10-64-3-0-28 for 10.64.3.0/28, IPv6 with all"
        " zeros written out'.format([self.metadata.name, self.spec.cidr])",
    )
)
CIDR_RULES = rules(
    rule("isCIDR(self)", "is no CIDR: write an address, a slash and a prefix length, as 10.64.3.0/28"),
    rule(
        "!isCIDR(self) || string(cidr(self).masked()) == self",
        "is not in its canonical form: no host bits, IPv6 shortened",
        computed="'is not in its canonical form: write %s'.format([string(cidr(self).masked())])",
    ),
)


class IPBlockSpec(Shape):
    """Which node holds the block. Immutable: a block changes hands only by deletion and a new claim."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self == oldSelf",
                "spec is immutable: a block changes hands only when its IPBlock is deleted and claimed again",
            )
        )
    )

    cidr: str = Field(description="The block, in canonical form.", max_length=CIDR_LENGTH, json_schema_extra=CIDR_RULES)
    pool: PoolName = Field(description="IPPool that the block was claimed from.")
    pool_uid: UIDText = Field(description="UID of that IPPool.")
    node: NodeName = Field(description="Node that the block was claimed for.")
    node_cidr_uid: UIDText = Field(
        description="UID of the NodeCIDR that the claim was made for; one made again later does not own the block."
    )


class IPBlockStatus(Shape):
    """Where the block is in its life."""

    state: Literal["Claimed", "Quarantined"] = Field(
        default="Claimed",
        description="Claimed: a node may use the block. Quarantined: no node may, until its pool's quarantineSeconds are over.",
    )
    released_at: Timestamp | None = Field(default=None, description="When the quarantine began, on the operator's clock.")
    touches: Count = Field(
        default=0, description="Grows when the operator has to raise the resourceVersion without another change (adoption)."
    )


class IPBlock(Shape):
    """An IPBlock says which node holds a block of addresses. The operator writes it; people only look."""

    model_config = ConfigDict(json_schema_extra=NAME_RULES)

    metadata: Metadata
    spec: IPBlockSpec = Field(description="Which node holds the block.")
    status: IPBlockStatus | None = Field(default=None, description="Where the block is in its life; absent means Claimed.")
