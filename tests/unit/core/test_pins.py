"""Pins: never a silent fallback, messages that help."""

import pytest

from podcidr.api import names
from podcidr.core import pins
from podcidr.core.pins import AUTOMATIC, PinError, PoolRule, Resolution, narrow, parse_names, resolve
from podcidr.core.selectors import LabelSelector

POOLS = {
    "default": PoolRule(cidrs=("10.64.0.0/14",)),
    "gold": PoolRule(namespaces=LabelSelector.parse({"matchLabels": {"tier": "gold"}})),
    "off": PoolRule(disabled=True),
    "leaving": PoolRule(deleting=True),
    "broken": PoolRule(invalid="spec.reserved: 'x': not an IP address"),
}


def pin(value: str | None, *, labels: dict[str, str] | None = None, automatic: tuple[str, ...] = ("default",), **calico: str) -> Resolution:
    annotations = {f"cni.projectcalico.org/{key}": text for key, text in calico.items()}
    if value is not None:
        annotations[pins.ANNOTATION] = value
    return resolve("team-x", annotations, labels or {}, POOLS, automatic)


def test_annotation_names_are_those_of_the_api() -> None:
    assert pins.ANNOTATIONS == (names.ANNOTATION_POOLS, names.ANNOTATION_CALICO_IPV4_POOLS, names.ANNOTATION_CALICO_IPV6_POOLS)


@pytest.mark.parametrize("text", ['["a", "b"]', "a,b", " a , b ", "a,b,a", '["a","b","a"]'])
def test_parse_names(text: str) -> None:
    assert parse_names(text) == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[a]", "is no JSON array"), ("[1]", "array of pool names"), ("a,,b", "empty pool name"), ('["a", ""]', "empty pool name")],
)
def test_parse_names_refuses(text: str, message: str) -> None:
    with pytest.raises(PinError, match=message):
        parse_names(text)


def test_no_annotation_is_automatic() -> None:
    assert pin(None) is AUTOMATIC


def test_pin_keeps_order() -> None:
    assert pin('["gold", "default"]', labels={"tier": "gold"}) == Resolution(pools=("gold", "default"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("absent", 'namespace team-x pins pool "absent", which does not exist; create the IPPool or change annotation podcidr.io/pools'),
        ("off", 'namespace team-x pins pool "off", which is disabled; set spec.disabled of IPPool off to false'),
        ("leaving", 'namespace team-x pins pool "leaving", which is being deleted; change annotation'),
        ("broken", "which is invalid (spec.reserved"),
        ("gold", 'namespace team-x pins pool "gold", which does not select it; adapt spec.namespaceSelector of IPPool gold'),
        ("default,absent", 'pins pool "absent"'),
        ("", "namespace team-x: annotation podcidr.io/pools names no pool"),
        ("[", "namespace team-x: annotation podcidr.io/pools is no JSON array"),
    ],
)
def test_a_pin_that_cannot_hold_is_an_error(value: str, message: str) -> None:
    resolution = pin(value)
    assert resolution.pools is None
    assert message in (resolution.error or "")


def test_calico_is_read_where_ours_is_absent() -> None:
    assert pin(None, ipv4pools='["default"]', ipv6pools='["gold"]', labels={"tier": "gold"}) == Resolution(pools=("default", "gold"))
    assert pin("default", ipv4pools='["absent"]') == Resolution(pools=("default",))


def test_calico_lists_take_a_pools_cidr_and_may_be_empty() -> None:
    assert pin(None, ipv4pools='["10.64.0.0/14"]') == Resolution(pools=("default",))
    assert pin(None, ipv4pools="[]") is AUTOMATIC
    assert 'pins pool "10.9.0.0/16", which does not exist' in (pin(None, ipv4pools='["10.9.0.0/16"]').error or "")


def test_automatic_pools_select_namespaces_too() -> None:
    assert pin(None, automatic=("gold", "default")) == Resolution(pools=("default",))
    assert "no automatic pool selects namespace team-x (refused by: gold)" in (pin(None, automatic=("gold",)).error or "")
    silver = {"gold": POOLS["gold"], "silver": POOLS["gold"]}
    assert "(refused by: gold, silver);" in (resolve("team-x", {}, {}, silver, ("gold", "silver")).error or "")
    assert pin(None, automatic=("gold", "default"), labels={"tier": "gold"}) is AUTOMATIC


def test_a_pod_can_only_narrow() -> None:
    assert narrow("team-x", "web", "b,a", ("a", "b", "c")) == Resolution(pools=("b", "a"))
    refused = narrow("team-x", "web", "d", ("a",)).error or ""
    assert 'pod team-x/web pins pool "d", which its namespace does not allow (it allows: a)' in refused


def test_a_pods_pin_that_is_no_list_names_pod_and_annotation() -> None:
    error = narrow("team-x", "web", "[", ("a",)).error or ""
    assert error.startswith("pod team-x/web: annotation podcidr.io/pools is no JSON array")


def test_texts_that_people_read_in_full() -> None:
    assert pin(None, ipv4pools="[1]").error == (
        "namespace team-x: annotation cni.projectcalico.org/ipv4pools "
        'must be a JSON array of pool names, such as ["a", "b"]'
    )  # fmt: skip
    assert pin("a,,b").error == "namespace team-x: annotation podcidr.io/pools has an empty pool name; remove the surplus comma or quotes"
    refused = narrow("team-x", "web", "d", ()).error or ""
    assert "(it allows: none)" in refused
    assert "(it allows: a, b)" in (narrow("team-x", "web", "d", ("a", "b")).error or "")


def test_a_name_is_a_name_before_it_is_a_cidr() -> None:
    """Calico lists pools by CIDR too; a pool that is so named comes first."""
    assert pin(None, ipv4pools='["gold"]', labels={"tier": "gold"}) == Resolution(pools=("gold",))
