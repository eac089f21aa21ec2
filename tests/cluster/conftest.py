"""What the tests of survival share: one cluster, and the way to the tiny task of tests/train."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from three_nodes import ROOT, Nodes

sys.path.append(str(ROOT / "tests" / "train"))


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """One cluster for all tests of the session."""
    found = Nodes()
    yield found
    found.cluster.shutdown()
