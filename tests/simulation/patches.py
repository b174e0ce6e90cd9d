"""RFC 6902 and RFC 7396, as far as Kubernetes clients use them. What is patched is never changed in place."""

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]


class PatchFailed(Exception):
    """A test that failed, or a path that is not there: the server answers 422."""


def json_patch(obj: Object, operations: Sequence[Object]) -> Object:
    """Apply `test`, `add`, `replace` and `remove`, all or nothing."""
    for operation in operations:
        keys = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        obj = _apply(obj, keys, operation)
    return obj


def _apply(node: Any, keys: list[str], operation: Object) -> Any:
    if isinstance(node, list):
        return _apply_to_list(node, keys, operation)
    if not isinstance(node, dict):
        raise PatchFailed(f"{operation['path']}: no such path")
    key, kind = keys[0], operation["op"]
    if len(keys) > 1:
        if key not in node:
            raise PatchFailed(f"{operation['path']}: no such path")
        return {**node, key: _apply(node[key], keys[1:], operation)}
    if kind == "test":
        if node.get(key) != operation["value"]:
            raise PatchFailed(f"testing value {operation['path']} failed")
        return node
    if kind != "add" and key not in node:
        raise PatchFailed(f"{operation['path']}: no such path")
    if kind == "remove":
        return {k: v for k, v in node.items() if k != key}
    return {**node, key: operation["value"]}


def _apply_to_list(node: list[Any], keys: list[str], operation: Object) -> list[Any]:
    index = len(node) if keys[0] == "-" else int(keys[0])
    if index > len(node) or (index == len(node) and (operation["op"] != "add" or len(keys) > 1)):
        raise PatchFailed(f"{operation['path']}: no such index")
    if len(keys) > 1:
        return [*node[:index], _apply(node[index], keys[1:], operation), *node[index + 1 :]]
    match operation["op"]:
        case "add":
            return [*node[:index], operation["value"], *node[index:]]
        case "remove":
            return node[:index] + node[index + 1 :]
        case "test" if node[index] != operation["value"]:
            raise PatchFailed(f"testing value {operation['path']} failed")
        case "replace":
            return [*node[:index], operation["value"], *node[index + 1 :]]
    return node


def merge_patch(obj: Any, patch: Any) -> Any:
    """null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(obj) if isinstance(obj, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
