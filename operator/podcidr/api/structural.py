"""JSON schema, as pydantic emits it, → structural schema, as a CRD needs it. Raises on what has no such form."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

# In the order in which they are written.
KEPT = (
    "description", "type", "format", "enum", "default", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties",
    "nullable", "required", "properties", "additionalProperties", "items", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
)  # fmt: skip
DROPPED = ("title", "examples", "$defs")
UNTYPED = ("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")


class NotStructural(ValueError):
    """A part of a model that a CRD can't express; the text names it and says what to write instead."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def structural(schema: Schema, path: str, *, defaults: bool = True) -> Schema:
    """Turn a whole document; `defaults` False leaves defaults out (they are written into objects on every read)."""
    return _node(schema, schema.get("$defs", {}), path, (), defaults)


def _node(schema: Schema, defs: Mapping[str, Schema], path: str, trail: tuple[str, ...], defaults: bool) -> Schema:
    schema, trail = _resolve(schema, defs, path, trail)
    schema = _open_api(schema)
    if not defaults or schema.get("default", "") in (None, ""):
        schema.pop("default", None)
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], bool):
        del schema["additionalProperties"]  # pruning does what False asks for
    if unknown := sorted(set(schema) - set(KEPT) - set(DROPPED)):
        raise NotStructural(path, f"{unknown[0]} has no structural form")
    _check(schema, path)
    if "properties" in schema:
        schema["properties"] = {name: _node(part, defs, f"{path}.{name}", trail, defaults) for name, part in schema["properties"].items()}
    if "additionalProperties" in schema:
        schema["additionalProperties"] = _node(schema["additionalProperties"], defs, f"{path}[*]", trail, defaults)
    if "items" in schema:
        schema["items"] = _node(schema["items"], defs, f"{path}[]", trail, defaults)
    for key in schema.get("x-kubernetes-list-map-keys", ()):
        if key not in schema["items"].get("required", ()):
            raise NotStructural(path, f"list key {key} must be required")
    return {key: schema[key] for key in KEPT if key in schema}


def _resolve(schema: Schema, defs: Mapping[str, Schema], path: str, trail: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
    """Put what `$ref` and `T | None` stand for in their place; the keys beside them win."""
    while "$ref" in schema or "anyOf" in schema:
        beside = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            if name in trail:
                raise NotStructural(path, f"{name} contains itself; a structural schema can't recurse")
            trail = (*trail, name)
            schema = defs[name] | beside
            continue
        branches = [branch for branch in schema["anyOf"] if branch.get("type") != "null"]
        if len(branches) != 1:
            raise NotStructural(path, "a union has no structural form; use optional siblings and a rule")
        schema = branches[0] | beside
    return dict(schema), trail


def _open_api(schema: Schema) -> Schema:
    """Turn the keys in which JSON schema and OpenAPI 3.0 differ."""
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in schema:
            schema |= {bound: schema[exclusive], exclusive: True}
    if isinstance(schema.get("default"), dict):
        schema["default"] = {key: value for key, value in schema["default"].items() if value is not None}
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if schema.get("type") == "integer":
        schema.setdefault("format", "int64")
    return schema


def _check(schema: Schema, path: str) -> None:
    """Refuse what the API server refuses, and what CEL can't bound the cost of."""
    kind = schema.get("type")
    if not any(key in schema for key in UNTYPED) and kind not in (
        "object", "array", "string", "integer", "number", "boolean",
    ):  # fmt: skip
        raise NotStructural(path, f"type {kind!r} has no structural form; give the field one plain type")
    if kind == "string" and not {"maxLength", "enum"} & schema.keys():
        raise NotStructural(path, "the string has no bound; set max_length")
    if kind == "array" and "items" not in schema:
        raise NotStructural(path, "the list has no type of its items; use list[T]")
    if kind == "array" and "maxItems" not in schema:
        raise NotStructural(path, "the list has no bound; set max_length")
    if kind == "object" and "additionalProperties" in schema and "properties" in schema:
        raise NotStructural(path, "has both fields and free keys; use one of them")
    if kind == "object" and "additionalProperties" in schema and "maxProperties" not in schema:
        raise NotStructural(path, "the map has no bound; set max_length")
