"""Fixtures that need the real programs: one control plane serves the whole session."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet import Cluster
from tests.cluster.plugin import PluginError, build_plugin
from tests.cluster.program import ROOT
from tests.cluster.reset import reset
from tools import assets

_CLUSTER_FIXTURES = frozenset({"bare_control_plane", "control_plane", "clean_control_plane", "cluster"})

# For mutants: whether a law breaks is all that is asked, not by how little.
settings.register_profile("broken", phases=(Phase.explicit, Phase.generate))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the control plane, so that `-m 'not cluster'` leaves it out."""
    for item in items:
        if _CLUSTER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def control_plane_binaries() -> Path:
    """Where kube-apiserver, etcd and kubectl are; one clear line if nowhere."""
    try:
        return assets.locate()
    except assets.AssetsError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def bare_control_plane(control_plane_binaries: Path) -> Iterator[ControlPlane]:
    """A control plane of the session, perhaps without CRDs."""
    with ControlPlane(control_plane_binaries) as plane:
        yield plane


@pytest.fixture(scope="session")
def control_plane(bare_control_plane: ControlPlane) -> ControlPlane:
    """The session's control plane with CRDs, ServiceAccounts, RBAC and admission policies. What is in it, is anyone's."""
    bare_control_plane.install(ROOT)
    return bare_control_plane


@pytest.fixture
def clean_control_plane(control_plane: ControlPlane) -> ControlPlane:
    """The same without nodes, pods, pools and all that comes of them."""
    reset(control_plane)
    return control_plane


@pytest.fixture(scope="session")
def plugin_binary() -> Path:
    """The plugin, built from this tree."""
    try:
        return build_plugin()
    except PluginError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
async def cluster(clean_control_plane: ControlPlane, plugin_binary: Path) -> AsyncIterator[Cluster]:
    """A clean cluster without machines. At the end no address may have been held twice."""
    async with Cluster(clean_control_plane, plugin=plugin_binary, concurrency=400) as cluster:
        yield cluster
    assert cluster.ledger.check_overlaps() == []
