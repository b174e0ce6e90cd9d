"""LabelSelector: the API server's semantics, errors that name the field."""

import pytest

from podcidr.core.selectors import LabelSelector, SelectorError

LABELS = {"env": "prod", "tier": "web"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"env": "prod"}}, True),
        ({"matchLabels": {"env": "test"}}, False),
        ({"matchLabels": {"env": "prod", "absent": "x"}}, False),
        ({"matchExpressions": [{"key": "env", "operator": "In", "values": ["test", "prod"]}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "In", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["prod"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["test"]}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"env": "prod"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_matches(selector: dict[str, object] | None, expected: bool) -> None:
    assert LabelSelector.parse(selector).matches(LABELS) is expected


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ({"matchLabel": {}}, "matchLabel is no field"),
        ({"matchLabels": {"a": True}}, r"matchLabels\[a\] is True.*quotes"),
        ({"matchExpressions": [{"key": "a", "operator": "Equals"}]}, r"matchExpressions\[0\].operator is 'Equals'; use In"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "values is empty; In needs"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}, "takes none"),
        ({"matchExpressions": [{"operator": "Exists"}]}, r"\.key is None"),
        ({"matchExpressions": [{"key": "", "operator": "Exists"}]}, r"\.key is ''; name a label"),
        ({"matchExpressions": [{"key": 5, "operator": "Exists"}]}, r"\.key is 5; name a label"),
        ({"matchExpressions": [{"key": "a b", "operator": "Exists"}]}, r"\.key is 'a b', which no label can be called"),
        ({"matchLabels": {"rack a": "x"}}, r"matchLabels\[rack a\] is 'rack a', which no label can be called"),
        ([], r"is \[\]"),
        ({"matchLabels": ["a"]}, r"matchLabels is \['a'\]; it must be an object of label: value"),
        ({"matchExpressions": {"key": "a"}}, r"matchExpressions is \{'key': 'a'\}; it must be a list"),
        ({"matchExpressions": ["a"]}, r"matchExpressions\[0\] is 'a'; it must be an object with key"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": "b"}]}, r"matchExpressions\[0\].values is 'b'; it must be a list"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]}, r"values is \[1\]; it must be a list of strings"),
    ],
)
def test_says_what_is_wrong(selector: dict[str, object], message: str) -> None:
    with pytest.raises(SelectorError, match=message):
        LabelSelector.parse(selector)
