"""Every name that podcidr shares with the API server. Standard library only: the agent imports it."""

from typing import Final

GROUP: Final = "podcidr.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "podcidr"
CLI_API_VERSION: Final = "cli.podcidr.io/v1"

KIND_IPPOOL: Final = "IPPool"
KIND_NODECIDR: Final = "NodeCIDR"
KIND_IPBLOCK: Final = "IPBlock"

PLURAL_IPPOOLS: Final = "ippools"
PLURAL_NODECIDRS: Final = "nodecidrs"
PLURAL_IPBLOCKS: Final = "ipblocks"

SINGULAR_IPPOOL: Final = "ippool"
SINGULAR_NODECIDR: Final = "nodecidr"
SINGULAR_IPBLOCK: Final = "ipblock"

SHORT_IPPOOL: Final = "ipp"
SHORT_NODECIDR: Final = "ncidr"
SHORT_IPBLOCK: Final = "ipb"

# Holds an IPPool until no IPBlock names it, and a NodeCIDR until its last block has left.
FINALIZER: Final = "podcidr.io/ledger"

# On a Namespace: pool names, JSON array or comma list. Calico's are read where ours is absent.
ANNOTATION_POOLS: Final = "podcidr.io/pools"
ANNOTATION_CALICO_IPV4_POOLS: Final = "cni.projectcalico.org/ipv4pools"
ANNOTATION_CALICO_IPV6_POOLS: Final = "cni.projectcalico.org/ipv6pools"

# On a NodeCIDR, by a person: the machine is gone for good. The value is the last report's time (or NEVER): a later report voids it.
ANNOTATION_MACHINE_GONE: Final = "podcidr.io/machine-gone"
NEVER: Final = "never"

LABEL_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
LABEL_HOSTNAME: Final = "kubernetes.io/hostname"
CLAIM_NODE_NAME: Final = "authentication.kubernetes.io/node-name"

# spec.blocks[].state of a NodeCIDR
STATE_ACTIVE: Final = "Active"
STATE_DRAINING: Final = "Draining"

# status.state of an IPBlock; an absent status means Claimed, for CREATE drops it.
STATE_CLAIMED: Final = "Claimed"
STATE_QUARANTINED: Final = "Quarantined"

FAMILY_IPV4: Final = "ipv4"
FAMILY_IPV6: Final = "ipv6"

GATEWAY_POOL: Final = "Pool"
GATEWAY_BLOCK: Final = "Block"
GATEWAY_NONE: Final = "None"

ALLOCATION_AUTOMATIC: Final = "Automatic"
ALLOCATION_PINNED: Final = "Pinned"

STATUS_TRUE: Final = "True"
STATUS_FALSE: Final = "False"
STATUS_UNKNOWN: Final = "Unknown"

# IPPool conditions
CONDITION_ACCEPTED: Final = "Accepted"
CONDITION_NEAR_EXHAUSTION: Final = "NearExhaustion"
CONDITION_EXHAUSTED: Final = "Exhausted"
CONDITION_DRAINED: Final = "Drained"

# NodeCIDR conditions
CONDITION_READY: Final = "Ready"
CONDITION_WAITING_FOR_ADDRESSES: Final = "WaitingForAddresses"

# Reasons of Accepted
REASON_ACCEPTED: Final = "Accepted"
REASON_CIDR_OVERLAP: Final = "CIDROverlap"
REASON_INVALID: Final = "Invalid"
REASON_IMPORT_PENDING: Final = "ImportPending"
REASON_ADDRESSES_IN_USE: Final = "AddressesInUse"  # unknown addresses of nodes or pods lie in the pool
REASON_SERVICE_CIDR: Final = "ServiceCIDROverlap"
REASON_CIDR_DRAINING: Final = "CIDRDraining"  # a CIDR was removed, and nodes still hold blocks of it
REASON_BLOCKS_BARRED: Final = "BlocksBarred"  # blocks of a pool that is gone, or has lost the CIDR, lie in the pool

# Reasons of NearExhaustion and Exhausted
REASON_BLOCKS_FREE: Final = "BlocksFree"
REASON_NOTHING_ACCEPTED: Final = "NothingAccepted"
REASON_FEW_BLOCKS_FREE: Final = "FewBlocksFree"
REASON_NO_BLOCK_FREE: Final = "NoBlockFree"

# Reasons of Drained
REASON_ENABLED: Final = "Enabled"
REASON_BLOCKS_CLAIMED: Final = "BlocksClaimed"
REASON_DELETION_WAITS: Final = "DeletionWaits"
REASON_EMPTY: Final = "Empty"

# Reasons of Ready and WaitingForAddresses
REASON_BLOCKS_PUBLISHED: Final = "BlocksPublished"
REASON_NO_BLOCKS: Final = "NoBlocks"
REASON_STATE_DIR_NOT_WRITTEN: Final = "StateDirNotWritten"
REASON_POOL_NOT_SEEN: Final = "PoolNotSeen"
REASON_PODS_PENDING: Final = "PodsPending"
REASON_NONE_PENDING: Final = "NonePending"

# Event reasons
EVENT_BLOCK_CLAIMED: Final = "BlockClaimed"
EVENT_BLOCK_DRAINING: Final = "BlockDraining"
EVENT_BLOCK_RELEASED: Final = "BlockReleased"
EVENT_BLOCK_ADOPTED: Final = "BlockAdopted"
EVENT_BLOCK_CONFLICT: Final = "BlockConflict"
EVENT_BLOCK_ORPHANED: Final = "BlockOrphaned"
EVENT_INVARIANT_VIOLATED: Final = "InvariantViolated"
EVENT_LEDGER_SUSPECT: Final = "LedgerSuspect"
EVENT_NODE_SHORT: Final = "NodeShortOfAddresses"
EVENT_NODE_LOST: Final = "NodeLost"
EVENT_AGENT_SILENT: Final = "AgentSilent"
EVENT_POOL_ACCEPTED: Final = "PoolAccepted"
EVENT_POOL_NOT_ACCEPTED: Final = "PoolNotAccepted"
EVENT_POOL_NEAR_EXHAUSTION: Final = "PoolNearExhaustion"
EVENT_POOL_EXHAUSTED: Final = "PoolExhausted"
EVENT_POOL_DRAINED: Final = "PoolDrained"
EVENT_POOL_DELETION_WAITS: Final = "PoolDeletionWaits"
EVENT_PIN_INVALID: Final = "PinInvalid"
EVENT_ADDRESS_RECLAIMED: Final = "AddressReclaimed"
EVENT_STATE_DIR_NOT_WRITTEN: Final = "StateDirNotWritten"
EVENT_STATE_FILE_DAMAGED: Final = "StateFileDamaged"

# A field manager is the program's name.
MANAGER_OPERATOR: Final = "podcidr-operator"
MANAGER_AGENT: Final = "podcidr-agent"
MANAGER_CLI: Final = "podcidr"

NAMESPACE: Final = "podcidr-system"
SERVICE_ACCOUNT_OPERATOR: Final = "podcidr-operator"
SERVICE_ACCOUNT_AGENT: Final = "podcidr-agent"
LEASE: Final = "podcidr-operator"

# The API server refuses Events about cluster-scoped objects anywhere else.
EVENT_NAMESPACE: Final = "default"

# ConfigMaps beside the Lease: who held which block when, a ring of segments.
HISTORY: Final = "podcidr-history"
HISTORY_LABELS: Final = {"app.kubernetes.io/name": "podcidr", "app.kubernetes.io/component": "history"}


def history_name(slot: int) -> str:
    """Name of one segment's ConfigMap."""
    return f"{HISTORY}-{slot:02}"


# The largest integer that every JSON reader keeps exact; IPv6 counts stop here.
MAX_COUNT: Final = 2**53 - 1
MAX_EPOCH_STEP: Final = 1_000_000  # a NodeCIDR's epoch never falls: one set to its end by hand could never be written again

# Limits of the CRDs that writers have to respect: the API server refuses a longer list.
MAX_FAMILY_CIDRS: Final = 32  # spec.ipv4.cidrs of an IPPool, and ipv6
MAX_RESERVED: Final = 256  # spec.reserved of an IPPool
MAX_NODE_POOLS: Final = 64  # spec.pools and status.demand[].pools of a NodeCIDR
MAX_NODE_BLOCKS: Final = 1024  # spec.blocks of a NodeCIDR
MAX_REPORTED_BLOCKS: Final = 4096  # status.blocks of a NodeCIDR
MAX_DEMANDS: Final = 256  # status.demand of a NodeCIDR
MAX_CONDITIONS: Final = 16
MAX_POOL_NAME: Final = 63  # characters
MAX_MESSAGE: Final = 4096  # characters of a condition's message
