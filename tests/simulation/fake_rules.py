"""What the CRDs and admission policies refuse, as far as the product relies on it (the contract tests hold it to the real ones)."""

from typing import Any

from podcidr.api.names import MAX_EPOCH_STEP
from podcidr.core.prefix import block_name, parse_prefix

Object = dict[str, Any]

DEFAULTS: dict[str, Object] = {"nodecidrs": {"pools": [], "blocks": []}}


def defaulted(plural: str, obj: Object) -> Object:
    """Fill in what the schema fills in."""
    defaults = DEFAULTS.get(plural)
    if defaults is None or "spec" not in obj:
        return obj
    return {**obj, "spec": {**defaults, **obj["spec"]}}


def broken_rule(plural: str, old: Object | None, new: Object) -> str | None:
    """The message of the CEL rule that the write breaks, or None."""
    spec, before = new.get("spec") or {}, (old or {}).get("spec")
    if plural == "nodecidrs":
        if before is None and spec.get("blocks"):
            return "a NodeCIDR is created without blocks, which enter it later one by one"
        if before is not None and spec != before and spec["epoch"] <= before["epoch"]:
            return f"spec changed, but epoch did not grow: write one above {before['epoch']}"
        if spec["epoch"] > (before or {"epoch": 0})["epoch"] + MAX_EPOCH_STEP:
            return f"epoch {spec['epoch']} is more than {MAX_EPOCH_STEP} above the last one"
    if plural == "ipblocks":
        if before is not None and spec != before:
            return "spec is immutable: a block changes hands only when its IPBlock is deleted and claimed again"
        if new["metadata"]["name"] != block_name(parse_prefix(spec["cidr"])):
            return f"metadata.name {new['metadata']['name']} is not the one of CIDR {spec['cidr']}"
    if plural == "ippools" and before is not None:
        for family in ("ipv4", "ipv6"):
            lengths = [(s.get(family) or {}).get("blockPrefixLength") for s in (before, spec)]
            if lengths[0] is not None and lengths[0] != lengths[1]:
                return f"spec.{family}.blockPrefixLength is immutable"
    return None


def forbidden_delete(plural: str, obj: Object) -> str | None:
    """The policy that lets no NodeCIDR go that lists blocks. (Who asks is not modelled: all callers are the operator.)"""
    if plural == "nodecidrs" and obj["spec"].get("blocks"):
        return f"NodeCIDR {obj['metadata']['name']} still has {len(obj['spec']['blocks'])} block(s) whose addresses may be in use"
    return None
