"""What pydantic emits becomes a structural schema, or an error that names the field."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from podcidr.api.structural import NotStructural, structural


def convert(model: type[BaseModel], *, defaults: bool = True) -> dict[str, Any]:
    return structural(model.model_json_schema(), "Top", defaults=defaults)


Text = Annotated[str, Field(max_length=9)]


class Inner(BaseModel):
    """Inner text."""

    size: int = Field(default=3, gt=0)


class Outer(BaseModel):
    """Outer text."""

    model_config = ConfigDict(extra="forbid")

    inner: Inner = Field(default=Inner(), description="Beside the reference.")
    maybe: Inner | None = None
    kind: Literal["a"] = "a"
    labels: dict[str, Text] = Field(default={}, max_length=4)
    when: Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
    note: Text = ""


def test_references_unions_with_none_and_bounds_are_rewritten() -> None:
    assert convert(Outer) == {
        "description": "Outer text.",
        "type": "object",
        "required": ["when"],
        "properties": {
            "inner": {
                "description": "Beside the reference.",
                "type": "object",
                "default": {"size": 3},
                "properties": {"size": INTEGER_ABOVE_0},
            },
            "maybe": {"description": "Inner text.", "type": "object", "properties": {"size": INTEGER_ABOVE_0}},
            "kind": {"type": "string", "enum": ["a"], "default": "a"},
            "labels": {"type": "object", "default": {}, "maxProperties": 4, "additionalProperties": {"type": "string", "maxLength": 9}},
            "when": {"type": "string", "format": "date-time", "maxLength": 64},
            "note": {"type": "string", "maxLength": 9},
        },
    }


INTEGER_ABOVE_0 = {"type": "integer", "format": "int64", "default": 3, "minimum": 0, "exclusiveMinimum": True}


def test_a_status_gets_no_defaults() -> None:
    assert "default" not in str(convert(Outer, defaults=False))


class Tree(BaseModel):
    children: list["Tree"] = Field(default=[], max_length=2)


class IntOrText(BaseModel):
    port: int | Text


class Anything(BaseModel):
    value: Any


class Endless(BaseModel):
    name: str


class EndlessList(BaseModel):
    names: list[Text]


class EndlessMap(BaseModel):
    names: dict[str, Text]


class Pair(BaseModel):
    pair: tuple[int, int]


class Unique(BaseModel):
    names: set[Text] = Field(max_length=3)


class Keyed(BaseModel):
    items: list[Inner] = Field(max_length=3, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["size"]})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Tree, "Top.children[]: Tree contains itself"),
        (IntOrText, "Top.port: a union has no structural form"),
        (Anything, "Top.value: type None has no structural form"),
        (Endless, "Top.name: the string has no bound; set max_length"),
        (EndlessList, "Top.names: the list has no bound; set max_length"),
        (EndlessMap, "Top.names: the map has no bound; set max_length"),
        (Pair, "Top.pair: prefixItems has no structural form"),
        (Unique, "Top.names: uniqueItems has no structural form"),
        (Keyed, "Top.items: list key size must be required"),
    ],
)
def test_what_has_no_structural_form_is_refused(model: type[BaseModel], message: str) -> None:
    with pytest.raises(NotStructural) as caught:
        convert(model)
    assert message in str(caught.value)
