"""What every model shares: JSON names, list and map kinds, CEL rules, conditions, metadata."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from podcidr.api import names

ACRONYMS = {"cidr": "CIDR", "cidrs": "CIDRs", "uid": "UID", "api": "API"}


def json_name(field: str) -> str:
    """`node_cidr_uid` → `nodeCIDRUID`: camel case as the Kubernetes API writes it, acronyms in capitals."""
    first, *rest = field.split("_")
    return first + "".join(ACRONYMS.get(word, word.capitalize()) for word in rest)


class Shape(BaseModel):
    """Base of all models. Unknown keys are ignored, so that an older operator survives newer fields."""

    model_config = ConfigDict(alias_generator=json_name, populate_by_name=True, extra="ignore", frozen=True)

    def to_json(self) -> dict[str, Any]:
        """The object as the API server takes it: absent stays absent."""
        return self.model_dump(by_alias=True, exclude_none=True)


def rule(
    expression: str, message: str, *, computed: str | None = None, field: str | None = None, on_create: bool = False
) -> dict[str, JsonValue]:
    """One CEL rule. `computed` is the message as CEL, where it can name values; `message` stands in if that fails.

    `field` is the path that the error names; `on_create` runs a rule on oldSelf at creation too, as an optional.
    """
    made: dict[str, JsonValue] = {"rule": expression, "message": message}
    if computed:
        made["messageExpression"] = computed
    if field:
        made["fieldPath"] = field
    if on_create:
        made["optionalOldSelf"] = True
    return made


def rules(*made: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The schema key that carries CEL rules."""
    return {"x-kubernetes-validations": list(made)}


def list_map(*keys: str) -> dict[str, JsonValue]:
    """A list whose items are told apart by these keys: server-side apply and CEL see them one by one."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


LIST_SET: dict[str, JsonValue] = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: dict[str, JsonValue] = {"x-kubernetes-list-type": "atomic"}
MAP_ATOMIC: dict[str, JsonValue] = {"x-kubernetes-map-type": "atomic"}

# The longest texts: an IPv6 CIDR has 43 characters, two IPv6 addresses and a dash 79.
CIDR_LENGTH = 43
INTERVAL_LENGTH = 79

Count = Annotated[int, Field(ge=0, le=names.MAX_COUNT)]
CIDRText = Annotated[str, Field(max_length=CIDR_LENGTH)]
PoolName = Annotated[str, Field(min_length=1, max_length=names.MAX_POOL_NAME)]
NodeName = Annotated[str, Field(min_length=1, max_length=253)]
UIDText = Annotated[str, Field(max_length=64)]
Timestamp = Annotated[str, Field(max_length=64, json_schema_extra={"format": "date-time"})]
FamilyName = Literal["ipv4", "ipv6"]


class Condition(Shape):
    """One aspect of the object's state."""

    type: str = Field(description="Name of the condition.", min_length=1, max_length=63)
    status: Literal["True", "False", "Unknown"] = Field(description="Whether the condition holds.")
    reason: str = Field(description="The cause in one CamelCase word.", min_length=1, max_length=63)
    message: str = Field(default="", description="The cause in words, for people.", max_length=names.MAX_MESSAGE)
    last_transition_time: Timestamp = Field(description="When status last changed.")
    observed_generation: int | None = Field(default=None, description="Generation of the spec that was judged.", ge=0)


class Metadata(Shape):
    """What podcidr reads of an object's metadata; the API server owns their schema."""

    name: str
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: list[str] = []
