"""LabelSelector of Kubernetes as a value: parsed once, matched often."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import PodcidrError

KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_WITH_VALUES = ("In", "NotIn")
_WITHOUT_VALUES = ("Exists", "DoesNotExist")


class SelectorError(PodcidrError):
    """A label selector that can't be understood; the text names field, value and remedy."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One entry of matchExpressions."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if the labels meet it; NotIn holds for an absent key too, as in the API server."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return self.key not in labels or labels[self.key] not in self.values
            case "Exists":
                return self.key in labels
            case _:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; without any it matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """True if every requirement holds for these labels."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    @classmethod
    def parse(cls, obj: Mapping[str, Any] | None) -> "LabelSelector":
        """Read the JSON form; None and {} match everything. Raises SelectorError."""
        if obj is None:
            return EVERYTHING
        if not isinstance(obj, Mapping):
            raise SelectorError(f"is {obj!r}; it must be an object with matchLabels and matchExpressions")
        if unknown := sorted(set(obj) - {"matchLabels", "matchExpressions"}):
            raise SelectorError(f"{unknown[0]} is no field of a label selector; use matchLabels or matchExpressions")
        return cls((*_parse_labels(obj.get("matchLabels")), *_parse_expressions(obj.get("matchExpressions"))))


EVERYTHING = LabelSelector()


def _parse_labels(labels: Any) -> list[Requirement]:
    if labels is None:
        return []
    if not isinstance(labels, Mapping):
        raise SelectorError(f"matchLabels is {labels!r}; it must be an object of label: value")
    for key, value in labels.items():
        if not isinstance(value, str):
            raise SelectorError(f"matchLabels[{key}] is {value!r}; it must be a string, so write it in quotes")
        _check_key(f"matchLabels[{key}]", key)
    return [Requirement(key, "In", frozenset((value,))) for key, value in sorted(labels.items())]


def _parse_expressions(expressions: Any) -> list[Requirement]:
    if expressions is None:
        return []
    if not isinstance(expressions, list):
        raise SelectorError(f"matchExpressions is {expressions!r}; it must be a list")
    return [_parse_expression(f"matchExpressions[{index}]", entry) for index, entry in enumerate(expressions)]


def _parse_expression(field: str, entry: Any) -> Requirement:
    if not isinstance(entry, Mapping):
        raise SelectorError(f"{field} is {entry!r}; it must be an object with key, operator and values")
    key, operator, values = entry.get("key"), entry.get("operator"), entry.get("values") or []
    if not isinstance(key, str) or not key:
        raise SelectorError(f"{field}.key is {key!r}; name a label")
    _check_key(f"{field}.key", key)
    if operator not in (*_WITH_VALUES, *_WITHOUT_VALUES):
        raise SelectorError(f"{field}.operator is {operator!r}; use In, NotIn, Exists or DoesNotExist")
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise SelectorError(f"{field}.values is {values!r}; it must be a list of strings")
    if operator in _WITH_VALUES and not values:
        raise SelectorError(f"{field}.values is empty; {operator} needs at least one value")
    if operator in _WITHOUT_VALUES and values:
        raise SelectorError(f"{field}.values is {values!r}; {operator} takes none, leave it out")
    return Requirement(key, operator, frozenset(values))


def _check_key(field: str, key: str) -> None:
    """The CRD lets any key pass, and what no object can have selects nothing, in silence."""
    if not KEY.fullmatch(key):
        raise SelectorError(f"{field} is {key!r}, which no label can be called; write it as zone or example.com/zone")
