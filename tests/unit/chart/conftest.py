"""The rendered manifest, and helm where there is one."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import render


@pytest.fixture(scope="session")
def manifest() -> list[dict[str, Any]]:
    """Every object of `deploy/podcidr.yaml`."""
    return [document for document in yaml.safe_load_all(render.MANIFEST.read_text()) if document]


@pytest.fixture(scope="session")
def helm() -> Path:
    """A helm of the pinned minor version; building one takes minutes, which is for `make generate` to do."""
    found = render.find_helm()
    if found is None:
        pytest.skip(f"no helm {render.pinned_version()}: `make generate` builds it once")
    return found
