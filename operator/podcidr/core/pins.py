"""Which pools a namespace may use: its annotation, the pools' own selectors, and a text that helps where they disagree."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import PodcidrError
from .selectors import EVERYTHING, LabelSelector

ANNOTATION = "podcidr.io/pools"
CALICO_ANNOTATIONS = ("cni.projectcalico.org/ipv4pools", "cni.projectcalico.org/ipv6pools")
ANNOTATIONS = (ANNOTATION, *CALICO_ANNOTATIONS)


class PinError(PodcidrError):
    """A pin that can't be honoured; the text names namespace, pool and remedy."""


@dataclass(frozen=True, slots=True)
class PoolRule:
    """What a pin needs to know of a pool."""

    disabled: bool = False
    deleting: bool = False
    namespaces: LabelSelector = EVERYTHING
    cidrs: tuple[str, ...] = ()
    invalid: str | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a namespace gets: the automatic pools (neither field set), a list of pools, or an error."""

    pools: tuple[str, ...] | None = None
    error: str | None = None


AUTOMATIC = Resolution()


def parse_names(value: str) -> tuple[str, ...]:
    """Pool names of an annotation: a JSON array or a comma list, each name once, in order. Raises PinError."""
    text = value.strip()
    if not text.startswith("["):
        names: list[str] = [part.strip() for part in text.split(",")] if text else []
    else:
        try:
            names = json.loads(text)
        except ValueError as error:
            raise PinError(f'is no JSON array ({error}); write it as ["a", "b"] or as a,b') from None
        if not all(isinstance(name, str) for name in names):
            raise PinError('must be a JSON array of pool names, such as ["a", "b"]')
        names = [name.strip() for name in names]
    if not all(names):
        raise PinError("has an empty pool name; remove the surplus comma or quotes")
    return tuple(dict.fromkeys(names))


def resolve(
    namespace: str,
    annotations: Mapping[str, str],
    labels: Mapping[str, str],
    pools: Mapping[str, PoolRule],
    automatic: Iterable[str],
) -> Resolution:
    """What the namespace may use. A pin never falls back silently: any pool of it that can't be used is an error."""
    try:
        pinned = _pinned(namespace, annotations, pools)
        if pinned is None:
            return _automatic(namespace, labels, pools, tuple(automatic))
        for annotation, pool in pinned:
            _check(namespace, annotation, pool, labels, pools)
    except PinError as error:
        return Resolution(error=str(error))
    return Resolution(pools=tuple(dict.fromkeys(pool for _, pool in pinned)))


def narrow(namespace: str, pod: str, value: str, allowed: Iterable[str]) -> Resolution:
    """A pod's own pin: it may choose among and order what its namespace allows, and nothing else."""
    permitted = tuple(allowed)
    try:
        names = parse_names(value)
    except PinError as error:
        return Resolution(error=f"pod {namespace}/{pod}: annotation {ANNOTATION} {error}")
    for name in names:
        if name not in permitted:
            may = ", ".join(permitted) or "none"
            return Resolution(
                error=f'pod {namespace}/{pod} pins pool "{name}", which its namespace does not allow (it allows: {may}); '
                f"name one of those, or add the pool to annotation {ANNOTATION} of namespace {namespace}"
            )
    return Resolution(pools=names or permitted)


def _pinned(namespace: str, annotations: Mapping[str, str], pools: Mapping[str, PoolRule]) -> list[tuple[str, str]] | None:
    """(annotation, pool) pairs in order, or None where the namespace pins nothing."""
    if (value := annotations.get(ANNOTATION)) is not None:
        names = _names_of(namespace, ANNOTATION, value)
        if not names:
            raise PinError(f"namespace {namespace}: annotation {ANNOTATION} names no pool; name one, or remove it")
        return [(ANNOTATION, name) for name in names]
    by_cidr = {cidr: name for name, rule in pools.items() for cidr in rule.cidrs}
    pairs = [
        (annotation, by_cidr.get(name, name))  # Calico's list takes a pool's CIDR too
        for annotation in CALICO_ANNOTATIONS
        for name in _names_of(namespace, annotation, annotations.get(annotation, ""))
    ]
    return pairs or None  # to Calico an empty list is no pin


def _names_of(namespace: str, annotation: str, value: str) -> tuple[str, ...]:
    try:
        return parse_names(value)
    except PinError as error:
        raise PinError(f"namespace {namespace}: annotation {annotation} {error}") from None


def _check(namespace: str, annotation: str, pool: str, labels: Mapping[str, str], pools: Mapping[str, PoolRule]) -> None:
    pins, change = f'namespace {namespace} pins pool "{pool}", which', f"change annotation {annotation}"
    rule = pools.get(pool)
    if rule is None:
        raise PinError(f"{pins} does not exist; create the IPPool or {change}")
    if rule.deleting:
        raise PinError(f"{pins} is being deleted; {change}")
    if rule.disabled:
        raise PinError(f"{pins} is disabled; set spec.disabled of IPPool {pool} to false or {change}")
    if rule.invalid:
        raise PinError(f"{pins} is invalid ({rule.invalid}); correct the IPPool or {change}")
    if not rule.namespaces.matches(labels):
        raise PinError(f"{pins} does not select it; adapt spec.namespaceSelector of IPPool {pool}, label it or {change}")


def _automatic(namespace: str, labels: Mapping[str, str], pools: Mapping[str, PoolRule], automatic: tuple[str, ...]) -> Resolution:
    """The automatic pools that select the namespace: the selector holds without an annotation too."""
    allowed = tuple(name for name in automatic if name not in pools or pools[name].namespaces.matches(labels))
    if allowed == automatic:
        return AUTOMATIC
    if not allowed:
        refusing = ", ".join(automatic)
        raise PinError(
            f"no automatic pool selects namespace {namespace} (refused by: {refusing}); adapt spec.namespaceSelector "
            f"of one of them, label the namespace, or pin a pool with annotation {ANNOTATION}"
        )
    return Resolution(pools=allowed)
