"""LabelSelector, of the same shape as in the Kubernetes API."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from podcidr.api.models.shape import LIST_ATOMIC, MAP_ATOMIC, Shape, rule, rules

LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"

LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]


class Requirement(Shape):
    """One requirement on a label; all of a selector's must hold."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0"
                " : !has(self.values) || self.values.size() == 0",
                "operator In and NotIn need values; Exists and DoesNotExist take none",
                computed="(self.operator in ['In', 'NotIn'] ? 'operator %s needs at least one entry in values'"
                " : 'operator %s takes no values: remove them').format([self.operator])",
            )
        )
    )

    key: str = Field(description="Label key.", min_length=1, max_length=317, pattern=LABEL_KEY)
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label is compared: In, NotIn, Exists or DoesNotExist."
    )
    values: list[LabelValue] | None = Field(
        default=None, description="Label values; for In and NotIn only.", max_length=64, json_schema_extra=LIST_ATOMIC
    )


# `matchLabels: {vip: }` is stored without the label, for the server drops nulls: a restricted pool would be open to all.
NOT_EMPTY = rule(
    "has(self.matchLabels) && self.matchLabels.size() > 0 || has(self.matchExpressions) && self.matchExpressions.size() > 0",
    "is empty, or its labels have no values: write them as label: value, or leave the field out to select all",
)


class LabelSelector(Shape):
    """Selects objects by their labels: matchLabels and matchExpressions must all hold. To select all, leave it out."""

    model_config = ConfigDict(json_schema_extra=MAP_ATOMIC | rules(NOT_EMPTY))

    match_labels: dict[str, LabelValue] | None = Field(
        default=None, description="Labels that must be present with exactly these values.", max_length=64
    )
    match_expressions: list[Requirement] | None = Field(
        default=None, description="Requirements that must all hold.", max_length=64, json_schema_extra=LIST_ATOMIC
    )
