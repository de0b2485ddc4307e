"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # those share the cores; threads of each would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs: `DERMASK_REAL_DATA`, else ../shared beside the repository.

    Without it a test skips, unless `DERMASK_REQUIRE_REAL_DATA=1` says that it must be there.
    """
    root = Path(os.environ.get("DERMASK_REAL_DATA", "../shared"))
    root = root if root.is_absolute() else (REPOSITORY / root).resolve()
    if (root / "isic_native").is_dir() or (root / "isic2017").is_dir():
        return root
    reason = f"no real photographs at {root}; name their folder in DERMASK_REAL_DATA"
    if os.environ.get("DERMASK_REQUIRE_REAL_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
