"""Every write of the operator on NodeCIDR and IPBlock, one method each, and the reads that settle a doubt.

Each takes the version it was decided on, and feeds what the API server answered into the caches at once.
"""

from typing import Any

from podcidr.api import convert, names
from podcidr.core.actions import Adopt, Claim, Free
from podcidr.core.model import Block, Node, NodeCIDR, Pool
from podcidr.core.prefix import block_name
from podcidr.kube.client import KubeClient, Object
from podcidr.kube.clock import Clock, rfc3339
from podcidr.kube.errors import NotFound
from podcidr.kube.resources import IPBLOCKS, NODECIDRS, NODES
from podcidr.reconcile.observed import Observed


class Writes:
    """The API as the applier uses it."""

    def __init__(self, client: KubeClient, clock: Clock, observed: Observed) -> None:
        self._client, self._clock, self._observed = client, clock, observed

    async def create_nodecidr(self, name: str, pools: tuple[str, ...]) -> None:
        """Without blocks, at epoch 1: blocks enter by patches only."""
        meta = {"name": name, "finalizers": [names.FINALIZER]}
        spec = {"epoch": 1, "pools": list(pools), "blocks": []}
        created = await self._client.create(NODECIDRS, _object("NodeCIDR", meta, spec))
        self._observed.nodecidrs.observe(created)

    async def patch_nodecidr(self, name: str, operations: list[dict[str, Any]]) -> NodeCIDR:
        """A JSON patch that tests uid and epoch."""
        patched = await self._client.json_patch(NODECIDRS, name, operations)
        self._observed.nodecidrs.observe(patched)
        return convert.nodecidr(patched)

    async def delete_nodecidr(self, nodecidr: NodeCIDR) -> None:
        """Mark, then let go, each on the version before: a block that enters between the two keeps it."""
        version = str(nodecidr.resource_version)
        if not nodecidr.deleting:
            marked = await self._client.delete(NODECIDRS, nodecidr.name, uid=nodecidr.uid, resource_version=version)
            if marked.get("kind") == "Status":  # it had no finalizer
                self._observed.nodecidrs.forget(nodecidr.name)
                return
            self._observed.nodecidrs.observe(marked)
            version = marked["metadata"]["resourceVersion"]
        body = {"metadata": {"resourceVersion": version, "uid": nodecidr.uid, "finalizers": None}}
        await self._client.merge_patch(NODECIDRS, nodecidr.name, body)
        self._observed.nodecidrs.forget(nodecidr.name)

    async def create_block(self, action: Claim | Adopt, nodecidr_uid: str) -> Block:
        """The lock. (The API server drops a status in CREATE: absent means Claimed.)"""
        spec = {
            "cidr": str(action.prefix),
            "pool": action.pool,
            "poolUID": action.pool_uid,
            "node": action.node,
            "nodeCIDRUID": nodecidr_uid,
        }
        created = await self._client.create(IPBLOCKS, _object("IPBlock", {"name": block_name(action.prefix)}, spec))
        return self._seen(created)

    async def touch_block(self, block: Block) -> Block:
        """A write that changes something: one that does not would leave the resourceVersion as it is."""
        return await self._status(block, {"state": names.STATE_CLAIMED, "touches": block.touches + 1})

    async def quarantine(self, block: Block) -> Block:
        """Released now; rests from here."""
        released_at = rfc3339(self._clock.wall())
        return await self._status(block, {"state": names.STATE_QUARANTINED, "releasedAt": released_at})

    async def free(self, action: Free) -> None:
        """Delete on uid and version: the last step of a block's life."""
        name = block_name(action.prefix)
        await self._client.delete(IPBLOCKS, name, uid=action.uid, resource_version=str(action.resource_version))
        self._observed.blocks.forget(name)

    async def read_pools(self) -> dict[str, Pool]:
        """All pools, consistently."""
        await self._observed.pools.relist()
        return dict(self._observed.pools.items)

    async def read_blocks(self) -> list[Block]:
        """The whole ledger, consistently."""
        await self._observed.blocks.relist()
        return list(self._observed.blocks.items.values())

    async def read_node(self, name: str) -> Node | None:
        """As it is now; None if there is none."""
        try:
            obj = await self._client.get(NODES, name)
        except NotFound:
            self._observed.nodes.forget(name)
            return None
        self._observed.nodes.observe(obj)
        return convert.node(obj)

    async def read_nodecidr(self, name: str) -> NodeCIDR | None:
        """As it is now; None if there is none."""
        try:
            obj = await self._client.get(NODECIDRS, name)
        except NotFound:
            self._observed.nodecidrs.forget(name)
            return None
        self._observed.nodecidrs.observe(obj)
        return convert.nodecidr(obj)

    async def read_block(self, name: str) -> Block | None:
        """As it is now; None if there is none."""
        try:
            return self._seen(await self._client.get(IPBLOCKS, name))
        except NotFound:
            self._observed.blocks.forget(name)
            return None

    async def _status(self, block: Block, status: dict[str, Any]) -> Block:
        body = {"metadata": {"resourceVersion": str(block.resource_version), "uid": block.uid}, "status": status}
        return self._seen(await self._client.merge_patch(IPBLOCKS, block.name, body, subresource="status"))

    def _seen(self, obj: Object) -> Block:
        self._observed.blocks.observe(obj)
        return convert.block(obj)


def _object(kind: str, meta: dict[str, Any], spec: dict[str, Any]) -> Object:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": meta, "spec": spec}
